"""What a wrong gradient itself tells: numbers that fit it, and elements that stand out.

How often each shard or row counts, and which label each row was given, is fitted by least squares:
there are many more elements than unknowns, so that what leaves nothing over is all but certain.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from dptrain.gradcheck.hypotheses.evidence import Array, Evidence, Hypothesis
from dptrain.gradcheck.hypotheses.known import layers
from dptrain.gradcheck.reference.bounded import UNITS

MOST_OFTEN = 1e6  # that a row could count
FEW = 6  # rows that are named
# Numbers that a fit needs for each of its unknowns: of shards; of rows, which are more alike.
ENOUGH, ENOUGH_FOR_ROWS = 3, 2
EXACT = 1e-8  # of a count: so near it is a whole number
# Of elements that are left out: sums of all subsets of so many ranks' parts are tried.
MOST_PARTS, ROUNDINGS = 5, 64


def least_squares(e: Evidence, parts: Array, enough: float = 1.0) -> Array | None:
    """Return how often each of some vectors counts in the gradient; None where that cannot be told.

    Args:
        e: the evidence.
        parts: ``(vectors, size)``.
        enough: elements that there must be for each of them.
    """
    used = e.scale > 0
    target, scaled = (e.found * e.scale)[used], (parts * e.scale)[:, used]
    if np.count_nonzero(used) < enough * len(parts):
        return None
    if not np.isfinite(target).all() or not np.isfinite(scaled).all():
        return None
    found: Array = np.linalg.lstsq(scaled.T, target, rcond=None)[0]
    return found


def counts_of_shards(e: Evidence) -> Iterator[Hypothesis]:
    """Yield how often each shard counts, now and, as well, in the step before."""
    weights = least_squares(e, e.shards, ENOUGH)
    if weights is not None and not np.abs(weights - 1).max(initial=0) <= EXACT:
        yield Hypothesis(*_counts(weights), weights @ e.shards)
    before = e.past[-1].shards if e.past else e.shards[:0]
    both = np.concatenate([e.shards, before])
    weights = least_squares(e, both, ENOUGH) if len(before) else None
    if weights is not None:
        now, old = weights[: len(e.shards)], weights[len(e.shards) :]
        sentence = f"the shards count ({_listed(now)}) times, and those of the step before "
        sentence += f"({_listed(old)}) times: they are read too early, or added up"
        if np.abs(old).max() > EXACT:
            yield Hypothesis("race", sentence, weights @ both)


def _counts(weights: Array) -> tuple[str, str]:
    sentence = f"the shards count ({_listed(weights)}) times instead of once each"
    if len(weights) and np.ptp(weights) <= EXACT * np.abs(weights).max():
        sentence = f"all shards count {weights[0]:.6g} times instead of once"
    nearest = np.round(weights)
    if np.abs(weights - nearest).max(initial=0) < EXACT:
        return "shard-doubled" if nearest.max() > 1 else "shard-dropped", sentence
    return "shard-weights", sentence


def _listed(weights: Array) -> str:
    return ", ".join(f"{round(float(w), 9):.4g}" for w in weights)


def labels(e: Evidence) -> Iterator[Hypothesis]:
    """Yield which label each row was given."""
    if e.labelled is None:
        return
    parts, right = e.labelled()
    classes = len(parts)
    each = parts.reshape(-1, len(e.found))
    shares = least_squares(e, each, ENOUGH_FOR_ROWS) if classes else None
    if shares is None:
        return
    given = np.round(shares).reshape(classes, -1)
    if (given.sum(axis=0) == 1).all() and (given >= 0).all():
        others = np.flatnonzero(given.argmax(axis=0) != right).tolist()
        sentence = f"rows {_few(others)} of the minibatch are given labels of other rows"
        yield Hypothesis("labels-shuffled", sentence, given.reshape(-1) @ each)


def rows(e: Evidence) -> Iterator[Hypothesis]:
    """Yield how often each row counts: first of the minibatch alone, then of all that is known."""
    if e.rows is None:
        return
    parts, own = e.rows()
    if len(own) < len(parts):  # fewer unknowns are told apart more sharply
        yield from _of_rows(e, parts[own], list(range(len(own))), np.array(own))
    yield from _of_rows(e, parts, own, np.arange(len(parts)))


def _of_rows(e: Evidence, parts: Array, own: list[int], names: Array) -> Iterator[Hypothesis]:
    """Fit some rows; ``own`` are those of the minibatch among them, ``names`` their numbers."""
    weights = least_squares(e, parts, ENOUGH_FOR_ROWS)
    if weights is None or np.abs(weights).max() > MOST_OFTEN:
        return
    n = len(own)
    for divisor in sorted({*range(n, 2 * n + 1), e.batch_size}):
        counts = weights * divisor / n
        nearest: Array = np.round(counts)
        # rows that are much alike are hard to tell apart; whether it is right, the residual tells
        if np.allclose(counts, nearest, atol=0.1) and nearest.min() >= 0 and nearest.any():
            edges = np.cumsum([0, *e.rows_of_ranks]).tolist()
            ranks = [set(own[low:high]) for low, high in pairwise(edges)]
            if said := _counted(nearest, own, divisor, ranks, names):
                yield Hypothesis(*said, nearest @ parts * (n / divisor))
            return


def _counted(
    times: Array, own: list[int], divisor: int, ranks: Sequence[set[int]], names: Array
) -> tuple[str, str] | None:
    """Return kind and sentence of how often each row counts; ``ranks`` are those of each rank."""

    def few(some: list[int]) -> str:
        return _few([int(names[i]) for i in some])

    n = len(own)
    lost = [i for i in own if times[i] == 0]
    more = [i for i in own if times[i] > 1]
    foreign = [int(i) for i in np.flatnonzero(times) if i not in own]
    counted = [i for i in own if times[i]]
    if divisor != n and lost:
        sentence = f"rows {few(lost)} are not counted, but {len(foreign)} of another minibatch"
        return "rows-lost", sentence
    if lost and more and not foreign and any(set(counted) <= rank for rank in ranks):
        return "same-shard", f"all ranks compute the rows of one: {few(counted)}"
    if divisor != n:
        sentence = f"{divisor - n} rows are added to the {n}: {few(more + foreign)} count again"
        return "padding-counted", sentence
    if lost and (more or foreign):
        what = f"rows {few(more)} more than once" if more else f"rows {few(foreign)} instead"
        return "overlapping-shards", f"rows {few(lost)} are not counted, and {what}"
    if lost:
        return "rows-lost", f"rows {few(lost)} are not counted"
    if not foreign and len({float(times[i]) for i in own}) == 1 and more:
        return "scaled", f"every row counts {times[own[0]]:.0f} times"
    if more or foreign:
        return "overlapping-shards", f"rows {few(more + foreign)} count more often than they should"
    return None


def _few(some: list[int]) -> str:
    return ", ".join(map(str, some[:FEW])) + (" …" if len(some) > FEW else "")


def elements_dropped(e: Evidence) -> Iterator[Hypothesis]:
    """Yield that of every wrong element some ranks' numbers are missing, as compression does."""
    parts = np.array([e.part(rank) for rank in range(len(e.ranks))])
    with_rows = [rank for rank, count in enumerate(e.rows_of_ranks) if count]
    if not 2 <= len(with_rows) <= MOST_PARTS or not e.wrong.any():
        return
    room = ROUNDINGS * UNITS["float64"] * np.abs(parts).sum(axis=0)
    predicted, missing = e.right.copy(), np.zeros(parts.shape, bool)
    unknown = e.wrong.copy()
    # as few as possible are missing
    for subset in sorted(range(1, 2 ** len(with_rows)), key=lambda s: s.bit_count()):
        lost = [rank for i, rank in enumerate(with_rows) if subset >> i & 1]
        value = e.right - parts[lost].sum(axis=0)
        with np.errstate(invalid="ignore"):
            fits = unknown & (np.abs(e.found - value) <= room)
        predicted[fits] = value[fits]
        missing[lost] |= fits
        unknown &= ~fits
    # where it is always the same ranks, their parts are missing
    if unknown.any() or len(np.unique(missing[:, e.wrong], axis=1).T) < 2:
        return
    counts = missing.sum(axis=1)
    listed = ", ".join(f"{counts[rank]} of rank {rank}" for rank in np.flatnonzero(counts))
    sentence = f"numbers of ranks' parts are left out, as compression does: {listed}"
    yield Hypothesis("elements-dropped", sentence, predicted)


def single_elements(e: Evidence) -> Iterator[Hypothesis]:
    """Yield that a few elements alone are wrong, at most one or two of each tensor."""
    different = np.flatnonzero((e.found != e.right) & (e.scale > 0))
    if not 0 < len(different) <= min(2 * len(e.tensors), int(np.count_nonzero(e.scale)) // 10):
        return
    place = int(different[0])
    tensor = next(t for t in e.tensors if t.start <= place < t.stop)
    where = [int(i) for i in np.unravel_index(place - tensor.start, tensor.shape)]
    predicted = e.right.copy()
    predicted[different] = e.found[different]
    count = "one element is" if len(different) == 1 else f"{len(different)} single elements are"
    sentence = (
        f"{count} wrong, as after a flipped bit: {tensor.name}{where} is {float(e.found[place])!r} "
        f"instead of {float(e.right[place])!r}"
    )
    yield Hypothesis("bit-flip", sentence, predicted)


def order_of_sums(e: Evidence) -> Iterator[Hypothesis]:
    """Yield that rounding is all that differs."""
    known = e.scale > 0
    room = ROUNDINGS * UNITS["float64"] * np.abs(e.shards).sum(axis=0)
    with np.errstate(invalid="ignore"):
        close = (np.abs(e.found - e.right) <= room)[known].all()
    if close and not np.array_equal(e.found[known], e.right[known]):
        sentence = "only rounding differs: the shards are summed in another order"
        yield Hypothesis("arrival-order", sentence, e.found)


def zeros_at_ends(e: Evidence) -> Iterator[Hypothesis]:
    """Yield that the ends of all, or of one rank's part, are zero: of the whole or a layer."""
    parts = [(f"rank {rank}'s part", e.part(rank)) for rank in range(len(e.ranks))]
    for what, part in [("the gradient", e.right), *parts]:
        rest = e.found - (e.right - part)
        room = 1e-9 * (np.abs(part) + np.abs(e.right))
        counts = (part != 0) & (e.scale > 0)
        lost = counts & (np.abs(rest) <= room) & (np.abs(part) > 2 * room)
        kept = counts & (np.abs(rest - part) <= room)
        spans = [slice(own[0].start, own[-1].stop) for own in layers(e)]
        ends = all((np.diff(lost[own][counts[own]].astype(int)) >= 0).all() for own in spans)
        if lost.any() and kept.any() and ends and not (counts & ~lost & ~kept).any():
            first = int(np.flatnonzero(lost)[0])
            if any(0 < area.start == first for area in e.areas):  # then the area is to blame
                continue
            sentence = f"{what} ends in zeros, first from element {first} on"
            yield Hypothesis("truncated", sentence, e.right - np.where(lost, part, 0))
