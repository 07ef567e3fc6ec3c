"""Find out what a ``--dataset`` reference means, and read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path

import msgspec

from dptrain.data.csv_header import TableForm
from dptrain.data.csv_table import read_csv, table_form
from dptrain.data.idx_folder import (
    data_set_name,
    find_idx_files,
    is_idx_name,
    read_embedded_mnist,
    read_idx_files,
)
from dptrain.data.npz import read_npz
from dptrain.data.pickled import PICKLES
from dptrain.data.raw import RawData
from dptrain.data.spool import Room
from dptrain.data.targets import Task
from dptrain.errors import DataError, UsageError, suggestion

MNIST = "mnist"
TABLES = ("iris", "penguins", "breast-cancer")
PACKAGED = (MNIST, *TABLES)  # the data sets that come with the package, by name

TABLE_ENDINGS = (".csv", ".csv.gz", ".tsv", ".tsv.gz")

_UNDERSTOOD = (
    f"understood are: {', '.join(PACKAGED)}, a folder of IDX files, an .npz with x_train, t_train, "
    "x_test, t_test, the book's mnist.pkl, and a .csv or .tsv, also .gz, with a label column"
)
_WEIGHTS_OF_ARRAYS = (
    "; the weights of arrays are an array sample_weight in their .npz, or sample_weight of "
    "dptrain.fit"
)


class SourceKind(Enum):
    """How the files of a source are read."""

    EMBEDDED = "embedded MNIST"
    IDX = "folder of IDX files"
    NPZ = ".npz"
    CSV = ".csv"
    PICKLE = ".pkl"


@dataclass(frozen=True)
class Source:
    """Where a data set comes from: its name, its kind and the files that decide its contents."""

    name: str
    kind: SourceKind
    files: tuple[Path, ...]


class ReadChoices(msgspec.Struct, frozen=True):
    """What a user, or a run, says of a data set.

    ``label``, ``columns`` and ``header`` are of a CSV, as in `csv_header.find_columns`; ``task`` is
    that of `normalise_targets`. ``class_names`` are those of a run, which numbers classes by them.
    ``transpose`` exchanges rows and columns of images. ``row_weights`` names the column of a CSV
    that holds the weights of its rows. ``exact`` is that of `find_columns`.
    """

    label: str | None = None
    columns: Sequence[str] | None = None
    header: bool | None = None
    task: Task | None = None
    class_names: Sequence[str] = ()
    transpose: bool = False
    row_weights: str | None = None
    exact: bool = False


def read_source(reference: str, label: str | None, columns: Sequence[str] | None = None) -> RawData:
    """Read the data set that ``reference`` names; ``label`` and ``columns`` are those of a CSV.

    Raises DataError when it does not exist, is of no known kind or damaged, and UsageError for a
    ``label`` or ``columns`` where there are no columns.
    """
    return read(find_source(reference), ReadChoices(label, columns))


def find_source(reference: str) -> Source:
    """Return the files behind ``reference``: one of `PACKAGED`, or a path."""
    if reference == MNIST:
        return Source(MNIST, SourceKind.EMBEDDED, find_idx_files(_packaged("mnist")))
    if reference in TABLES:
        return Source(reference, SourceKind.CSV, (_packaged(f"tables/{reference}.csv"),))
    try:
        return _find_path(reference, Path(reference).expanduser())
    except OSError as error:
        raise DataError(f"{reference}: cannot be read: {error.strerror or error}") from None
    except RuntimeError as error:  # ~name of a user who is not there
        raise DataError(f"{reference}: {error}") from None


def _packaged(name: str) -> Path:
    return Path(str(resources.files("dptrain.data"))) / name


def _find_path(reference: str, path: Path) -> Source:
    if path.is_dir():
        files = find_idx_files(path)
        return Source(data_set_name(files[0]) or path.resolve().name, SourceKind.IDX, files)
    if path.is_file() and is_idx_name(path):
        known = data_set_name(path) or path.resolve().parent.name
        return Source(known, SourceKind.IDX, find_idx_files(path))
    if path.exists() and not path.is_file():  # reading a pipe would wait for its other end
        raise DataError(f"{reference}: is neither a file nor a folder; {_UNDERSTOOD}")
    if not path.exists():
        near = suggestion(path.name, [*PACKAGED, *_siblings(path)])
        raise DataError(f"no data set or file {reference!r}; {_UNDERSTOOD}{near}")
    name = path.name.lower()
    if name.endswith(".npz"):
        return Source(path.stem, SourceKind.NPZ, (path,))
    for ending in TABLE_ENDINGS:
        if name.endswith(ending):
            return Source(path.name[: -len(ending)], SourceKind.CSV, (path,))
    if name.endswith(PICKLES):
        return Source(path.stem, SourceKind.PICKLE, (path,))
    if name.endswith(".npy"):
        raise DataError(
            f"{path}: an .npy holds one array, and training needs inputs and targets; "
            f"np.savez({path.stem + '.npz'!r}, x_train=..., t_train=...) puts both in one file"
        )
    raise DataError(f"{path}: a file of unknown kind; {_UNDERSTOOD}")


def _siblings(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []


def form_of(source: Source, choices: ReadChoices) -> TableForm | None:
    """Return how a CSV is understood; None of another source. Errors as for ``read_source``."""
    if source.kind is SourceKind.CSV:
        return table_form(
            source.files[0],
            choices.label,
            choices.columns,
            choices.header,
            choices.row_weights,
            exact=choices.exact,
        )
    for setting in ("label", "columns", "header", "row_weights"):
        value = getattr(choices, setting)
        if value is not None:
            raise UsageError(
                f"{setting}={value!r} is for a CSV, but the data set {source.name!r} "
                f"is {source.kind.value}; leave the {setting} out"
                f"{_WEIGHTS_OF_ARRAYS * (setting == 'row_weights')}"
            )
    return None


def read(source: Source, choices: ReadChoices, room: Room | None = None) -> RawData:
    """Read the files of a source; errors as for ``read_source``, ``room`` as for `read_csv`."""
    if source.kind is not SourceKind.CSV:
        form_of(source, choices)
    match source.kind:
        case SourceKind.EMBEDDED:
            return read_embedded_mnist(source.files)
        case SourceKind.IDX:
            return read_idx_files(source.files)
        case SourceKind.NPZ:
            return read_npz(source.files[0], room)
        case SourceKind.PICKLE:
            from dptrain.data.book_pickle import read_book_pickle  # here, because it is rare

            return read_book_pickle(source.files[0])
        case SourceKind.CSV:
            return read_csv(
                source.files[0],
                choices.label,
                choices.columns,
                choices.header,
                choices.class_names,
                choices.task,
                choices.row_weights,
                exact=choices.exact,
                room=room,
            )
