"""The experiment that a verb is given: a file, or the name of an example."""

from pathlib import Path
from typing import Any

import dptrain
from dptrain.errors import UsageError, suggestion
from dptrain.experiment.files import read_toml
from dptrain.invocation import word
from dptrain.own.origin import code_meant, is_own

EXAMPLES = Path(dptrain.__file__).parent / "examples"

_DATA = (".csv", ".npz", ".pkl", ".gz")
_OTHERS = (".py", *_DATA)  # files that are no experiments

Tables = dict[str, dict[str, Any]]


def read_experiment(what: Path) -> Tables:
    """Return the tables of a TOML file, or of the example of that name.

    Data and saved weights that the file names by relative paths are looked for in the current
    folder, as recorded experiments mean it, and else beside the file.

    Raises:
        UsageError: there is no such experiment, or it is none; says what it may be instead.
    """
    if not what.is_file() or what.suffix.lower() in _OTHERS:
        what = _example(what)
    tables = read_toml(what)
    settings = tables["experiment"]
    for key in ("dataset", "init_from"):
        named = settings.get(key)
        if isinstance(named, str) and not Path(named).exists() and (what.parent / named).exists():
            settings[key] = str(what.parent / named)
    return tables


def examples() -> list[str]:
    """Return the names of the examples."""
    return sorted(path.stem for path in EXAMPLES.glob("*.toml"))


def _example(what: Path) -> Path:
    plain = what.parent == Path() or what.parts[:-1] == ("examples",)
    if plain and what.suffix in ("", ".toml") and what.stem in examples() and not what.is_dir():
        return EXAMPLES / f"{what.stem}.toml"
    raise UsageError(
        f"cannot read the experiment {what}: {_instead(what) or 'there is no such file'}"
    )


def _instead(what: Path) -> str:
    """Return what to give where no experiment is meant."""
    # here, because most commands name an experiment that exists, and this imports mathematics
    from dptrain.data.source import PACKAGED

    name = str(what)
    if what.is_dir():
        if (what / "experiment.toml").is_file():
            return f"it is a folder; for that of a run give {word(what / 'experiment.toml')}"
        return f"it is a folder; for a folder of data give --dataset {word(what)}"
    if name in PACKAGED or (what.is_file() and what.suffix.lower() in _DATA):
        return f"it is a data set; give --dataset {word(name)}"
    if name.startswith("mlp:") or is_own(name):
        return f"it is a model; give --model {word(name)}"
    if meant := code_meant(name):
        return f"{meant}, and give that as --model"
    if plain := suggestion(name, [*PACKAGED, *examples()]):
        return f"there is no such file{plain}"
    return f"there is no such file; the examples are {', '.join(examples())}" * (not what.suffix)
