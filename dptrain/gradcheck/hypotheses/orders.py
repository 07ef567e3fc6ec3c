"""Bugs in which rows are visited when: other orders of an epoch, and what the rows seen tell."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.minibatches import Visits, sizes

Array = NDArray[Any]
Minibatch = Callable[[int], Array]

SHOWN = 4
# Epochs after which an order may come again by mistake.
PERIODS = (2, 3, 4)
UNKNOWN = -1


class Order(NamedTuple):
    """A bug, and the rows that steps would visit.

    Attributes:
        kind: as of `Diagnosis`.
        sentence: likewise.
        minibatch: returns the stored rows of a step, in order.
    """

    kind: str
    sentence: str
    minibatch: Minibatch


class Sighting(NamedTuple):
    """The rows of a step.

    Attributes:
        step: counted from 0.
        wanted: the stored rows that it should have visited, in order.
        seen: those that it has visited, with `UNKNOWN` for what is no stored row.
    """

    step: int
    wanted: Array
    seen: Array


def orders(
    visits: Visits, bounds: Sequence[tuple[int, int]] = (), shards: int = 1
) -> Iterator[Order]:
    """Yield orders in which rows may be visited by mistake.

    Args:
        visits: how it should be.
        bounds: the range of shards of each rank, if there are ranks.
        shards: of a minibatch.
    """
    yield from _other_epochs(visits)
    yield from _other_cuts(visits)
    yield from _other_rows(visits)
    if len(bounds) > 1:
        sentence = "Every rank shuffles with a seed of its own, so that some rows are read by two."
        yield Order("overlapping-shards", sentence, _by_rank(visits, bounds, shards))


def _other_epochs(visits: Visits) -> Iterator[Order]:
    again = "The order of the rows comes again after"
    far, same, other = max(PERIODS), "same-order", "order-of-another-epoch"
    for kind, sentence, epoch in (
        (same, "Every epoch visits the rows in the same order.", lambda _: 0),
        *((same, f"{again} {period} epochs.", _repeated_after(period)) for period in PERIODS),
        (same, f"{again} more than {far} epochs.", lambda e: e if e <= far else 0),
        (other, "Every epoch visits the rows in the order of the epoch after it.", lambda e: e + 1),
        (other, "Every epoch visits the rows in the order of the epoch before it.",
         lambda e: max(e - 1, 0)),
    ):  # fmt: skip
        yield Order(kind, sentence, _in_order_of(visits, epoch))
    unshuffled = _by_epoch(visits, lambda _: np.arange(len(visits.train)))
    yield Order("not-shuffled", "The rows are not shuffled.", unshuffled)
    for seed in sorted({0, 1, visits.seed + 1} - {visits.seed}):
        sentence = f"The rows are shuffled with the seed {seed} instead of {visits.seed}."
        yield Order("order-of-another-seed", sentence, _shuffled_with(visits, seed).minibatch)


def _repeated_after(period: int) -> Callable[[int], int]:
    return lambda epoch: epoch % period


def _in_order_of(visits: Visits, epoch: Callable[[int], int]) -> Minibatch:
    return _by_epoch(visits, lambda each: visits.order(epoch(each)))


def _by_epoch(visits: Visits, order: Callable[[int], Array]) -> Minibatch:
    """Return the minibatches of other orders of the training rows."""

    def minibatch(step: int) -> Array:
        epoch, position = divmod(step, visits.per_epoch)
        first = position * visits.batch_size
        return visits.train[order(epoch)[first : first + visits.batch_size]]

    return minibatch


def _shuffled_with(visits: Visits, seed: int) -> Visits:
    """Return the same rows in the orders of another seed."""
    return replace(visits, experiment=msgspec.structs.replace(visits.experiment, seed=seed))


def _other_cuts(visits: Visits) -> Iterator[Order]:
    n, batch, per_epoch = len(visits.train), visits.batch_size, visits.per_epoch
    if n % batch and n > batch:
        yield Order(
            "rows-lost",
            "The last minibatch of an epoch, which is smaller, is lost.",
            lambda step: visits.minibatch(
                step // (per_epoch - 1) * per_epoch + step % (per_epoch - 1)
            ),
        )
        what = "The last minibatch of an epoch is filled up with"
        for first, rows in ((n - batch, "rows before it"), (None, "the epoch's first rows")):
            yield Order("minibatch-filled-up", f"{what} {rows}.", _filled_up(visits, first))
    kind = "rows-of-another-step"
    sentence = "Every step visits the rows of the step after it."
    yield Order(kind, sentence, lambda step: visits.minibatch(step + 1))
    sentence = "Every step visits the rows of the step before it."
    yield Order(kind, sentence, lambda step: visits.minibatch(max(step - 1, 0)))


def _filled_up(visits: Visits, first: int | None) -> Minibatch:
    """Return minibatches of which the last begins at a place, or goes on at the beginning."""

    def minibatch(step: int) -> Array:
        epoch, position = divmod(step, visits.per_epoch)
        if position < visits.per_epoch - 1:
            return visits.minibatch(step)
        start = position * visits.batch_size if first is None else first
        places = (start + np.arange(visits.batch_size)) % len(visits.train)
        return visits.train[visits.order(epoch)[places]]

    return minibatch


def _other_rows(visits: Visits) -> Iterator[Order]:
    if visits.stored > len(visits.train):
        sentence = (
            "Numbers of training rows are taken for numbers of all rows, also those held out."
        )
        plain = replace(visits, train=np.arange(len(visits.train)))
        yield Order("rows-without-index", sentence, plain.minibatch)
    if len(visits.spare):
        sentence = "All rows that are not held out are trained on, not only train_rows of them."
        more = visits.with_settings(train_rows=None)
        yield Order("rows-outside-training", sentence, more.minibatch)
    held = {"test": visits.test, "validation": visits.validation}
    none = {name: 0.0 for name, rows in held.items() if len(rows)}
    for name in none:
        sentence = f"No rows are held out for {name.replace('test', 'testing')}: "
        other = visits.with_settings(**{name: 0.0})
        yield Order("held-out-rows-trained", f"{sentence}all may be trained on.", other.minibatch)
    if none:
        sentence = "All rows are trained on, also those that are held out."
        everything = visits.with_settings(train_rows=None, **none)
        yield Order("held-out-rows-trained", sentence, everything.minibatch)


def _by_rank(visits: Visits, bounds: Sequence[tuple[int, int]], shards: int) -> Minibatch:
    others = [_shuffled_with(visits, visits.seed + rank) for rank in range(len(bounds))]

    def minibatch(step: int) -> Array:
        edges = edges_of(bounds, len(visits.minibatch(step)), shards)
        pairs = zip(others, edges, strict=True)
        return np.concatenate([other.minibatch(step)[low:high] for other, (low, high) in pairs])

    return minibatch


def facts(visits: Visits, sightings: Sequence[Sighting]) -> Iterator[tuple[str, str]]:
    """Yield kinds and sentences of what is wrong with the rows that were seen, if anything is.

    Args:
        visits: how it should be.
        sightings: of steps, ascending.
    """
    for rows, what, kind in (
        (visits.test, "held out for testing", "held-out-rows-trained"),
        (visits.validation, "held out for validation", "held-out-rows-trained"),
        (visits.spare, "outside of the training rows", "rows-outside-training"),
    ):
        found = [(s.step, row) for s in sightings for row in np.intersect1d(s.seen, rows)]
        if found:
            yield kind, f"Rows {what} are trained on: {listed(found)}."
    yield from _of_epochs(visits, sightings)
    yield from _of_steps(sightings)


def _of_epochs(visits: Visits, sightings: Sequence[Sighting]) -> Iterator[tuple[str, str]]:
    """Yield what only whole epochs tell."""
    per_epoch = visits.per_epoch
    epochs: dict[int, dict[int, Array]] = {}
    for each in sightings:  # a step that was looked at twice counts once
        epochs.setdefault(each.step // per_epoch, {}).setdefault(each.step, each.seen)
    whole = [list(parts.values()) for parts in epochs.values() if len(parts) == per_epoch]
    if len(whole) < 2 or len(visits.train) < 2:
        return
    first, *others = whole
    ordered = any(not np.array_equal(s.seen, np.sort(s.seen)) for s in sightings)
    if (per_epoch > 1 or ordered) and all(
        all(map(np.array_equal, first, other)) for other in others
    ):
        yield "same-order", "Every epoch visits the rows in the same order."
    seen = [np.concatenate(parts) for parts in whole]
    times = [np.bincount(r[r != UNKNOWN], minlength=visits.stored)[visits.train] for r in seen]
    foreign = any(len(np.setdiff1d(s.seen, s.wanted)) for s in sightings)
    if foreign and all((each > 1).any() and (each == 0).any() for each in times):
        lost = ", ".join(str(int((each == 0).sum())) for each in times)
        yield (
            "drawn-with-replacement",
            f"Rows are drawn with replacement: of {len(visits.train)} rows, {lost} have no part in "
            "an epoch, and others several times.",
        )


def _of_steps(sightings: Sequence[Sighting]) -> Iterator[tuple[str, str]]:
    """Yield what single steps tell."""
    lost: list[tuple[int, int]] = []
    twice: list[tuple[int, int]] = []
    foreign: list[tuple[int, int]] = []
    moved: list[int] = []
    for step, wanted, seen in sightings:
        known = seen[seen != UNKNOWN]
        rows, times = np.unique(known, return_counts=True)
        lost += [(step, row) for row in np.setdiff1d(wanted, known)]
        twice += [(step, row) for row in rows[times > 1]]
        foreign += [(step, row) for row in np.setdiff1d(known, wanted)]
        if not np.array_equal(seen, wanted) and np.array_equal(np.sort(seen), np.sort(wanted)):
            moved.append(step)
    if foreign:
        yield "rows-of-another-step", f"Rows of another step are visited: {listed(foreign)}."
    if lost and twice:
        yield (
            "rows-lost-and-counted-twice",
            f"Rows are lost ({listed(lost)}) and others counted twice ({listed(twice)}).",
        )
    elif lost and not foreign:
        yield "rows-lost", f"Rows are lost: {listed(lost)}."
    elif twice:
        yield "rows-counted-twice", f"Rows are counted twice or more: {listed(twice)}."
    if moved:
        steps = ", ".join(map(str, moved[:SHOWN]))
        sentence = f"Minibatches have their rows in another order, in the steps {steps}."
        yield "rows-in-another-order", sentence


def listed(pairs: Sequence[tuple[int, int]]) -> str:
    """Return steps and rows as the beginning of a list."""
    shown = ", ".join(f"row {row} in step {step}" for step, row in pairs[:SHOWN])
    return f"{shown} and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else shown


def edges_of(bounds: Sequence[tuple[int, int]], rows: int, shards: int) -> list[tuple[int, int]]:
    """Return where each rank's rows begin and end in a minibatch."""
    edges = np.cumsum([0, *sizes(rows, shards)]).tolist()
    return [(edges[low], edges[high]) for low, high in bounds]


def bounds_of(shards: int, workers: int) -> list[tuple[int, int]]:
    """Return the range of shards of each rank: as many for each, one more for the first ones."""
    edges = np.cumsum([0, *sizes(shards, workers)]).tolist()
    return list(pairwise(edges))
