"""Make a data set ready to be memory-mapped, once per machine."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.arrays import named_classes
from dptrain.data.csv_header import TableForm
from dptrain.data.folder import FORMAT_VERSION, DamagedError, open_folder, sound_meta
from dptrain.data.memory_needed import memory_needed
from dptrain.data.raw import RawData, check_raw, transposed
from dptrain.data.rounding import TARGETS
from dptrain.data.source import ReadChoices, Source, find_source, form_of, read
from dptrain.data.spool import Room, Rows, pieces_of
from dptrain.data.targets import Task, are_one_hot
from dptrain.data.writing import DtypeName, Offsets, write_folder
from dptrain.errors import DamageWarning, DataError, ResourceError, UsageError
from dptrain.machine.memory import available_memory

CACHE_VARIABLE = "DPTRAIN_CACHE"
_EXACT = "exact targets"  # no class is called so, as such targets have none

PLAIN = ReadChoices()  # of whoever says nothing
_CAUSE = (
    "the disk or the memory is at fault, or somebody has changed it; the prepared data are made "
    "anew, but earlier runs may have been trained on the damaged ones: dptrain verify tells"
)


def prepare(
    reference: str,
    choices: ReadChoices = PLAIN,
    *,
    dtype: DtypeName,
    exact_targets: bool = False,
    offsets: Offsets = None,
    thorough: bool = False,
) -> Path:
    """Return the folder of the prepared data set, made now unless the cache has it.

    ``reference`` is that of ``read_source``, and ``choices`` say how it is read, with the same
    errors; the inputs are converted to ``dtype``, and so are targets to predict unless
    ``exact_targets`` leaves them in float64. ``offsets`` are taken off the inputs before;
    ``"find"`` takes off what keeps the digits of columns that lose most of them, if there are any.
    The folder lies in the folder that DPTRAIN_CACHE names, otherwise in the user's cache folder,
    under a name that depends on the bytes of the source. A damaged one is made anew, with a
    warning where its bytes have changed; ``thorough`` reads them even if nothing tells of a change.
    Raises DataError when it cannot be written.
    """
    _check_dtype(dtype)
    source = find_source(reference)
    name, origin = _as_text(source.name), _as_text(reference)
    form = form_of(source, choices)
    digest = _source_digest(source, form, choices)
    names = choices.class_names
    key = [str(FORMAT_VERSION), digest, name, dtype, *names, *[_EXACT] * exact_targets]

    def made(offsets: Offsets) -> Path:
        centred = [] if offsets is None else [f"without {offsets}"]
        folder = cache_folder() / _digest_of(*key, *centred)[:32]
        try:
            sound_meta(folder, thorough=thorough)
        except DamagedError as error:
            warnings.warn(f"{error}; {_CAUSE}", DamageWarning, stacklevel=3)
        except DataError:
            pass  # it is not there yet, or unfinished
        else:
            return folder
        with _enough_memory(reference, source), Room(cache_folder()) as room:
            data = named_classes(read(source, choices, room), names)
            if _source_digest(source, form, choices) != digest:
                raise DataError(f"{reference}: changed while it was read; try again")
            write_folder(
                folder,
                transposed(data) if choices.transpose else data,
                name=name,
                source=origin,
                digest=digest,
                dtype=dtype,
                task=choices.task,
                exact_targets=exact_targets,
                offsets=offsets,
                form=form,
                remedy=f"free some space or name another folder with {CACHE_VARIABLE}=DIR",
            )
        return folder

    folder = made(None if offsets == "find" else offsets)
    if offsets == "find" and any(
        not each.name.endswith(TARGETS) for each in open_folder(folder)[0].rounded
    ):
        return made("find")
    return folder


def prepare_as_arrays(
    reference: str,
    *,
    dtype: DtypeName,
    task: Task | None = None,
    exact_targets: bool = False,
    offsets: Offsets = None,
) -> Path:
    """Prepare the arrays of a file as `prepare_arrays` would, if they were in memory.

    The data set then has the digest of the arrays, which does not depend on the file. Arguments and
    errors are those of `prepare`.
    """
    source = find_source(reference)
    choices = ReadChoices(task=task)
    with Room(cache_folder()) as room:
        data = read(source, choices, room)
        digest = _source_digest(source, _plain_form(source), choices)
        key = ["arrays", str(FORMAT_VERSION), digest, dtype, *[_EXACT] * exact_targets]
        key += [] if offsets is None else [f"without {offsets}"]
        return _write_arrays(
            cache_folder() / _digest_of(*key)[:32],
            replace(data, class_names=(), input_names=(), notes=()),
            dtype=dtype,
            task=task,
            exact_targets=exact_targets,
            offsets=offsets,
        )


@contextlib.contextmanager
def _enough_memory(reference: str, source: Source) -> Iterator[None]:
    """Raise ResourceError before, or when, the block finds too little memory for a data set."""
    needed, free = memory_needed(source), available_memory()
    problem = (
        f"{reference}: reading it takes {needed / 1e6:,.0f} MB of memory or more, but "
        f"{free / 1e6:,.0f} MB are free; take part of its rows or columns, or give its arrays to "
        "fit from .npy files opened with np.load(..., mmap_mode='r'), which need not fit"
    )
    if needed > free:
        raise ResourceError(problem)
    try:
        yield
    except MemoryError:
        raise ResourceError(problem) from None


def prepare_arrays(
    folder: Path,
    *,
    x_train: NDArray[Any],
    t_train: NDArray[Any],
    x_test: NDArray[Any] | None = None,
    t_test: NDArray[Any] | None = None,
    w_train: NDArray[Any] | None = None,
    dtype: DtypeName,
    task: Task | None = None,
    form: TableForm | None = None,
    outputs: Sequence[str] = (),
    exact_targets: bool = False,
    offsets: Offsets = None,
) -> Path:
    """Write arrays in memory as the prepared data set ``folder``, and return it.

    Inputs have shape (n, ...), targets are class labels or words (n,), one-hot rows (n, k) or
    floats (n,) or (n, k); ``task`` is that of ``normalise_targets``. ``w_train`` are weights of the
    rows, (n,). ``form`` names the columns of inputs, ``outputs`` those of targets, which are
    classes where rows are one-hot. They are checked and converted as those of a file,
    ``exact_targets`` and ``offsets`` as for `prepare`. A data set that is in the folder already is
    replaced. Raises DataError for data that cannot be trained on, or when the folder cannot be
    written.
    """
    return _write_arrays(
        folder,
        RawData(x_train, t_train, x_test, t_test, w_train=w_train),
        dtype=dtype,
        task=task,
        form=form,
        outputs=outputs,
        exact_targets=exact_targets,
        offsets=offsets,
    )


def _write_arrays(
    folder: Path,
    given: RawData,
    *,
    dtype: DtypeName,
    task: Task | None,
    form: TableForm | None = None,
    outputs: Sequence[str] = (),
    exact_targets: bool,
    offsets: Offsets,
) -> Path:
    _check_dtype(dtype)
    data = named_classes(given)
    check_raw(data)
    if outputs and task != "regression" and are_one_hot(data.t_train):
        data = replace(data, class_names=tuple(outputs))
    parts = (data.x_train, data.t_train, data.x_test, data.t_test)
    chosen = [*data.class_names, *([] if task is None else [task])]
    if data.w_train is not None:
        chosen += ["row weights", _array_digest(data.w_train)]
    digest = _digest_of(*(_array_digest(each) for each in parts if each is not None), *chosen)
    write_folder(
        folder,
        data,
        name="arrays",
        source="memory",
        digest=digest,
        dtype=dtype,
        task=task,
        form=form,
        exact_targets=exact_targets,
        offsets=offsets,
        remedy="free some space or give another folder",
    )
    return folder


def _as_text(path: str) -> str:
    """Replace the bytes of a path that are no UTF-8, which Python keeps as lone surrogates."""
    return os.fsencode(path).decode(errors="replace")


def _check_dtype(dtype: str) -> None:
    if dtype not in ("float32", "float64"):
        raise UsageError(f"dtype={dtype!r} must be float32 or float64")


def cache_folder() -> Path:
    """Return where prepared data sets are kept: DPTRAIN_CACHE, or the user's cache folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs  # here, because it takes 5 ms to import and is not always needed

    return Path(platformdirs.user_cache_dir("dptrain"))


def data_digest(reference: str, choices: ReadChoices) -> str:
    """Return the digest that a prepared data set would have; errors as for ``prepare``."""
    source = find_source(reference)
    return _source_digest(source, form_of(source, choices), choices)


def _source_digest(source: Source, form: TableForm | None, choices: ReadChoices) -> str:
    """Return what names the data: a digest of the files' bytes and of how they are read."""
    contents = []
    for path in source.files:
        try:
            with path.open("rb") as file:
                contents.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    chosen = []
    if form is not None:
        plain = _plain_form(source)
        if plain is None or plain.essence != form.essence:
            chosen.append(ascii(form.essence))
    if choices.task is not None:
        chosen.append(ascii((None, choices.task)))
    if choices.transpose:
        chosen.append("transpose")
    return _digest_of(source.kind.name, *contents, *chosen)


def _plain_form(source: Source) -> TableForm | None:
    """Return how a CSV is understood where nobody says anything of it."""
    try:
        return form_of(source, ReadChoices())
    except DataError:
        return None


def _array_digest(values: Rows) -> str:
    header = f"{values.dtype.str}{values.shape}".encode()
    content = hashlib.sha256()
    # a single value is refused later, with its name
    for piece in (values[part] for part in pieces_of(values)) if values.ndim else ():
        content.update(np.ascontiguousarray(piece).data)
    return hashlib.sha256(header + content.digest()).hexdigest()


def _digest_of(*parts: str) -> str:
    # Zero bytes between the parts, so that moving a letter from one to the next is a change.
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
