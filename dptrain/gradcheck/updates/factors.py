"""What gradient an optimizer was given, read off its state or the weights: its rule turned round.

A factor between that and the gradient that should have been given is fitted to the whole vector, or
to each part that is updated by itself. Of a clipped gradient it is the limit divided by the norm
that was used; that norm is looked for among all that a mistake could make of the squares of chunks,
ranks' slices and tensors, of this step and the one before. What is no factor is given to those who
know what can go wrong with a gradient on its way.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from dptrain.arithmetic.shards import assign, shard_sizes
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.diagnosis import Diagnosis, Mistake, times
from dptrain.gradcheck.forensics import EXACT, UNEXPLAINED, diagnose
from dptrain.gradcheck.hypotheses.areas import MOST_NAMES, Area
from dptrain.gradcheck.hypotheses.evidence import Evidence, Past, Recipe
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.updates.course import Course
from dptrain.gradcheck.updates.mistakes import Known, wrong_norms
from dptrain.gradcheck.updates.textbook import Array, Given, factor_of, norm_of
from dptrain.optim.updater import NORM_CHUNK

# Roundings between a gradient and what it is read off; and of factors that are told from others.
READ, ROUNDINGS = 8.0, 64.0
# Norms are told from others if they differ by more than this.
TOLD = 1e-10
# So many parts that all combinations of them can be tried.
FEW = 8
# A factor that is less sure than this tells no norm from another.
UNSURE = 1e-4
RACE, NORM, GRADIENT = "race", "clipped-by-another-norm", "update-factor"
# An element is not compared where rounding takes more than this of its tensor's largest.
BLURRED = 1e-3


class Read(NamedTuple):
    """The gradient that an optimizer was given in a step, as it was read off.

    Attributes:
        given: what the step should have been given.
        found: the gradient, as it came to the penalties, ``(size,)``; 0 for what is not trained.
        room: how far rounding can have moved it, likewise.
        right: by what the gradient should be multiplied.
    """

    given: Given
    found: Array
    room: Array
    right: float

    def factor(self, area: Area) -> tuple[float, float]:
        """Return by what the gradient of an area was multiplied, and how sure that is.

        NaN where it cannot be told.
        """
        own = slice(area.start, area.stop)
        g, found = self.given.gradient[own], self.found[own]
        room = np.maximum(self.room[own], UNITS["float64"] * np.abs(g))
        with np.errstate(all="ignore"):
            weight = np.where(room > 0, 1 / room, 0.0)
            weight /= weight.max(initial=0) or 1.0
            a, b = g * weight, found * weight
            square = float(a @ a)
            if not square:
                return math.nan, math.inf
            return float(a @ b) / square, float(np.abs(a) @ (room * weight)) / square


def read(run: Course, at: int) -> Read:
    """Return the gradient that the optimizer was given in the step of this place."""
    step, book, unit = run.steps[at], run.book, UNITS[run.job.dtype.name]
    before, after = (np.asarray(s.parameters, float) for s in (step.before, step.after))
    names, old, new = book.rule.scales, run.state(step.before), run.state(step.after)
    moment = book.rule.moment or "squares"
    kept, taken = book.rule.kept, book.rule.taken
    if moment == "squares":
        kept, taken = book.rule.kept2, book.rule.taken2
    with np.errstate(all="ignore"):
        if not names:
            old, new = {moment: -before}, {moment: -after}
            kept, taken = 1.0, book.rates(step.number)
        found = (new[moment] - kept * old[moment]) / taken
        size = (np.abs(new[moment]) + np.abs(kept * old[moment])) / abs(taken)
        if moment in names and moment == "squares":
            root = np.sqrt(np.maximum(found, 0))
            # of what is far smaller than what it is read off, only the order of magnitude is known
            size = size / np.maximum(root, np.sqrt(unit * size) + 1e-300)
            found = np.sign(before - after) * root
    g = np.asarray(run.gradients[at], float)
    given = Given(step.number, before, np.where(book.trained, g, 0.0), g)
    penalty = book.l1.gradient(given) + book.decay.gradient(given)
    room = np.where(book.trained, READ * unit * (size + np.abs(penalty)), 0.0)
    right = factor_of(norm_of(given.gradient), book.limit)
    return Read(given, np.where(book.trained, found - penalty, 0.0), room, right)


def factors(run: Course, areas: Sequence[Area], slices: Sequence[Area]) -> Iterator[Known]:
    """Yield optimizers that multiply the gradient by the factors that were found.

    Args:
        run: that was seen.
        areas: that are updated one by one.
        slices: whose norms are computed one by one.
    """
    seen = [read(run, i) for i in range(len(run.steps))]
    whole = [Area("", 0, run.job.network.size)]
    tensors = [Area(t.name, t.start, t.stop) for t in run.tensors if t.trained]
    told = ROUNDINGS * UNITS[run.job.dtype.name]
    for parts in (whole, areas, tensors):
        if len(parts) == 1 and parts is not whole:
            continue
        found: list[list[float]] = []
        for each in seen:
            pairs = [each.factor(part) for part in parts]
            right = each.right
            found.append(
                [f if abs(f - right) > told * right + room else right for f, room in pairs]
            )
        wrong = [any(f != s.right for f in own) for own, s in zip(found, seen, strict=True)]
        alike = (max(own) - min(own) <= 16 * told * max(map(abs, own)) for own in found)
        if not any(wrong) or (len(parts) > 1 and all(alike)):
            continue
        first = wrong.index(True)
        kind, what = _named(run, seen[: first + 1], slices, parts, found[first])
        by_step = dict(zip(run.numbers, found, strict=True))

        def clip(
            given: Given, parts: Sequence[Area] = parts, by: Mapping[int, list[float]] = by_step
        ) -> Array:
            g = given.gradient.copy()
            for part, factor in zip(parts, by[given.number], strict=True):
                g[part.start : part.stop] *= factor
            return g

        sentence = f"In step {run.numbers[first] + 1} {what}."
        yield Mistake(kind, sentence, replace(run.book, clip=clip))


def _named(
    run: Course,
    seen: Sequence[Read],
    slices: Sequence[Area],
    parts: Sequence[Area],
    own: list[float],
) -> tuple[str, str]:
    """Return the kind of a mistake that makes these factors of parts, and what it does."""
    now, limit = seen[-1], run.book.limit
    rooms = [room / abs(factor) for factor, room in map(now.factor, parts) if factor]
    unsure = min(max((room for room in rooms if np.isfinite(room)), default=0.0), UNSURE)
    told = max(TOLD, ROUNDINGS * UNITS[run.job.dtype.name]) + 2 * unsure
    norms = [*_norms(run, seen, slices)] if math.isfinite(limit) else []
    said: dict[str, list[Area]] = {}
    kinds: dict[str, str] = {}
    for part, factor in zip(parts, own, strict=True):
        if factor != now.right:
            kind, what = _said(now, factor, limit, norms, told)
            said.setdefault(what, []).append(part)
            kinds[what] = kind
    kind = next(iter(kinds.values()))
    if len(parts) == 1:
        return kind, f"the gradient {next(iter(said))}"
    clipped = any(each in (RACE, NORM) for each in kinds.values())
    words = "; that of ".join(f"{_listed(where)} {what}" for what, where in said.items())
    if clipped and parts is slices:
        return RACE, f"the gradient of {words}, not all parts by the same: a race"
    return kind, f"the gradient of {words}"


def _said(
    now: Read, factor: float, limit: float, norms: Sequence[tuple[str, str, float]], told: float
) -> tuple[str, str]:
    """Return kind and words of a wrong factor."""
    right = now.right
    for value, kind, what in (
        (0.0, "update-skipped", "counts nothing: what belongs to it is not updated"),
        (right**2, "clipped-twice", "is clipped twice"),
        (2 * right, "update-applied-twice", "counts twice"),
        (-right, "gradient-sign", "has the wrong sign"),
    ):
        if value != right and abs(factor - value) <= told * max(abs(value), 1e-3):
            return kind, what
    if not math.isfinite(limit) or factor <= 0:
        return GRADIENT, f"is multiplied by {factor / right:.6g}"
    if abs(factor - 1) <= told:
        small = (what for kind, what, square in norms if kind == RACE and square <= limit**2)
        return NORM, ", as if it ".join(["is not clipped", *list(small)[:1]])
    square = (limit / factor) ** 2
    for kind, what, other in norms:
        if abs(square - other) <= told * max(square, other):
            return kind, what
    ratio = times(limit / factor / norm_of(now.given.gradient))
    return NORM, f"is clipped by a norm that is {ratio} what it should be"


def _norms(
    run: Course, seen: Sequence[Read], slices: Sequence[Area]
) -> Iterator[tuple[str, str, float]]:
    """Yield norms that a mistake could use, squared, the likelier first."""
    given = seen[-1].given
    g, old = given.gradient, seen[-2].given.gradient if len(seen) > 1 else None
    what, size = "is clipped by", len(g)
    for kind, words, norm in wrong_norms(run):
        yield kind, f"{what} {words}", norm(given) ** 2
    cuts = [(k, min(k + NORM_CHUNK, size)) for k in range(0, size, NORM_CHUNK)]
    chunks = [Area(f"elements {a} to {b - 1}", a, b) for a, b in cuts]
    tensors = [Area(t.name, t.start, t.stop) for t in run.tensors if t.trained]
    for areas in (list(slices), chunks, tensors):
        own = np.array([float(np.sum(g[a.start : a.stop] ** 2)) for a in areas])
        late = [0.0 if old is None else float(np.sum(old[a.start : a.stop] ** 2)) for a in areas]
        ways = [(NORM, "lacks {}", -own), (NORM, "has {} twice", own)]
        if old is not None:
            ways.insert(1, (RACE, "has {} as of the step before", np.array(late) - own))
        for n in range(1, len(areas) if len(areas) <= FEW else 2):
            for some, (kind, words, more) in product(combinations(range(len(areas)), n), ways):
                names = words.format(_listed([areas[i] for i in some]))
                square = norm_of(g) ** 2 + float(more[list(some)].sum())
                yield kind, f"{what} a norm that {names}", square
    if old is not None:
        yield RACE, f"{what} the norm of the step before", norm_of(old) ** 2
    for rank, part in enumerate(run.partials.get(given.number, ())):
        yield NORM, f"{what} the norm of rank {rank}'s part, not of the sum", norm_of(part) ** 2


def _listed(areas: Sequence[Area]) -> str:
    names = [each.name for each in areas]
    if len(names) > MOST_NAMES:
        return f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    return " and ".join(names)


def given_gradient(run: Course, at: int, areas: Sequence[Area]) -> Iterator[Diagnosis]:
    """Yield what is wrong with the gradient that the optimizer was given in the step of a place.

    A gradient that is right where it is recorded may be wrong where it is clipped, or where an
    optimizer has other buffers: then it takes another way.
    """
    now = read(run, at)
    right = now.given.gradient
    with np.errstate(all="ignore"):
        found, room = now.found / now.right, now.room / now.right
    room = room + 4 * ROUNDINGS * UNITS[run.job.dtype.name] * np.abs(right)
    off = ~(np.abs(found - right) <= room)
    if not off.any():
        return
    known, sharp = np.zeros(len(found), bool), EXACT
    for tensor in run.tensors:
        own = slice(tensor.start, tensor.stop)
        largest = float(np.abs(right[own]).max(initial=0))
        known[own] = tensor.trained & (room[own] <= BLURRED * largest)
        if known[own].any():
            sharp = max(sharp, float(room[own][known[own]].max()) / largest)
    evidence = _evidence(run, at, np.where(off, found, right), right, known, areas)
    if (np.abs(evidence.shards.sum(axis=0) - right) > room)[known].any():
        return  # what it is compared with cannot be computed twice
    for each in diagnose(evidence, exact=sharp):
        if each.kind != UNEXPLAINED:
            what = f"The gradient as the optimizer is given it: {each.sentence}."
            left = 0.0 if each.residual < max(sharp, 1e-3) else each.residual
            yield Diagnosis(each.kind, what, left)


def _evidence(
    run: Course, at: int, found: Array, right: Array, known: Array, areas: Sequence[Area]
) -> Evidence:
    job, local = run.job, Local(run.job)
    ranks = assign(job.shards, run.workers)
    number, weights = run.steps[at].number, run.steps[at].before.parameters

    def of(parameters: Array, step: int) -> Array:
        return local.shards(parameters, step).astype(float)

    def again(recipe: Recipe) -> Array:
        if (recipe.weights is None) == (recipe.step is None):
            raise NotImplementedError("nothing else can be computed again")
        place = weights if recipe.weights is None else recipe.weights
        return of(place, number if recipe.step is None else recipe.step)

    past = []
    for each in run.steps[:at]:
        before = each.before.parameters
        past.append(Past(np.asarray(before, float), of(before, each.number)))
    return Evidence(
        [t for t in run.tensors if t.trained],
        found,
        right,
        of(weights, number),
        shard_sizes(len(job.minibatch(number)), job.shards),
        ranks,
        job.batch_size,
        past,
        parts=again,
        compared=known,
        areas=areas,
        step=number,
        parameters=np.asarray(weights, float),
    )
