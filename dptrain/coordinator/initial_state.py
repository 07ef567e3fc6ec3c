"""What a run begins with: new weights, saved ones (transfer learning), or its own checkpoint."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec import convert
from numpy.typing import NDArray

from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint
from dptrain.coordinator.transfer_notes import changed_meanings
from dptrain.data.rescaling import change_for
from dptrain.data.scale import Scale
from dptrain.errors import CheckpointError, UsageError
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.rank import initial_state
from dptrain.experiment.files import parse_toml
from dptrain.experiment.job import Job
from dptrain.trained import flat_parameters, load_run


class InitialState(NamedTuple):
    """What a run with saved weights begins with.

    Attributes:
        parameters: flat ``(size,)``.
        taken: names of the tensors that were taken over.
        anew: names of those that begin anew: the saved network has none of that name and shape.
        changed: sentences on inputs and outputs that stand for something else than they did.
    """

    parameters: NDArray[Any]
    taken: list[str]
    anew: list[str]
    changed: tuple[str, ...] = ()


def saved_weights(path: str) -> Checkpoint:
    """Return the weights that a run begins with.

    Args:
        path: a run, of which the newest checkpoint is taken; a checkpoint; or a model that
            compress or convert wrote.

    Raises:
        RunFolderError, CheckpointError, DataError: there is none, or it is damaged.
    """
    source = Path(path)
    if source.suffix == ".safetensors" and not source.is_dir():
        return load_checkpoint(source)
    return load_run(source, "last")[1]


def begin_with(job: Job, saved: Checkpoint, parameters: NDArray[Any]) -> InitialState:
    """Return new parameters, with those tensors replaced that the saved network has as well.

    Args:
        job: to begin.
        saved: the weights.
        parameters: what the run would begin with otherwise.

    Raises:
        CheckpointError: the saved weights have changed since the experiment was recorded.
        UsageError: they have nothing for this network, or not what is to be frozen.
    """
    experiment = job.experiment
    origin = f"init_from={experiment.init_from!r}"
    if experiment.init_digest not in (None, saved.digest):
        raise CheckpointError(
            f"{origin} has changed: the experiment was recorded with digest "
            f"{str(experiment.init_digest)[:12]}, now it is {saved.digest[:12]}; restore it, or "
            "remove init_digest to begin with what is there"
        )
    found = InitialState(parameters.copy(), [], [])
    views = job.network.views(found.parameters)
    for name, view in views.items():
        tensor = saved.tensors.get(name)
        if tensor is None or tensor.shape != view.shape:
            found.anew.append(name)
            continue
        np.copyto(view, tensor)
        found.taken.append(name)
    _move_shift(job, saved, views, found.taken)
    if not found.taken:
        raise UsageError(
            f"{origin} has no tensor that this network has too: it has "
            f"{', '.join(f'{n} {t.shape}' for n, t in saved.tensors.items())}, the network "
            f"{', '.join(f'{n} {v.shape}' for n, v in views.items())}"
        )
    kept = (t.name for t in job.network.all_tensors() if t.frozen and t.average != 0)
    unfounded = [name for name in kept if name in found.anew]
    if unfounded:
        raise UsageError(
            f"{origin} has no {', '.join(unfounded)} of this network's shape to be frozen; freeze "
            "only what is taken over"
        )
    return found._replace(changed=tuple(changed_meanings(job, saved, found.taken)))


def _move_shift(
    job: Job, saved: Checkpoint, views: dict[str, NDArray[Any]], taken: Collection[str]
) -> None:
    """Let the shift of a `Normalise` layer go by what is taken off the inputs before it."""
    name = next(iter(views))
    recorded = parse_toml(saved.experiment, "the saved weights")["experiment"]
    before, now = recorded.get("input_offsets"), job.experiment.input_offsets
    if before != now and name in taken and name.endswith(".shift"):
        shift = views[name]
        moved = np.subtract(before or 0.0, now or 0.0)  # float64, as the sum must be
        shift[...] = shift + np.broadcast_to(moved, shift.size).reshape(shift.shape)


def scale_doubt(job: Job, saved: Checkpoint) -> str:
    """Return a sentence where the saved weights have learnt from inputs of another scale."""
    recorded = parse_toml(saved.experiment, "the saved experiment")["experiment"]
    if "input_scale" not in recorded:
        return ""
    learnt, found = convert(recorded["input_scale"], Scale), job.dataset.scale
    change, doubt = change_for(found, learnt, job.dataset.sample_shape)
    if not doubt and change == ("divide" if found.grey else "none"):
        return ""
    return (
        f"the weights of {job.experiment.init_from} have learnt from numbers from {learnt.low:g} "
        f"to {learnt.high:g}{' divided by 255' * learnt.grey}, the data set has {found.low:g} to "
        f"{found.high:g}{' divided by 255' * found.grey}; bring them to the same scale"
    )


def first_state(job: Job, saved: Checkpoint | None) -> tuple[TrainingState, InitialState | None]:
    """Return what a run's first step begins with, and what was taken over of saved weights.

    Raises:
        CheckpointError, UsageError: as `begin_with`.
    """
    state = TrainingState(*initial_state(job))
    if saved is None:
        return state, None
    beginning = begin_with(job, saved, state.parameters)
    return TrainingState(beginning.parameters, state.slots), beginning


def saved_state(job: Job, checkpoint: Checkpoint) -> TrainingState:
    """Return the weights and optimizer state of a run's checkpoint.

    Raises:
        CheckpointError: it is of another network or lacks the optimizer's state.
    """
    parameters = flat_parameters(job.network, job.dtype, checkpoint)
    slots = []
    for name in job.updater.rule.slots:
        saved = checkpoint.optimizer.get(name)
        if saved is None or saved.shape != parameters.shape:
            raise CheckpointError(
                f"the checkpoint has no optimizer state {name!r} for {job.experiment.optimizer}; "
                "it can be evaluated, but not resumed"
            )
        if not np.isfinite(saved).all():
            raise CheckpointError(
                f"the checkpoint's optimizer state {name!r} holds an infinity or NaN; it can be "
                "evaluated, but not resumed"
            )
        slots.append(np.array(saved))
    return TrainingState(parameters, slots)


def description(job: Job, beginning: InitialState) -> str:
    """Return a line about it."""
    count = len(beginning.taken) + len(beginning.anew)
    anew = f"; anew: {', '.join(beginning.anew)}" if beginning.anew else ""
    taken = f"{len(beginning.taken)} of {count} tensors"
    return f"begins    with {taken} of {job.experiment.init_from}{anew}"
