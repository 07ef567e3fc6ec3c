"""What a run was, from its last checkpoint; and what may be changed when it goes on."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint
from dptrain.errors import CheckpointError, UsageError
from dptrain.experiment.balance import BALANCED
from dptrain.experiment.files import parse_toml
from dptrain.experiment.override import override, same
from dptrain.experiment.own_code import MEMORY
from dptrain.experiment.schema import Experiment
from dptrain.invocation import program, word
from dptrain.own.object_origin import ObjectOrigin
from dptrain.own.origin import Origin, naming
from dptrain.runfolder import RunFolder

# What may be changed when a run is continued: how far it goes, and everything about execution.
RESUMABLE = {"epochs", "steps", "patience"}


def last_checkpoint(folder: RunFolder) -> Checkpoint:
    """Return the checkpoint that a run goes on from.

    Raises:
        RunFolderError, CheckpointError: there is none, or it is damaged; the message tells how the
            run can go on from its best one.
    """
    try:
        return load_checkpoint(folder.existing_checkpoint("last"))
    except CheckpointError as error:
        with contextlib.suppress(CheckpointError):
            best = load_checkpoint(folder.best)
            way = f"cp {word(folder.best)} {word(folder.last)}"
            error.args = (f"{error}; to go on from the best one, of step {best.step}: {way}",)
        raise


def recorded(folder: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a run's experiment and execution, as its last checkpoint recorded them."""
    checkpoint = last_checkpoint(folder)
    tables = parse_toml(checkpoint.experiment, str(folder.last))
    return tables["experiment"], tables["execution"]


def changed_settings(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> list[str]:
    """Return the settings that a continued run cannot take on: it has others."""
    return [
        key
        for key, value in later.items()
        if not (
            key in RESUMABLE
            or value is None
            or value == BALANCED  # recorded as the numbers that it is of the same data
            or same(key, earlier.get(key), value)
        )
    ]


def check_patience(run: Path, earlier: Mapping[str, Any], later: Mapping[str, Any]) -> None:
    """Refuse a patience with which the run might have ended before where it stands."""
    had, wanted = earlier.get("patience"), later.get("patience")
    if wanted is not None and (had is None or wanted < had):
        said = "no patience" if had is None else f"patience={had}"
        raise UsageError(
            f"{run} is a run with {said}, which can only be raised, not be made {wanted}, when it "
            "goes on; train anew for that"
        )


def continued(
    run: RunFolder, settings: dict[str, Any], execution: dict[str, Any], out: str | Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings with which a run goes on, where these are asked for in Python.

    Args:
        run: that goes on.
        settings: of the experiment; what is left out is as it was.
        execution: likewise.
        out: a run folder that was given as well.

    Raises:
        UsageError: it would be another experiment, or another folder.
    """
    if out is not None:
        raise UsageError(f"resume={str(run.path)!r} continues in its own folder; leave out out")
    settings.pop("init_from", None)  # the run has begun with it already
    earlier, ran_as = recorded(run)
    if fixed := changed_settings(earlier, settings):
        key = fixed[0]
        what = f"{key}={earlier.get(key)!r}, not {settings[key]!r}"
        if key in ("layers", "input_shape", "model", "model_targets", "dataset"):
            what = f"another {'network' if key != 'dataset' else 'data set'} than this one"
        raise UsageError(
            f"resume={str(run.path)!r} continues the recorded experiment, which has {what}; give "
            "what it has, or train anew without resume"
        )
    check_patience(run.path, earlier, settings)
    own = {key: settings[key] for key in settings if key in RESUMABLE}
    return override(earlier, own), override(ran_as, execution)


def way_on(experiment: Experiment, run: Path, origin: Origin | None) -> str:
    """Return how a run is continued; where its network is the user's own, it is of this origin."""
    if experiment.dataset == MEMORY:
        return f"dptrain.fit(..., resume={str(run)!r}), with the same network and arrays"
    if isinstance(origin, ObjectOrigin):
        return f"dptrain.train(..., resume={str(run)!r}), with the same network"
    return command_on(experiment, run)


def command_on(experiment: Experiment, run: Path, lies_at: str = "") -> str:
    """Return the command line that continues a run.

    Args:
        experiment: of the run.
        run: its folder.
        lies_at: the file that has stood in for the arrays of a script.
    """
    data = f" --dataset {word(lies_at)}" if experiment.dataset == MEMORY else ""
    return f"{program()} train --resume {word(run)}{naming(experiment.model)}{data}"
