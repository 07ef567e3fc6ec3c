"""What may become of a state that is kept: a table of mistakes, and which of them explains it.

The arrays of a state are its weights and the optimizer's, by name, flat and float64, in which
float32 is exact; NaN stands for what is missing. Where a wrong state was read, a mistake must
explain all bits of what is wrong. Where a run went on from a right state and is wrong some steps
later, these steps are done here from what each mistake makes of it, until the same bits come out.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import NonFiniteError
from dptrain.exchange.engine import ShouldStop, StepsDone, TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.diagnosis import EXPLAINS, Diagnosis, Mistake, ranked, safely, weighed
from dptrain.gradcheck.reference.bounded import narrowed
from dptrain.nn.network import Tensor

Array = NDArray[Any]
Arrays = Mapping[str, Array]
# What becomes of one array of a state, by its name.
Change = Callable[[Arrays, str], Array]
Row = Mistake[Change]
T = TypeVar("T")
# Goes through the states of a run: steps done, and what they are then.
States = Callable[[], Iterable[tuple[int, TrainingState]]]

WEIGHTS = "weights"
NARROWER = ("float32", "float16")
SHOWN = 4
# The kind of what is lost hangs on what it is lost of; see `Scope.kind`.
LOST, OTHER_STEP = "lost", "checkpoint-other-step"


def arrays_of(job: Job, state: TrainingState) -> dict[str, Array]:
    """Return the arrays of a state, by name."""
    names = (WEIGHTS, *job.updater.rule.slots)
    arrays = (state.parameters, *state.slots)
    return {n: np.asarray(a, float).copy() for n, a in zip(names, arrays, strict=True)}


def equal_states(
    job: Job, name: str, edge: str, where: str, found: TrainingState, wanted: TrainingState
) -> list[Comparison]:
    """Compare weights and optimizer state, which must be equal bit by bit."""
    pairs = zip(arrays_of(job, found).items(), arrays_of(job, wanted).values(), strict=True)
    tensors = job.network.all_tensors()
    return [compare(f"{n} {name}", edge, where, tensors, a, b, 0.0) for (n, a), b in pairs]


def mistakes(job: Job, states: States) -> Iterator[Row]:
    """Yield what may become of an array of a state, the simplest first."""
    tensors, slots = job.network.all_tensors(), job.updater.rule.slots
    yield Mistake(LOST, "zero", lambda a, n: np.zeros_like(a[n]))
    yield Mistake(LOST, "missing", lambda a, n: np.full_like(a[n], np.nan))
    for dtype in NARROWER:
        if np.dtype(dtype).itemsize < job.dtype.itemsize:
            rounded = _made(partial(narrowed, dtype=dtype))
            yield Mistake("checkpoint-rounded", f"rounded to {dtype}", rounded)
    for step, state in states():
        kept = arrays_of(job, state)
        yield Mistake(OTHER_STEP, f"as {_after(step)}", partial(_named, kept, {}))
    for by in range(1, len(slots)):
        others = dict(zip(slots, [*slots[by:], *slots[:by]], strict=True))
        yield Mistake("state-exchanged", "in each other's place", partial(_named, None, others))
    for other in (WEIGHTS, *slots):
        all_of_it = dict.fromkeys((WEIGHTS, *slots), other)
        yield Mistake("state-exchanged", f"the run's {other}", partial(_named, None, all_of_it))
    yield Mistake("sign", "of the wrong sign", _made(np.negative))
    swapped = _made(lambda x: x.astype(job.dtype).byteswap().astype(float))
    yield Mistake("byte-order", "read with the bytes in the wrong order", swapped)
    for by in (1, -1):
        shift = partial(np.roll, shift=by)
        for moved in (shift, partial(_by_tensor, tensors, partial(_alone, shift))):
            yield Mistake("tensor-shifted", "shifted by one element", _made(moved))
    turned = partial(_by_tensor, tensors, lambda x, t: x.reshape(t.shape).T.reshape(-1))
    yield Mistake("transposed", "transposed", _made(turned))


def _made(make: Callable[[Array], Array]) -> Change:
    return lambda arrays, name: make(arrays[name])


def _named(other: Arrays | None, names: Mapping[str, str], arrays: Arrays, name: str) -> Array:
    """Return an array of another state or of another name."""
    return (arrays if other is None else other)[names.get(name, name)]


def _by_tensor(
    order: Sequence[Tensor], change: Callable[[Array, Tensor], Array], values: Array
) -> Array:
    return np.concatenate([change(values[t.start : t.stop], t) for t in order])


def _alone(change: Callable[[Array], Array], values: Array, _: Tensor) -> Array:
    return change(values)


def _scaled(found: Array, right: Array) -> Iterator[Row]:
    """Yield the factor by which the last element of an array is wrong."""
    nonzero = np.flatnonzero(right)
    if len(nonzero):
        with np.errstate(all="ignore"):
            factor = float(found[nonzero[-1]] / right[nonzero[-1]])
        times = _made(partial(np.multiply, factor))
        yield Mistake("checkpoint-scaled", f"multiplied by {factor:.6g}", times)


class Scope(NamedTuple):
    """What a mistake is made of: the elements of arrays where a mask is True, and their name."""

    called: str
    masks: Mapping[str, Any]
    many: bool = False

    def made(self, row: Row, right: Arrays) -> dict[str, Array]:
        """Return what a mistake makes of a state."""
        changed = {n: row.change(right, n) for n in self.masks}
        return {**right, **{n: np.where(m, changed[n], right[n]) for n, m in self.masks.items()}}

    def kind(self, row: Row) -> str:
        """Return what a mistake is called here."""
        if row.kind != LOST:
            return row.kind
        return "tensor-lost" if WEIGHTS in self.masks else "state-lost"


def _scopes(names: Sequence[str]) -> Iterator[Scope]:
    """Yield all arrays and some, in whole; everything comes last."""
    slots = [name for name in names if name != WEIGHTS]
    if len(slots) > 1:
        yield Scope(f"the optimizer's {listed(slots)}", dict.fromkeys(slots, True), True)
    yield Scope("the weights", {WEIGHTS: True}, True)
    for name in slots:
        yield Scope(f"the optimizer's {name}", {name: True})
    yield Scope("everything", dict.fromkeys(names, True))


def _wrong_parts(job: Job, wrong: Arrays) -> Iterator[Scope]:
    """Yield the tensors in which anything is wrong, and the elements that are."""
    masks, parts, spans = {}, [], []
    for name, which in wrong.items():
        of = "" if name == WEIGHTS else f" of the optimizer's {name}"
        masks[name] = np.zeros_like(which)
        for tensor in job.network.all_tensors():
            if which[tensor.start : tensor.stop].any():
                masks[name][tensor.start : tensor.stop] = True
                parts.append(tensor.name + of)
        places = np.flatnonzero(which)
        spans.append(f"elements {places[0]} to {places[-1]}{of or ' of the weights'}")
    yield Scope(listed(parts), masks, len(parts) > 1)
    yield Scope(listed(spans), wrong, True)


def wrong_state(
    job: Job, found: Arrays, wanted: Arrays, states: States, where: str
) -> list[Diagnosis]:
    """Return in what a state differs from what it should be; empty where nothing does.

    ``where`` it was found is the beginning of the sentence; ``states`` are those of the run.
    """
    wrong = {n: found[n].view(np.uint64) != a.view(np.uint64) for n, a in wanted.items()}
    wrong = {name: which for name, which in wrong.items() if which.any()}
    total = sum(int(np.count_nonzero(which)) for which in wrong.values())
    if not total:
        return []
    scopes = [*_scopes([*wanted]), *_wrong_parts(job, wrong)]

    def rows() -> Iterator[Mistake[Callable[[], Arrays]]]:
        scaled = (row for n in wrong for row in _scaled(found[n], wanted[n]))
        for row in chain(mistakes(job, states), scaled):
            for scope in scopes:
                said = f"{scope.called} {'are' if scope.many else 'is'} {row.sentence}"
                made = partial(scope.made, row, wanted)
                yield Mistake(scope.kind(row), f"{where} {said}.", made)

    what = f"{where} {scopes[-1].called} are wrong, {total:,} in all, which nothing explains."
    return _best(rows(), lambda made: min(1.0, _different(found, made()) / total)) or [
        Diagnosis("checkpoint-wrong", what, 1.0)
    ]


def _best(rows: Iterable[Mistake[T]], left: Callable[[T], float]) -> list[Diagnosis]:
    """Return the first that explains everything, or else the one that explains most, if enough."""
    best: list[Diagnosis] = []
    for row in safely(rows):
        best = ranked([*best, *weighed([row], left)])[:1]
        if not best[0].residual:
            break
    return [each for each in best if each.residual <= EXPLAINS]


class Begun(NamedTuple):
    """A state to go on with, and how wrong the numbers of the steps are.

    ``rows`` is by how much the numbers are wrong by which steps choose rows and draw, ``rates``
    those by which the optimizer goes; ``more`` steps are done beyond those that should be.
    """

    state: Callable[[], Arrays]
    rows: int = 0
    rates: int = 0
    more: int = 0


class Misnumbered(InlineEngine):
    """Trains with wrong numbers of its steps."""

    def __init__(self, job: Job, state: Arrays, begun: Begun) -> None:
        parameters, *slots = (a.astype(job.dtype) for a in state.values())
        super().__init__(job, parameters, slots)
        self._begun = begun

    def train(self, begin: int, end: int, stop: ShouldStop, every: int) -> Iterator[StepsDone]:
        """Carry out steps with the rows of others."""
        rows = self._begun.rows
        return super().train(begin + rows, end + rows, stop, every)

    def _update(self, step: int, gradient: Array) -> None:
        super()._update(step - self._begun.rows + self._begun.rates, gradient)


def wrong_continuation(
    job: Job, state: TrainingState, first: int, last: int, found: Arrays | None, states: States
) -> list[Diagnosis]:
    """Return what explains the state that a resumed run has come to, if anything does.

    After ``first`` steps, when it was resumed, the state was right; after ``last`` it is what was
    found, None standing for no number. ``states`` are those of the run as it should be.
    """

    def left(begun: Begun) -> float:
        came_to = _come_to(job, begun, first, last)
        if found is None or came_to is None:
            return float(found is not came_to)
        return float(bool(_different(found, came_to)))

    return _best(_beginnings(job, arrays_of(job, state), first, states), left)


def _come_to(job: Job, begun: Begun, first: int, last: int) -> Arrays | None:
    """Return the state that a beginning leads to; None where its loss is no number."""
    state = begun.state()
    if not all(np.isfinite(a).all() for a in state.values()):
        raise ValueError("what is missing comes to nothing, whatever else is wrong")
    engine = Misnumbered(job, state, begun)
    with contextlib.suppress(NonFiniteError), np.errstate(all="ignore"):
        for _ in engine.train(first, last + begun.more, lambda: False, 1):
            pass
        return arrays_of(job, engine.state())
    return None


def _beginnings(job: Job, right: Arrays, first: int, states: States) -> Iterator[Mistake[Begun]]:
    """Yield what a run may go on with: other numbers, what mistakes make of all arrays or some."""
    run, kind = f"The run that was resumed after step {first}", "step-miscounted"
    for off, what in ((-first, "from the first again"), (-1, "one too low"), (1, "one too high")):
        for how, numbers in (
            (".", (off, off)),
            (", and does others again.", (off, off, -off)),
            (" where it chooses its rows.", (off, 0)),
            (" in the optimizer.", (0, off)),
        ):
            text = f"{run} counts its steps {what}{how}"
            yield Mistake(kind, text, Begun(lambda: right, *numbers))
    for row in mistakes(job, states):
        for scope in _scopes([*right]):
            kind, text = scope.kind(row), f"{run} went on with {scope.called} {row.sentence}"
            if kind == OTHER_STEP or (row.kind == LOST and len(scope.masks) == len(right)):
                kind = "resumed-elsewhere"
            made = partial(scope.made, row, right)
            yield Mistake(kind, f"{text}.", Begun(made))
            if kind == "state-lost":
                text = f"{text}, and counts its steps from the first."
                yield Mistake(kind, text, Begun(made, 0, -first))


def _different(found: Arrays, wanted: Arrays) -> int:
    """Return how many numbers of two states are not equal."""
    return sum(
        int(np.count_nonzero((found[n] != a) & ~(np.isnan(found[n]) & np.isnan(a))))
        for n, a in wanted.items()
    )


def _after(step: int) -> str:
    return f"after step {step}" if step else "before the first step"


def listed(names: Sequence[str]) -> str:
    """Return names as one would say them, those beyond the first few left out."""
    shown = [*names[:SHOWN], "…"] if len(names) > SHOWN else [*names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
