"""What a resumed run went on with: tried out in this process, until the same bits come out.

The run's state was right when it was read back, and is wrong some steps later. So the steps between
are done here with every mistake that is known: other weights or another state to begin with, other
numbers of the steps.
"""

import contextlib
from collections.abc import Iterator
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from dptrain.errors import NonFiniteError
from dptrain.exchange.engine import State, StepsDone, Stop
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.reference.bounded import narrowed
from dptrain.gradcheck.runs.lapses import NARROWER, Array, Arrays, Course, arrays_of, same


class Detour(NamedTuple):
    """A way to go on that is wrong.

    Attributes:
        kind: as of `Diagnosis`.
        text: behind "The run that was resumed".
        state: to begin with.
        rows: by how much the numbers are wrong by which steps choose their rows and draw.
        rates: by how much those are wrong by which the optimizer goes.
        more: steps that are done beyond those that should be.
    """

    kind: str
    text: str
    state: State
    rows: int = 0
    rates: int = 0
    more: int = 0

    def diagnosis(self, first: int) -> Diagnosis:
        """Return it as what a run did that was resumed after so many steps."""
        return Diagnosis(
            self.kind, f"The run that was resumed after step {first} {self.text}.", 0.0
        )


class Misnumbered(InlineEngine):
    """Trains with wrong numbers of its steps."""

    def __init__(self, job: Job, begun: Detour) -> None:
        state = begun.state
        super().__init__(job, state.parameters.copy(), [s.copy() for s in state.slots])
        self._rows, self._rates = begun.rows, begun.rates

    def train(self, begin: int, end: int, stop: Stop, every: int) -> Iterator[StepsDone]:
        """Carry out steps with the rows of others."""
        return super().train(begin + self._rows, end + self._rows, stop, every)

    def _update(self, step: int, gradient: Array) -> None:
        super()._update(step - self._rows + self._rates, gradient)


def went_on(
    job: Job, state: State, first: int, last: int, found: Arrays, course: Course
) -> list[Diagnosis]:
    """Return what would explain the state that a resumed run has come to.

    Args:
        job: of the run.
        state: right, after ``first`` steps, when it was resumed.
        first: see there.
        last: the steps done when it was seen next.
        found: what it was then.
        course: the states of the run as it should be.
    """
    return [
        each.diagnosis(first)
        for each in _detours(job, state, first, course)
        if same(found, _come_to(job, each, first, last))
    ]


def came_to_nothing(
    job: Job, state: State, first: int, last: int, course: Course
) -> list[Diagnosis]:
    """Return what would explain that a resumed run ended with numbers that are not finite.

    Args:
        job: of the run.
        state: right, after ``first`` steps, when it was resumed.
        first: see there.
        last: the steps done at the latest.
        course: the states of the run as it should be.
    """
    return [
        each.diagnosis(first)
        for each in _detours(job, state, first, course)
        if not all(np.isfinite(a).all() for a in _come_to(job, each, first, last).values())
    ]


def _come_to(job: Job, begun: Detour, first: int, last: int) -> Arrays:
    """Return the state that a detour leads to; as far as it does, where its loss is no number."""
    engine = Misnumbered(job, begun)
    with contextlib.suppress(NonFiniteError):
        for _ in engine.train(first, last + begun.more, lambda: False, 1):
            pass
        return arrays_of(job, engine.state())
    return {name: np.full_like(a, np.nan) for name, a in arrays_of(job, engine.state()).items()}


def _detours(job: Job, state: State, first: int, course: Course) -> Iterator[Detour]:
    names = job.updater.rule.slots
    zero = State(np.zeros_like(state.parameters), [np.zeros_like(s) for s in state.slots])
    weights, slots = state.parameters, list(state.slots)
    if names:
        lost = f"has lost the optimizer's {' and '.join(names)}"
        yield Detour("state-lost", lost, State(weights, zero.slots))
        yield Detour(
            "state-lost", f"{lost}, and the count of steps", State(weights, zero.slots), 0, -first
        )
    for i, name in enumerate(names):
        without = [zero.slots[i] if i == j else each for j, each in enumerate(slots)]
        yield Detour("state-lost", f"has lost the optimizer's {name}", State(weights, without))
    for order in list(permutations(range(len(names))))[1:]:
        text = f"takes the optimizer's {' and '.join(names)} for each other"
        yield Detour("state-exchanged", text, State(weights, [slots[i] for i in order]))
    text = "went on with zeros: the state was put where no step reads it"
    yield Detour("resumed-elsewhere", text, zero)
    text = "went on with weights of zero, though with the optimizer's state"
    yield Detour("tensor-lost", text, State(zero.parameters, slots))
    for dtype in NARROWER:
        yield from _rounded(job, state, dtype)
    yield from _numbered(state, first)
    for step, other in course():
        if step != first:
            yield from _elsewhere(step, State(other.parameters.copy(), list(other.slots)), state)


def _rounded(job: Job, state: State, dtype: Any) -> Iterator[Detour]:
    if np.dtype(dtype).itemsize >= job.dtype.itemsize:
        return
    parts = [narrowed(a, dtype).astype(job.dtype) for a in (state.parameters, *state.slots)]
    name = np.dtype(dtype).name
    text = f"went on with what was rounded to {name}"
    yield Detour("checkpoint-rounded", text, State(parts[0], parts[1:]))
    text = f"went on with weights rounded to {name}"
    yield Detour("checkpoint-rounded", text, State(parts[0], state.slots))
    if state.slots:
        text = f"went on with an optimizer's state rounded to {name}"
        yield Detour("checkpoint-rounded", text, State(state.parameters, parts[1:]))


def _numbered(state: State, first: int) -> Iterator[Detour]:
    for off, what in ((-first, "from the first again"), (-1, "one too low"), (1, "one too high")):
        text = f"counts its steps {what}"
        yield Detour("step-miscounted", text, state, off, off)
        yield Detour("step-miscounted", f"{text}, and does others again", state, off, off, -off)
        yield Detour("step-miscounted", f"{text} where it chooses its rows", state, off, 0)
        yield Detour("step-miscounted", f"{text} in the optimizer", state, 0, off)


def _elsewhere(step: int, other: State, state: State) -> Iterator[Detour]:
    after = f"after step {step}" if step else "before the first step"
    text = f"went on with the state {after}"
    yield Detour("resumed-elsewhere", text, other)
    text = f"went on with the weights {after}"
    yield Detour("resumed-elsewhere", text, State(other.parameters, state.slots))
    if state.slots:
        text = f"went on with the optimizer's state {after}"
        yield Detour("resumed-elsewhere", text, State(state.parameters, other.slots))
        text = f"went on with the weights {after}, and lost the optimizer's state"
        lost = [np.zeros_like(each) for each in state.slots]
        yield Detour("resumed-elsewhere", text, State(other.parameters, lost))
