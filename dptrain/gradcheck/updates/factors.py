"""By which factor the gradient was really multiplied before the rule, and which norm that tells.

The factor is fitted to the gradient that the optimizer was given, as
`dptrain.gradcheck.updates.applied` reads it off: one for the whole vector, or one for each part
that is updated by itself. Of a clipped gradient it is the limit divided by the norm that was used;
that norm is looked for among all that a mistake could make of the squares of chunks, ranks' slices
and tensors, of this step and the one before.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import times
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.hypotheses.areas import MOST_NAMES, Area
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.updates.applied import Applied, applied
from dptrain.gradcheck.updates.textbook import Array, Clipping, Slip, Textbook
from dptrain.optim.updater import NORM_CHUNK

# A factor is told from others if they differ by more than so many roundings, and a norm by more
# than this.
ROUNDINGS, TOLD = 64.0, 1e-10
# So many parts that all combinations of them can be tried.
FEW = 8
# A factor that is less sure than this tells no norm from another.
UNSURE = 1e-4
RACE, NORM, GRADIENT = "race", "clipped-by-another-norm", "update-factor"


class Seen(NamedTuple):
    """A step, with what is needed to find a factor.

    Attributes:
        step: of the run.
        gradient: that it should have been given, unclipped, 0 for what is not trained.
        averages: what running averages move towards, 0 elsewhere.
        given: what it was given.
        parts: each rank's part of the gradient, where it is known.
    """

    step: Step
    gradient: Array
    averages: Array
    given: Applied
    parts: Array | None = None

    def factor(self, area: Area) -> tuple[float, float]:
        """Return by what the gradient of an area was multiplied, and how sure that is.

        NaN where it cannot be told.
        """
        own = slice(area.start, area.stop)
        g, found = self.gradient[own], self.given.gradient[own]
        room = np.maximum(self.given.room[own], UNITS["float64"] * np.abs(g))
        with np.errstate(all="ignore"):
            weight = np.where(room > 0, 1 / room, 0.0)
            weight /= weight.max(initial=0) or 1.0
            a, b = g * weight, found * weight
            square = float(a @ a)
            if not square:
                return np.nan, np.inf
            return float(a @ b) / square, float(np.abs(a) @ (room * weight)) / square

    def squares(self, areas: Sequence[Area]) -> Array:
        """Return the squared norm of the gradient in each of some areas."""
        g = self.gradient
        return np.array([float(np.sum(g[a.start : a.stop] ** 2)) for a in areas])


def seen(
    job: Job, steps: Sequence[Step], gradients: Sequence[Array], partials: Mapping[int, Array]
) -> list[Seen]:
    """Return steps with the gradients that they were given and should have been.

    Args:
        job: settled.
        steps: one behind the other.
        gradients: that they should have been given, unclipped.
        partials: every rank's part of them, by the step's number, where that is known.
    """
    trained = Textbook(job).trained
    found = []
    for step, gradient in zip(steps, gradients, strict=True):
        g = np.asarray(gradient, float)
        own, others = np.where(trained, g, 0.0), np.where(trained, 0.0, g)
        parts = partials.get(step.number)
        found.append(Seen(step, own, others, applied(job, step), parts))
    return found


def factor_slips(
    job: Job, steps: Sequence[Seen], areas: Sequence[Area], slices: Sequence[Area]
) -> Iterator[Slip]:
    """Yield optimizers that multiply the gradient by the factors that were found.

    Args:
        job: settled.
        steps: that were seen, one behind the other.
        areas: that are updated one by one.
        slices: whose norms are computed one by one.
    """
    whole = [Area("", 0, job.network.size)]
    tensors = [Area(t.name, t.start, t.stop) for t in job.network.all_tensors() if t.trained]
    for parts in (whole, areas, tensors):
        if len(parts) > 1 or parts is whole:
            yield from _slip(job, steps, parts, slices)


def _slip(
    job: Job, steps: Sequence[Seen], parts: Sequence[Area], slices: Sequence[Area]
) -> Iterator[Slip]:
    told = ROUNDINGS * UNITS[job.dtype.name]
    factors: dict[int, list[float]] = {}
    first: int | None = None
    for i, each in enumerate(steps):
        right, found = right_factor(job, each), []
        for part in parts:
            factor, room = each.factor(part)
            found.append(factor if abs(factor - right) > told * right + room else right)
        factors[each.step.number] = found
        if first is None and any(f != right for f in found):
            first = i
    if first is None:
        return
    alike = [max(own) - min(own) <= 16 * told * max(map(abs, own)) for own in factors.values()]
    if len(parts) > 1 and all(alike):
        return
    before = steps[first - 1] if first else None
    found = factors[steps[first].step.number]
    kind, what = _Namer(job, steps[first], before, slices, parts).named(parts, found)
    sentence = f"In step {steps[first].step.number + 1} {what}."
    yield Slip(kind, sentence, clip=_multiplied(parts, factors))


def right_factor(job: Job, each: Seen) -> float:
    """Return by what the gradient should be multiplied."""
    limit, norm = job.experiment.clip_norm, float(np.linalg.norm(each.gradient))
    return 1.0 if limit is None or norm <= limit else limit / norm


def _multiplied(parts: Sequence[Area], factors: dict[int, list[float]]) -> Clipping:
    def clip(step: int, g: Array, limit: float) -> Array:  # noqa: ARG001
        found = g.copy()
        for part, factor in zip(parts, factors[step], strict=True):
            found[part.start : part.stop] *= factor
        return found

    return clip


class _Namer:
    """Says which mistake makes factors of a step."""

    def __init__(
        self,
        job: Job,
        now: Seen,
        before: Seen | None,
        slices: Sequence[Area],
        parts: Sequence[Area],
    ) -> None:
        self._limit = job.experiment.clip_norm
        rooms = [room / abs(factor) for factor, room in map(now.factor, parts) if factor]
        unsure = max((room for room in rooms if np.isfinite(room)), default=0.0)
        self._told = max(TOLD, ROUNDINGS * UNITS[job.dtype.name]) + 2 * min(unsure, UNSURE)
        self._right = right_factor(job, now)
        self._now, self._before = now, before
        self._slices = slices
        self._tensors = [t for t in job.network.all_tensors() if t.trained]
        self._norms = list(self._candidates()) if self._limit is not None else []

    def named(self, parts: Sequence[Area], factors: Sequence[float]) -> tuple[str, str]:
        """Return the kind of a mistake, and what it does."""
        said = [self._said(f) for f in factors]
        if len(parts) == 1:
            kind, what = said[0]
            return kind, f"the gradient {what}"
        wrong = {what: kind for kind, what in said if what}
        kinds = set(wrong.values())
        clipped = kinds & {RACE, NORM}
        kind = RACE if clipped and parts is self._slices else next(iter(wrong.values()))
        words = []
        for what in wrong:
            own = [p for p, (_, said_of) in zip(parts, said, strict=True) if said_of == what]
            words.append(f"{_listed(own)} {what}")
        same = "" if kind != RACE else ", not all parts by the same: a race"
        return kind, f"the gradient of {'; that of '.join(words)}{same}"

    def _said(self, factor: float) -> tuple[str, str]:
        """Return kind and words of one factor; no words where it is right."""
        right = self._right
        if factor == right:
            return "", ""
        for value, kind, what in (
            (0.0, "update-skipped", "counts nothing: what belongs to it is not updated"),
            (right**2, "clipped-twice", "is clipped twice"),
            (2 * right, "update-applied-twice", "counts twice"),
            (-right, "gradient-sign", "has the wrong sign"),
        ):
            if value != right and abs(factor - value) <= self._told * max(abs(value), 1e-3):
                return kind, what
        if self._limit is None or factor <= 0:
            return GRADIENT, f"is multiplied by {factor / right:.6g}"
        if abs(factor - 1) <= self._told:
            return NORM, "is not clipped" + self._unclipped()
        square = (self._limit / factor) ** 2
        for kind, what, other in self._norms:
            if abs(square - other) <= self._told * max(square, other):
                return kind, what
        norm = float(np.linalg.norm(self._now.gradient))
        return NORM, (
            f"is clipped by a norm that is {times(self._limit / factor / norm)} what it should be"
        )

    def _unclipped(self) -> str:
        """Return which norm is so small that nothing is clipped, if one is."""
        assert self._limit is not None
        for kind, what, other in self._norms:
            if kind == RACE and other <= self._limit**2:
                return f", as if it {what}"
        return ""

    def _candidates(self) -> Iterator[tuple[str, str, float]]:
        """Yield norms that a mistake could use, squared, the likelier first."""
        g = self._now.gradient
        total = float(g @ g)
        yield from self._averages(total)
        yield from self._groups()
        chunks = [
            Area(
                f"elements {k} to {min(k + NORM_CHUNK, len(g)) - 1}", k, min(k + NORM_CHUNK, len(g))
            )
            for k in range(0, len(g), NORM_CHUNK)
        ]
        tensors = [Area(t.name, t.start, t.stop) for t in self._tensors]
        for areas in (chunks, tensors, list(self._slices)):
            if len(areas) > 1:
                yield from self._without(areas, total)
        if self._before is not None:
            old = self._before.gradient
            yield RACE, "is clipped by the norm of the step before", float(old @ old)
        for rank, part in enumerate([] if self._now.parts is None else self._now.parts):
            what = f"is clipped by the norm of rank {rank}'s part, not of the sum"
            yield NORM, what, float(part @ part)
        yield NORM, "is clipped by its root mean square", total / (np.count_nonzero(g) or 1)
        yield NORM, "is clipped by its largest element", float(np.abs(g).max(initial=0)) ** 2
        yield NORM, "is clipped by the sum of its absolute values", float(np.abs(g).sum()) ** 2

    def _averages(self, total: float) -> Iterator[tuple[str, str, float]]:
        a = self._now.averages
        if not a.any():
            return
        what = "is clipped by a norm in which the running averages count"
        yield NORM, what, total + float(a @ a)
        for n in range(1, len(self._slices)):
            for own in combinations(self._slices, n):
                more = sum(float(np.sum(a[s.start : s.stop] ** 2)) for s in own)
                where = f"{what}, those in {_listed(own)}"
                yield NORM, where, total + more

    def _groups(self) -> Iterator[tuple[str, str, float]]:
        """Of each slice, the norm of this step, or of the one before, or none counts."""
        if not 1 < len(self._slices) <= FEW:
            return
        now = self._now.squares(self._slices)
        old = np.zeros(len(now)) if self._before is None else self._before.squares(self._slices)
        ages = (0, 1) if self._before is None else (0, 1, 2)
        tried = sorted(product(ages, repeat=len(now)), key=lambda each: sum(a > 0 for a in each))
        for chosen in tried:
            if not any(chosen) or len(now) > FEW // 2 < sum(a > 0 for a in chosen):
                continue
            square = sum((n, 0.0, o)[a] for a, n, o in zip(chosen, now, old, strict=True))
            lacks = [s for s, a in zip(self._slices, chosen, strict=True) if a == 1]
            late = [s for s, a in zip(self._slices, chosen, strict=True) if a == 2]
            said = [f"lacks {_listed(lacks)}"] * bool(lacks)
            said += [f"has {_listed(late)} as of the step before"] * bool(late)
            kind = RACE if late else NORM
            yield kind, f"is clipped by a norm that {' and '.join(said)}", square

    def _without(self, areas: Sequence[Area], total: float) -> Iterator[tuple[str, str, float]]:
        """Some of several areas are missing, or count twice, or stand in others' places."""
        squares = self._now.squares(areas)
        what = "is clipped by a norm that"
        most = len(areas) - 1 if len(areas) <= FEW else 1
        for n in range(1, most + 1):
            for own in combinations(range(len(areas)), n):
                part = float(squares[list(own)].sum())
                names = _listed([areas[i] for i in own])
                yield NORM, f"{what} lacks {names}", total - part
                yield NORM, f"{what} has {names} twice", total + part
        for lost, again in product(range(len(areas)), repeat=2):
            if lost != again:
                words = f"{what} has {areas[again].name} twice, and lacks {areas[lost].name}"
                yield NORM, words, total - float(squares[lost]) + float(squares[again])
        sums = np.concatenate([[0.0], np.cumsum(squares)])
        for low, high in combinations(range(len(areas) + 1), 2) if len(areas) > FEW else ():
            names = f"{areas[low].name} to {areas[high - 1].name}"
            yield NORM, f"{what} lacks {names}", total - float(sums[high] - sums[low])


def _listed(areas: Sequence[Area]) -> str:
    names = [each.name for each in areas]
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return " and ".join(names)
