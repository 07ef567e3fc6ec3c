"""What the shell offers for a run, an experiment, a data set, a model or a parameter.

Each of the functions is called with what has been typed, when TAB is pressed; the shell picks
those that begin so. Imports are done there: only TAB needs them.
"""

import glob
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from cyclopts.completion import CompletionContext


def runs(context: "CompletionContext") -> list[str]:
    """Return run folders, and models that were written."""
    from dptrain.weights.model_file import holds_model

    return _paths(context, lambda path: _is_run(path) or holds_model(path))


def resumable(context: "CompletionContext") -> list[str]:
    """Return run folders."""
    return _paths(context, _is_run)


def searches(context: "CompletionContext") -> list[str]:
    """Return the folders of searches."""
    return _paths(context, lambda path: (path / "search.json").is_file())


def experiments(context: "CompletionContext") -> list[str]:
    """Return the names of examples, and TOML files."""
    from dptrain.cli.experiments import examples

    return examples() + _paths(context, lambda path: path.suffix == ".toml")


def data_sets(context: "CompletionContext") -> list[str]:
    """Return data sets that come with the package, files of data, and folders of IDX files."""
    from dptrain.data.idx_folder import is_idx_name
    from dptrain.data.source import PACKAGED, TABLE_ENDINGS

    endings = (*TABLE_ENDINGS, ".npz", ".pkl")
    return list(PACKAGED) + _paths(
        context,
        lambda path: (
            path.name.lower().endswith(endings)
            or (path.is_dir() and any(map(is_idx_name, path.iterdir())))
        ),
    )


def models(context: "CompletionContext") -> list[str]:
    """Return names of models, and files in which there may be one."""
    named = ["two-layer", "linear", "mlp:784-100-10"]
    return named + _paths(context, lambda path: path.suffix == ".py")


def parameters(context: "CompletionContext") -> list[str]:  # noqa: ARG001 - the library's signature
    """Return the settings that a search may try values of."""
    from dptrain.tune.settings import searched

    return [f"{name}=" for name in searched()]


RunPath = Annotated[Path, Parameter(completer=runs)]
TrainedRun = Annotated[Path, Parameter(completer=resumable)]
ExperimentPath = Annotated[Path | None, Parameter(completer=experiments)]
DataSet = Annotated[str | None, Parameter(completer=data_sets)]


def _paths(context: "CompletionContext", wanted: Callable[[Path], bool]) -> list[str]:
    """Return the paths that go on from what is typed, and those one folder deeper, but no hidden.

    Runs and data lie there, and shells put a space behind a folder's name alone.
    """
    typed = glob.escape(context.incomplete)
    found = sorted({*glob.glob(f"{typed}*"), *glob.glob(f"{typed}*/*")})  # noqa: PTH207 - as typed
    return [path for path in found if _holds(wanted, Path(path))]


def _holds(wanted: Callable[[Path], bool], path: Path) -> bool:
    try:
        return wanted(path)
    except OSError:  # of somebody else's folder
        return False


def _is_run(path: Path) -> bool:
    return (path / "experiment.toml").is_file()
