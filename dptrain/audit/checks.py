"""Comparing what a run recorded of a moment with the state found there by re-execution."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dptrain.arithmetic.digest import digest, tensor_digests
from dptrain.audit.difference import Array, Difference, difference
from dptrain.audit.history import History, Kept
from dptrain.audit.replay import Replay
from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator.initial_state import saved_state
from dptrain.errors import CheckpointError
from dptrain.exchange.engine import TrainingState
from dptrain.nn.network import Layout


class Check(NamedTuple):
    """One comparison.

    Attributes:
        step: steps done.
        epoch: the same in epochs.
        what: was compared, such as ``"epoch 3"`` or ``"checkpoint last"``.
        recorded: a digest, or a loss.
        found: likewise.
        same: whether they are equal.
        tensor: the first that differs, where the record tells tensors apart.
        difference: of that tensor, where the record holds its values.
        problem: what else is wrong, such as a damaged file.
        within: whether the run contradicts itself, whatever is computed here.
    """

    step: int
    epoch: float
    what: str
    recorded: str
    found: str
    same: bool
    tensor: str = ""
    difference: Difference | None = None
    problem: str = ""
    within: bool = False

    def plain(self) -> dict[str, Any]:
        """Return the same as plain data."""
        unlike = self.difference.plain() if self.difference else None
        return self._asdict() | {"difference": unlike}

    def __str__(self) -> str:
        tensor = f", first in {self.tensor}" if self.tensor else ""
        much = f", {self.difference}" if self.difference else ""
        values = f" (recorded {short(self.recorded)}, found {short(self.found)})"
        problem = f": {self.problem}" if self.problem else values * bool(self.recorded)
        return f"{self.what} differs, step {self.step}{tensor}{much}{problem}"


def short(value: str) -> str:
    """Return so much of a digest as tells it apart; a loss as it is."""
    return value[:12] if len(value) == 64 else value


class TensorDifference(NamedTuple):
    """The first tensor of two states that differs; of the optimizer's as ``"W1, velocity"``."""

    tensor: str
    difference: Difference


def state_difference(
    network: Layout, names: Sequence[str], one: TrainingState, other: TrainingState
) -> TensorDifference | None:
    """Return the first tensor that differs, the weights before the optimizer's state.

    Args:
        network: the layout.
        names: of the slots.
        one: state.
        other: state.
    """
    arrays = [("", one.parameters, other.parameters)]
    arrays += zip([f", {name}" for name in names], one.slots, other.slots, strict=True)
    for suffix, a, b in arrays:
        if found := _first(network.views(a), network.views(b)):
            return TensorDifference(found.tensor + suffix, found.difference)
    return None


def _first(one: Mapping[str, Array], other: Mapping[str, Array]) -> TensorDifference | None:
    for name, tensor in one.items():
        if found := difference(tensor, other[name]):
            return TensorDifference(name, found)
    return None


def checks_after(
    history: History, replay: Replay, step: int, state: TrainingState, loss: float | None = None
) -> list[Check]:
    """Return the comparisons of all that a run tells of the moment after a step.

    Args:
        history: of the run.
        replay: of the run.
        step: steps done.
        state: found.
        loss: found, of the step before; without it none is compared.
    """
    job, views = replay.job, replay.job.network.views(state.parameters)
    told, checkpoints = history.told.get(step, []), history.kept.get(step, [])
    found: list[Check] = []
    weights = digest(state.parameters) if checkpoints or told else ""
    for each in told:
        check = Check(step, step / job.steps_per_epoch, each.what, "", "", same=True)
        match each.value:
            case float():
                if loss is not None:
                    recorded, again = repr(each.value), repr(loss)
                    found.append(_compared(check, recorded, again))
            case str():
                found.append(_compared(check, each.value, weights))
            case tensors:
                found += _tensors(check, tensors, tensor_digests(views))
    for kept in checkpoints:
        found += _checkpoint(replay, kept, state, weights)
    return found


def _compared(check: Check, recorded: str, found: str) -> Check:
    return check._replace(recorded=recorded, found=found, same=recorded == found)


def _tensors(check: Check, recorded: Mapping[str, str], found: Mapping[str, str]) -> list[Check]:
    """Return one comparison, of the first tensor that differs, or of the first that there is."""
    names = [*found, *(name for name in recorded if name not in found)]
    unlike = [name for name in names if recorded.get(name) != found.get(name)]
    name = next(iter(unlike or names))
    compared = _compared(check, recorded.get(name, "missing"), found.get(name, "missing"))
    return [compared._replace(tensor=name if unlike else "")]


def _checkpoint(replay: Replay, kept: Kept, state: TrainingState, weights: str) -> list[Check]:
    job = replay.job
    epoch = kept.step / job.steps_per_epoch
    check = Check(kept.step, epoch, f"checkpoint {kept.name}", "", weights, same=False)
    try:
        checkpoint = load_checkpoint(kept.path)
        saved = saved_state(job, checkpoint)
    except CheckpointError as error:
        return [check._replace(problem=str(error), within=True)]
    there = digest(saved.parameters)
    unlike = state_difference(job.network, job.updater.rule.slots, saved, state)
    check = check._replace(recorded=there, same=unlike is None)
    if unlike:
        check = check._replace(tensor=unlike.tensor, difference=unlike.difference)
    if there == checkpoint.digest:
        return [check]
    own = check._replace(what=f"the digest in checkpoint {kept.name}")
    own = own._replace(recorded=checkpoint.digest, found=there, same=False, within=True)
    return [own, check]
