"""Two runs re-executed side by side, and looked at after every step."""

from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from dptrain.audit.checks import Check, checks_after, state_difference
from dptrain.audit.difference import Array, Difference, difference, same_bits
from dptrain.audit.dissection import Part, parts
from dptrain.audit.history import History
from dptrain.audit.replay import Replay
from dptrain.errors import NonFiniteError
from dptrain.exchange.engine import TrainingState
from dptrain.nn.network import Layout


class Divergence(NamedTuple):
    """The first thing that two re-executions compute differently.

    Attributes:
        step: counted from 0.
        phase: ``"network"`` or ``"start"``, where the runs differ before their first step;
            otherwise that of the step, as in `dptrain.audit.dissection.Part`.
        where: the layer, the tensor, or what else it is.
        shard: whose it is; None for what is of the whole minibatch.
        difference: of the values; None where not even their shapes are the same.
        problem: what differs in that case.
    """

    step: int
    phase: str
    where: str
    shard: int | None = None
    difference: Difference | None = None
    problem: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the same as plain data."""
        unlike = self.difference.plain() if self.difference else None
        return self._asdict() | {"difference": unlike}


class Stray(NamedTuple):
    """A run that recorded something else than its re-execution computes.

    Attributes:
        run: 0 or 1.
        since: the last step at which all that it recorded was found; 0 where there is none.
        check: what was not found.
    """

    run: int
    since: int
    check: Check

    def plain(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return self._asdict() | {"check": self.check.plain()}


class Side:
    """One of the two runs.

    Attributes:
        history: of the run.
        replay: of the run.
        state: after the last step.
        before: the state before that step.
        agreed: the last step of which all that was recorded has been found.
        stray: the first record that was not found.
        problem: why there are no further steps, if so.
    """

    def __init__(self, history: History, replay: Replay, state: TrainingState, begin: int) -> None:
        self.history, self.replay, self.state = history, replay, state
        self.before = TrainingState(np.array(state.parameters), list(map(np.array, state.slots)))
        self.agreed = begin
        self.stray: Check | None = None
        self.problem = ""
        self._steps = replay.steps(begin, history.end, state)

    def advance(self) -> bool:
        """Do a step, and look for it in the records; return whether there was one to do."""
        for into, now in zip(_arrays(self.before), _arrays(self.state), strict=True):
            np.copyto(into, now)
        try:
            done = next(self._steps, None)
        except NonFiniteError as error:
            self.problem = str(error)
            return False
        if done is None:
            return False
        if self.stray is None:
            self._look_up(*done)
        return True

    def _look_up(self, step: int, loss: float) -> None:
        checks = checks_after(self.history, self.replay, step, self.state, loss)
        self.stray = next((each for each in checks if not each.same), None)
        if checks and self.stray is None:
            self.agreed = step


def unlike_networks(one: Replay, other: Replay) -> Divergence | None:
    """Return in what two networks differ, if their weights cannot even be compared."""
    if one.job.dtype != other.job.dtype:
        return Divergence(0, "network", "dtype", problem=f"{one.job.dtype} and {other.job.dtype}")
    a, b = ({t.name: t.shape for t in each.job.network.all_tensors()} for each in (one, other))
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            shapes = " and ".join(str(each.get(name, "missing")) for each in (a, b))
            return Divergence(0, "network", name, problem=shapes)
    return None


def unlike_states(network: Layout, sides: tuple[Side, Side], step: int) -> Divergence | None:
    """Return how two runs differ before a step, if they do."""
    one, other = (each.state for each in sides)
    slots = [each.replay.job.updater.rule.slots for each in sides]
    if slots[0] == slots[1]:
        found = state_difference(network, slots[0], one, other)
    else:  # the rules themselves differ, which will show in the first update
        found = state_difference(
            network, [], TrainingState(one[0], []), TrainingState(other[0], [])
        )
    return found and Divergence(step, "start", found.tensor, difference=found.difference)


def same_state(one: TrainingState, other: TrainingState) -> bool:
    """Return whether two states are the same to the last bit; other rules have other states."""
    if len(one.slots) != len(other.slots):
        return False
    return all(map(same_bits, _arrays(one), _arrays(other)))


def _arrays(state: TrainingState) -> list[Array]:
    return [state.parameters, *state.slots]


def first_difference(sides: tuple[Side, Side], step: int) -> Divergence:
    """Return the first thing in a step that the two runs compute differently.

    Args:
        sides: whose state ``before`` is that before the step.
        step: counted from 0.
    """
    tensors = [t for each in sides for t in each.replay.job.network.all_tensors()]
    frozen = {t.name for t in tensors if t.frozen}
    streams = [parts(each.replay.job_of(step), each.before, step, frozen) for each in sides]
    with np.errstate(all="ignore"):
        for one, other in zip_longest(*streams):
            if found := _unlike(step, one, other):
                return found
    return Divergence(
        step,
        "update",
        "unknown",
        problem="computed again, the step is the same; the network's own code does not compute "
        "the same each time",
    )


def _unlike(step: int, one: Part | None, other: Part | None) -> Divergence | None:
    there = one or other
    assert there is not None
    if one is None or other is None or (one.phase, one.shard) != (other.phase, other.shard):
        names = " and ".join("nothing" if p is None else _name(p) for p in (one, other))
        return Divergence(step, there.phase, there.where, there.shard, problem=names)
    where = " and ".join(dict.fromkeys([one.where, other.where]))
    a, b = one.value, other.value
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        problem = f"shape {a.shape}, {a.dtype}, and shape {b.shape}, {b.dtype}"
        return Divergence(step, one.phase, where, one.shard, problem=problem)
    found = difference(a, b)
    return found and Divergence(step, one.phase, where, one.shard, found)


def _name(part: Part) -> str:
    shard = "" if part.shard is None else f" of shard {part.shard}"
    return f"{part.where}{shard} ({part.phase})"
