"""The rows that a job has in its steps, and how they come about: each mistake changes one thing."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import Diagnosis, Mistake, likeliest, safely, weighed
from dptrain.gradcheck.hypotheses.orders import (
    UNKNOWN,
    Sighting,
    bounds_of,
    edges_of,
    facts,
    listed,
    orders,
)
from dptrain.gradcheck.reference.augmentation import Augmented
from dptrain.gradcheck.reference.minibatches import Stored, Visits

Array = NDArray[Any]

# The last is a multiple of every small number by which epochs could be counted.
EPOCHS = (0, 1, 2, 3, 4, 720_720)
# Of an epoch with more steps than that, the first ones and the last.
FIRST_STEPS = 2
# Ranks are looked at in one epoch alone: what they do differently is the same in all of them.
EPOCHS_OF_RANKS = (1,)
# Numbers of the data that are searched for rows that nobody expects, and so many rows at a time.
MOST, PIECE = 50_000_000, 4096
# What is left is rounding if it is so small a part of the inputs, and of what is wrong.
CLOSE, LITTLE = 1e-6, 1e-3


class Seen(NamedTuple):
    """The rows of a step, as a job has them.

    Attributes:
        step: counted from 0.
        workers: so many ranks had them, one after the other; 0 for one process alone.
        wanted: the stored rows that belong to the step, in order.
        x: inputs ``(rows, *sample)`` of all ranks.
        t: targets of all ranks.
        w: weights of all ranks' rows, 1 where they have none.
        ranks: rows of each rank.
    """

    step: int
    workers: int
    wanted: Array
    x: Array
    t: Array
    w: Array
    ranks: tuple[int, ...]

    @property
    def where(self) -> str:
        """For a reader."""
        return f"{self.workers} ranks, step {self.step}" if self.workers else f"step {self.step}"

    @property
    def whole(self) -> bool:
        """Whether there are as many rows as there should be, and any."""
        return 0 < len(self.x) == len(self.t) == len(self.wanted)


def seen(job: Job, visits: Visits, workers: int = 0) -> Iterator[Seen]:
    """Yield the rows of some steps, ascending, and at last those of the first one again.

    Every rank's share is looked at, ``workers`` being the world size; 0 stands for no ranks.
    """
    rank = Rank(job, [np.zeros(job.network.size, job.dtype)])
    bounds = assign(job.shards, workers) if workers else ((0, job.shards),)
    steps = _steps(visits, EPOCHS_OF_RANKS if workers else EPOCHS)
    for step in [*steps, steps[0]]:
        xs, ts = [], []
        ws: list[Array] = []
        for low, high in bounds:
            found = rank.gather(Share(step, low, high))
            xs.append(np.array([row for each in found.inputs for row in each]))
            ts.append(np.array([row for each in found.targets for row in each]))
            ws += found.row_weights or [np.ones(len(xs[-1]))]
        x, t = (np.concatenate([p for p in parts if len(p)] or parts[:1]) for parts in (xs, ts))
        w = np.concatenate(ws).astype(float)
        yield Seen(step, workers, visits.minibatch(step), x, t, w, tuple(map(len, xs)))


def _steps(visits: Visits, epochs: Sequence[int]) -> list[int]:
    places = sorted({*range(min(FIRST_STEPS, visits.per_epoch)), visits.per_epoch - 1})
    return [epoch * visits.per_epoch + place for epoch in epochs for place in places]


def _wanted(each: Seen) -> Array:
    return each.wanted


def _as_it_is(values: Array) -> Array:
    return values


def as_stored(_: Seen, x: Array) -> Augmented:
    """Return inputs to which nothing is done."""
    return Augmented(x, np.zeros(x.shape))


class Recipe(NamedTuple):
    """How the rows of a step come about.

    Their inputs are of the stored ``rows``, their targets of the same or of those of ``labels``; by
    ``room`` inputs may differ beyond what the bounds of augmentation allow.
    """

    rows: Callable[[Seen], Array] = _wanted
    labels: Callable[[Seen], Array] | None = None
    inputs: Callable[[Array], Array] = _as_it_is
    targets: Callable[[Array], Array] = _as_it_is
    augment: Callable[[Seen, Array], Augmented] = as_stored
    room: float = 0.0

    def wrong(self, each: Seen, stored: Stored) -> Array:
        """Return which rows of a step are not as they would be, bool; if it has so many."""
        rows = self.rows(each)
        if not len(rows) == len(each.x) == len(each.t):
            return np.ones(max(len(rows), len(each.x)), bool)
        if not len(rows):
            return np.zeros(0, bool)
        x, bound = self.augment(each, self.inputs(stored.inputs(rows)))
        t = self.targets(stored.targets(self.labels(each) if self.labels else rows))
        with np.errstate(invalid="ignore", over="ignore"):
            off = ~(np.abs(each.x.astype(float) - x) <= bound + self.room)
        differ: Array = off.reshape(len(off), -1).any(axis=1)
        differ |= (each.t != t).reshape(len(t), -1).any(axis=1)
        return differ


Row = Mistake[Recipe]


def diagnose_rows(
    found: Sequence[Seen], stored: Stored, visits: Visits, shards: int
) -> list[Diagnosis]:
    """Return what could be wrong with rows as they are stored, the best explanation first."""

    def wrong(recipe: Recipe) -> int:
        return sum(int(recipe.wrong(each, stored).sum()) for each in found)

    beyond = wrong(Recipe())
    if not beyond:
        return []
    sightings = [Sighting(s.step, s.wanted, r) for s, r in _identified(found, stored, visits)]
    unknown = sum(int((each.seen == UNKNOWN).sum()) for each in sightings)
    whole = [each for each in found if each.whole]
    inputs = [_differ(s.x, stored.inputs(s.wanted)) for s in whole]
    targets = [_differ(s.t, stored.targets(s.wanted)) for s in whole]
    others = [
        (s.step, int(row)) for s, t in zip(whole, targets, strict=True) for row in s.wanted[t]
    ]
    workers = found[0].workers
    rows = [*_visited(visits, workers, shards), *_ranks(workers, shards)]
    rows += [*_inputs(stored), *_targets(visits), *safely(_fitted(whole, stored))]
    told = weighed(rows, lambda recipe: wrong(recipe) / beyond)
    if not any((t & ~x).any() for t, x in zip(targets, inputs, strict=True)):
        residual = min(1.0, unknown / beyond)
        told += [Diagnosis(*each, residual) for each in facts(visits, sightings)]
    if others:
        sentence = f"Targets are not those of their rows: {listed(others)}."
        residual = min(1.0, sum(map(np.count_nonzero, inputs)) / len(others))
        told.append(Diagnosis("targets-of-other-rows", sentence, residual))
    if unknown:
        sentence = f"{unknown} of the rows seen have inputs that no row of the data has."
        told.append(Diagnosis("inputs-unknown", sentence, 0.05))
    return likeliest(told)


def _differ(a: Array, b: Array) -> Array:
    found: Array = (a != b).reshape(len(a), -1).any(axis=1)
    return found


def _visited(visits: Visits, workers: int, shards: int) -> Iterator[Row]:
    for order in orders(visits, bounds_of(shards, workers) if workers else (), shards):
        yield Mistake(order.kind, order.sentence, Recipe(partial(_of_step, order.minibatch)))


def _ranks(workers: int, shards: int) -> Iterator[Row]:
    """Yield which rows of the minibatch ranks may have instead of their own."""
    ranks = range(1, workers)
    for which, who in ((ranks, "All ranks have"), *(([r], f"Rank {r} has") for r in ranks)):
        begin = f"{who} the rows"
        same = Recipe(partial(_of_places, workers, shards, which, lambda own: own - own[0]))
        yield Mistake("same-shard", f"{begin} of rank 0.", same)
        for by, what in ((-1, "early"), (1, "late")):
            moved = Recipe(partial(_of_places, workers, shards, which, partial(np.add, by)))
            yield Mistake("overlapping-shards", f"{begin} that begin one too {what}.", moved)


def _of_places(
    workers: int, shards: int, ranks: Sequence[int], change: Callable[[Array], Array], each: Seen
) -> Array:
    places = np.arange(len(each.wanted))
    for rank, (low, high) in enumerate(edges_of(bounds_of(shards, workers), len(places), shards)):
        if rank in ranks and high > low:
            places[low:high] = change(places[low:high]) % len(places)
    return each.wanted[places]


def _of_step(minibatch: Callable[[int], Array], each: Seen) -> Array:
    return minibatch(each.step)


def _targets(visits: Visits) -> Iterator[Row]:
    """Yield what may be done to the targets of rows whose inputs are right."""
    kind, which = "targets-of-other-rows", "The targets of a minibatch are"
    if visits.stored > len(visits.train):
        sentence = "Targets are taken without the index of the split: inputs and targets part."
        places = Recipe(labels=lambda each: np.searchsorted(visits.train, each.wanted))
        yield Mistake(kind, sentence, places)
    for sentence, labels in (
        (f"{which} rotated by 1 against its inputs.", lambda each: np.roll(each.wanted, 1)),
        (f"{which} rotated by -1 against its inputs.", lambda each: np.roll(each.wanted, -1)),
        (f"{which} in the opposite order of its inputs.", lambda each: each.wanted[::-1]),
        (f"{which} not shuffled as its inputs are.", lambda each: np.sort(each.wanted)),
        (
            "Targets are those of the step before.",
            lambda e: np.resize(visits.minibatch(max(e.step - 1, 0)), len(e.wanted)),
        ),
    ):
        yield Mistake(kind, sentence, Recipe(labels=labels))
    for kind, sentence, targets in (
        ("targets-changed", "Targets are +1 against those of the data.", lambda t: t + 1),
        ("targets-changed", "Targets are -1 against those of the data.", lambda t: t - 1),
        ("targets-changed", "Targets have the opposite sign.", lambda t: -t),
        ("targets-changed", "Targets are 1 less what they should be.", lambda t: 1 - t),
        ("targets-rounded", "Targets are rounded to float32.", lambda t: t.astype("f4")),
        ("targets-rounded", "Targets are rounded to float16.", lambda t: t.astype("f2")),
    ):
        yield Mistake(kind, sentence, Recipe(targets=targets))


def _inputs(stored: Stored) -> Iterator[Row]:
    """Yield what may be done to the inputs of the right rows."""
    for name in ("float32", "float16"):
        rounded = Recipe(inputs=partial(np.ndarray.astype, dtype=name))
        yield Mistake("inputs-rounded", f"Inputs are rounded to {name}.", rounded)
    kind, shape = "inputs-permuted", stored.x.shape
    axes = ("rows", "columns", "elements") if len(shape) > 2 else ("elements",)
    for axis, name in enumerate(axes[: len(shape) - 1], 1):
        flipped = Recipe(inputs=partial(np.flip, axis=axis))
        yield Mistake(kind, f"The inputs' {name} are in the opposite order.", flipped)
        for by in (1, -1):
            moved = Recipe(inputs=partial(np.roll, shift=by, axis=axis))
            yield Mistake(kind, f"The inputs' {name} are moved on by {by}.", moved)
    if len(shape) > 2 and shape[1] == shape[2]:
        turned = Recipe(inputs=lambda x: np.swapaxes(x, 1, 2))
        yield Mistake(kind, "Images are transposed: rows and columns are swapped.", turned)


def _fitted(whole: Sequence[Seen], stored: Stored) -> Iterator[Row]:
    """Yield what inputs have become, as far as they tell it themselves."""
    pairs = [(s.x.astype(float), stored.inputs(s.wanted).astype(float)) for s in whole]
    if not pairs:
        return
    found, wanted = (np.concatenate([p[i].reshape(-1) for p in pairs]) for i in (0, 1))
    wrong = float(np.abs(found - wanted).max(initial=0))
    if not wrong or not np.isfinite(found).all():
        return
    recipe = Recipe(room=min(CLOSE * float(np.abs(found).max()), LITTLE * wrong))
    factor = float(found @ wanted) / (float(wanted @ wanted) or 1.0)
    sentence = f"Inputs are {factor:.6g} times what they should be."
    yield Mistake("inputs-scaled", sentence, recipe._replace(inputs=lambda x: factor * x))
    columns = np.stack([wanted, np.ones(wanted.size)], axis=1)
    (slope, offset), *_ = np.linalg.lstsq(columns, found, rcond=None)
    sentence = f"Inputs x have become {slope:.6g} x + {offset:.6g}."
    yield Mistake("inputs-scaled", sentence, recipe._replace(inputs=lambda x: slope * x + offset))
    flat = [
        np.sort(each.reshape(len(s.x), -1)) for s, p in zip(whole, pairs, strict=True) for each in p
    ]
    if all(map(np.array_equal, flat[::2], flat[1::2])):
        sentence = "The elements of each row's inputs are in another order."
        yield Mistake("inputs-permuted", sentence, recipe._replace(room=np.inf))


def _identified(
    found: Sequence[Seen], stored: Stored, visits: Visits
) -> Iterator[tuple[Seen, Array]]:
    """Yield the stored rows that steps have, by their inputs; of equal ones those that should."""
    known: dict[int, list[int]] = defaultdict(list)
    searched = MOST // max(1, math.prod(stored.x.shape[1:]))
    for rows in (visits.train, visits.validation, visits.test, visits.spare):
        for start in range(0, min(len(rows), searched), PIECE):
            piece = rows[start : start + PIECE]
            for row, x in zip(piece.tolist(), stored.inputs(piece), strict=True):
                known[hash(x.tobytes())].append(row)
    for each in found:
        rows, own = np.full(len(each.x), UNKNOWN), each.wanted.tolist()
        for i, x in enumerate(each.x):
            likely = known.get(hash(x.tobytes()), [])
            better = [row for row in [*own[i : i + 1], *own] if row in likely]
            rows[i] = next(iter([*better, *likely]), UNKNOWN)
        yield each, rows
