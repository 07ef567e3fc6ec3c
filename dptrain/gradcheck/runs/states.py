"""What may become of a state that is kept: a table of mistakes, and which of them explains it.

The arrays of a state are its weights and the optimizer's, by name, flat and float64, in which
float32 is exact; NaN stands for what is missing. Where a wrong state was read, a mistake must
explain all bits of what is wrong. Where a run went on from a right state and is wrong some steps
later, these steps are done here from what each mistake makes of it, until the same bits come out.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import NonFiniteError
from dptrain.exchange.engine import State, StepsDone, Stop
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.diagnosis import Diagnosis, Mistake, weighed
from dptrain.gradcheck.reference.bounded import narrowed
from dptrain.nn.network import Tensor

Array = NDArray[Any]
Arrays = Mapping[str, Array]
# What becomes of one array of a state, by its name.
Change = Callable[[Arrays, str], Array]
Row = Mistake[Change]
# Goes through the states of a run: steps done, and what they are then.
States = Callable[[], Iterable[tuple[int, State]]]

WEIGHTS = "weights"
NARROWER = ("float32", "float16")
SHOWN = 4
# The kind of what is lost hangs on what it is lost of; see `_kind`.
LOST, OTHER_STEP, ELSEWHERE = "lost", "checkpoint-other-step", "resumed-elsewhere"


def arrays_of(job: Job, state: State) -> dict[str, Array]:
    """Return the arrays of a state, by name."""
    names = (WEIGHTS, *job.updater.rule.slots)
    arrays = (state.parameters, *state.slots)
    return {n: np.asarray(a, float).copy() for n, a in zip(names, arrays, strict=True)}


def equal_states(
    job: Job, name: str, edge: str, where: str, found: State, wanted: State
) -> list[Comparison]:
    """Compare weights and optimizer state, which must be equal bit by bit."""
    pairs = zip(arrays_of(job, found).items(), arrays_of(job, wanted).values(), strict=True)
    tensors = job.network.all_tensors()
    return [compare(f"{n} {name}", edge, where, tensors, a, b, 0.0) for (n, a), b in pairs]


def mistakes(job: Job, states: States) -> Iterator[Row]:
    """Yield what may become of an array of a state, the simplest first.

    Args:
        job: of the run.
        states: of the run, one of which may be taken for another.
    """
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
    by_name = sorted(tensors, key=lambda t: t.name)
    for order, what in ((by_name, "by name"), (tensors[::-1], "the other way round")):
        text = f"in another order of tensors, {what}"
        yield Mistake("tensor-order", text, _made(partial(_by_tensor, order, lambda x, _: x)))
    for by in (1, -1):
        shift = partial(np.roll, shift=by)
        for moved in (shift, partial(_by_tensor, tensors, partial(_alone, shift))):
            yield Mistake("tensor-shifted", "shifted by one element", _made(moved))
    turned = partial(_by_tensor, tensors, lambda x, t: x.reshape(t.shape).T.reshape(-1))
    yield Mistake("transposed", "transposed", _made(turned))
    for tensor in tensors:
        other_tensor = _made(partial(_in_place_of_others, tensors, tensor))
        yield Mistake("tensor-exchanged", f"the run's {tensor.name}", other_tensor)


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


def _in_place_of_others(tensors: Sequence[Tensor], other: Tensor, values: Array) -> Array:
    """Put a tensor in the place of all of its size."""
    own = values[other.start : other.stop]
    parts = [own if t.stop - t.start == len(own) else values[t.start : t.stop] for t in tensors]
    return np.concatenate(parts)


def _scaled(found: Array, right: Array) -> Iterator[Row]:
    """Yield the factor by which the last element of an array is wrong."""
    nonzero = np.flatnonzero(right)
    if len(nonzero):
        with np.errstate(all="ignore"):
            factor = float(found[nonzero[-1]] / right[nonzero[-1]])
        text = f"multiplied by {factor:.6g}"
        yield Mistake("checkpoint-scaled", text, _made(partial(np.multiply, factor)))


def _kind(row: Row, arrays: Sequence[str]) -> str:
    if row.kind != LOST:
        return row.kind
    return "tensor-lost" if WEIGHTS in arrays else "state-lost"


def wrong_state(
    job: Job, found: Arrays, wanted: Arrays, states: States, where: str
) -> list[Diagnosis]:
    """Return in what a state differs from what it should be; empty where nothing does.

    Args:
        job: of the run.
        found: what is checked.
        wanted: what it should be.
        states: of the run.
        where: it was found, as the beginning of a sentence.
    """
    wrong = {name: _unequal(found[name], right) for name, right in wanted.items()}
    wrong = {name: which for name, which in wrong.items() if which.any()}
    if not wrong:
        return []
    for step, state in states():
        if same(found, arrays_of(job, state)):
            return [Diagnosis(OTHER_STEP, f"{where} everything is as {_after(step)}.", 0.0)]
    known, left, total = list(mistakes(job, states)), 0, 0
    explained: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, which in wrong.items():
        rows = [*known, *_scaled(found[name], wanted[name])]
        for part, row in _explained(job, rows, found, wanted, name, which):
            total += int(np.count_nonzero(part))
            if row is None:
                left += int(np.count_nonzero(part))
                continue
            could = _unequal(row.change(wanted, name), wanted[name])
            place = name, _place(job.network.all_tensors(), part, could)
            explained.setdefault((_kind(row, [name]), row.sentence), []).append(place)
    if not explained:
        names = _called([(name, "") for name in wrong])
        what = f"{where} {total:,} elements of {names} are wrong, and nothing known explains them."
        return [Diagnosis("checkpoint-wrong", what, 1.0)]
    said = [_said(parts, text) for (_, text), parts in explained.items()]
    return [Diagnosis(next(iter(explained))[0], f"{where} {'; '.join(said)}.", left / total)]


def _explained(
    job: Job, rows: Sequence[Row], found: Arrays, wanted: Arrays, name: str, which: Array
) -> Iterator[tuple[Array, Row | None]]:
    """Yield the wrong part of an array with the row that explains it, or of each tensor."""

    def first(part: Array) -> Row | None:
        def left(change: Change) -> float:
            predicted = change(wanted, name)[part]
            return float(not np.array_equal(found[name][part], predicted, equal_nan=True))

        fits = zip(rows, weighed(rows, left), strict=True)
        return next((row for row, each in fits if not each.residual), None)

    if (whole := first(which)) is not None:
        yield which, whole
        return
    for tensor in job.network.all_tensors():
        part = np.zeros_like(which)
        part[tensor.start : tensor.stop] = which[tensor.start : tensor.stop]
        if part.any():
            yield part, first(part)


class Begun(NamedTuple):
    """A state to go on with, and how wrong the numbers of the steps are.

    ``rows`` is by how much the numbers are wrong by which steps choose rows and draw, ``rates``
    those by which the optimizer goes; ``more`` steps are done beyond those that should be.
    """

    state: Arrays
    rows: int = 0
    rates: int = 0
    more: int = 0


class Misnumbered(InlineEngine):
    """Trains with wrong numbers of its steps."""

    def __init__(self, job: Job, begun: Begun) -> None:
        parameters, *slots = (a.astype(job.dtype) for a in begun.state.values())
        super().__init__(job, parameters, slots)
        self._begun = begun

    def train(self, begin: int, end: int, stop: Stop, every: int) -> Iterator[StepsDone]:
        """Carry out steps with the rows of others."""
        rows = self._begun.rows
        return super().train(begin + rows, end + rows, stop, every)

    def _update(self, step: int, gradient: Array) -> None:
        super()._update(step - self._begun.rows + self._begun.rates, gradient)


def went_on_wrongly(
    job: Job, state: State, first: int, last: int, found: Arrays | None, states: States
) -> list[Diagnosis]:
    """Return what explains the state that a resumed run has come to, if anything does.

    Args:
        job: of the run.
        state: right, after ``first`` steps, when it was resumed.
        first: see there.
        last: the steps done when it was seen next.
        found: what it was then; None: it was no number.
        states: of the run as it should be.
    """

    def left(begun: Begun) -> float:
        came_to = _come_to(job, begun, first, last)
        if found is not None:
            return float(not same(found, came_to))
        return float(all(np.isfinite(a).all() for a in came_to.values()))

    for row in _beginnings(job, arrays_of(job, state), first, states):
        (each,) = weighed([row], left)
        if not each.residual:
            sentence = f"The run that was resumed after step {first} {row.sentence}."
            return [Diagnosis(row.kind, sentence, 0.0)]
    return []


def _come_to(job: Job, begun: Begun, first: int, last: int) -> Arrays:
    """Return the state that a beginning leads to; NaN where its loss is no number."""
    engine = Misnumbered(job, begun)
    with contextlib.suppress(NonFiniteError), np.errstate(all="ignore"):
        for _ in engine.train(first, last + begun.more, lambda: False, 1):
            pass
        return arrays_of(job, engine.state())
    return {name: np.full_like(array, np.nan) for name, array in begun.state.items()}


def _beginnings(job: Job, right: Arrays, first: int, states: States) -> Iterator[Mistake[Begun]]:
    """Yield what a run may go on with: what mistakes make of all arrays or some, other numbers."""
    slots = job.updater.rule.slots
    scopes = [list(slots), *([name] for name in right), [*right]]
    yield from _numbered(right, slots, first)
    for row in mistakes(job, states):
        for names in scopes if slots else scopes[1:2]:
            other = {n: row.change(right, n) if n in names else a for n, a in right.items()}
            if not all(np.isfinite(a).all() for a in other.values()):
                continue  # what is missing comes to nothing, whatever else is wrong
            kind = _kind(row, names)
            everything = len(names) == len(right)
            elsewhere = kind == OTHER_STEP or (row.kind == LOST and everything and slots)
            what = "everything" if everything else _called([(name, "") for name in names])
            text = f"went on with {what} {row.sentence}"
            yield Mistake(ELSEWHERE if elsewhere else kind, text, Begun(other))


def _numbered(right: Arrays, slots: Sequence[str], first: int) -> Iterator[Mistake[Begun]]:
    kind = "step-miscounted"
    for off, what in ((-first, "from the first again"), (-1, "one too low"), (1, "one too high")):
        text = f"counts its steps {what}"
        yield Mistake(kind, text, Begun(right, off, off))
        yield Mistake(kind, f"{text}, and does others again", Begun(right, off, off, -off))
        yield Mistake(kind, f"{text} where it chooses its rows", Begun(right, off, 0))
        yield Mistake(kind, f"{text} in the optimizer", Begun(right, 0, off))
    if slots:
        text = f"has lost the optimizer's {listed(slots)}, and the count of steps"
        lost = {n: 0 * a if n in slots else a for n, a in right.items()}
        yield Mistake("state-lost", text, Begun(lost, 0, -first))


def same(found: Arrays, wanted: Arrays) -> bool:
    """Return whether two states have the same numbers."""
    return all(np.array_equal(found[name], a, equal_nan=True) for name, a in wanted.items())


def _unequal(found: Array, wanted: Array) -> Array:
    unequal: Array = found.view(np.uint64) != wanted.view(np.uint64)
    return unequal


def _place(tensors: Sequence[Tensor], wrong: Array, could: Array) -> str:
    """Return which part is wrong, of what could be; ``""``: all of it."""
    if (wrong == could).all():
        return ""
    hit = [t for t in tensors if wrong[t.start : t.stop].any()]
    if all((wrong[t.start : t.stop] == could[t.start : t.stop]).all() for t in hit):
        return listed([t.name for t in hit])
    places = np.flatnonzero(wrong)
    return f"elements {places[0]} to {places[-1]} of {len(wrong):,}"


def _called(parts: Sequence[tuple[str, str]]) -> str:
    """Return what arrays, and parts of them, are called."""
    names = [place or "the weights" for array, place in parts if array == WEIGHTS]
    slots: dict[str, list[str]] = {}
    for array, place in parts:
        if array != WEIGHTS:
            slots.setdefault(f" of {place}" if place else "", []).append(array)
    return listed(names + [f"the optimizer's {listed(each)}{of}" for of, each in slots.items()])


def _said(parts: Sequence[tuple[str, str]], text: str) -> str:
    names = _called(parts)
    many = len(parts) > 1 or names == "the weights" or " and " in names
    return f"{names} {'are' if many else 'is'} {text}"


def _after(step: int) -> str:
    return f"after step {step}" if step else "before the first step"


def listed(names: Sequence[str]) -> str:
    """Return names as one would say them, those beyond the first few left out."""
    shown = [*names[:SHOWN], "…"] if len(names) > SHOWN else [*names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
