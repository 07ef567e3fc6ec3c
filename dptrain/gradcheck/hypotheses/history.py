"""Bugs that bring in another step, other weights or other rows."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis

Array = NDArray[Any]

MOST_OFTEN = 1e6  # that a row could count


def hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """Yield what each bug would lead to."""
    yield from _left_over(evidence)
    yield from _stale(evidence)
    yield from _relabelled(evidence)
    yield from _other_labels(evidence)
    yield from _row_by_row(evidence)


def _left_over(e: Evidence) -> Iterator[Hypothesis]:
    if not e.past:
        return
    last = e.past[-1].gradient
    total = np.sum([each.gradient for each in e.past], axis=0)
    sentence = "the gradients of earlier steps were not set to zero"
    yield Hypothesis("not-reset", sentence, e.right + total)
    yield Hypothesis(
        "not-reset", "the gradient of the step before was not set to zero", e.right + last
    )
    yield Hypothesis("race", "the gradient is that of the step before", last)
    for rank, (low, high) in enumerate(e.ranks):
        if rank >= len(e.past[-1].parts):
            continue
        part, before = e.shards[low:high].sum(axis=0), e.past[-1].parts[rank]
        sentence = f"rank {rank} did not set its gradient of the step before to zero"
        yield Hypothesis("not-reset", sentence, e.right + before)
        sentence = (
            f"rank {rank}'s part is that of the step before: read before the new one had come"
        )
        yield Hypothesis("race", sentence, e.right - part + before)


def _stale(e: Evidence) -> Iterator[Hypothesis]:
    if e.at is None:
        return
    places = {f"drawn with the seed {seed}": drawn for seed, drawn in e.drawn.items()}
    if e.past:
        places["of the step before"] = e.past[-1].parameters
        places["of the very beginning"] = e.past[0].parameters
    for what, parameters in places.items():
        shards = e.at(parameters)
        sentence = f"all ranks compute with the weights {what}"
        yield Hypothesis("stale-weights", sentence, shards.sum(axis=0))
        for rank, (low, high) in enumerate(e.ranks):
            if e.rows_of_ranks[rank]:
                part = shards[low:high].sum(axis=0) - e.shards[low:high].sum(axis=0)
                yield Hypothesis(
                    "stale-weights", f"rank {rank} computes with the weights {what}", e.right + part
                )


def _relabelled(e: Evidence) -> Iterator[Hypothesis]:
    if e.relabelled is None:
        return
    orders = {
        "rotated by one row": lambda t: np.roll(t, 1, axis=0),
        "rotated back by one row": lambda t: np.roll(t, -1, axis=0),
        "reversed": lambda t: t[::-1],
    }
    for what, change in orders.items():
        shards = e.relabelled(change)
        sentence = f"the targets are {what} against their inputs, in every shard"
        yield Hypothesis("labels-shuffled", sentence, shards.sum(axis=0))
        for rank, (low, high) in enumerate(e.ranks):
            part = (shards[low:high] - e.shards[low:high]).sum(axis=0)
            sentence = f"rank {rank}'s targets are {what} against their inputs, in every shard"
            yield Hypothesis("labels-shuffled", sentence, e.right + part)


def _other_labels(e: Evidence) -> Iterator[Hypothesis]:
    """Fit which label each row was given."""
    if e.labelled is None:
        return
    parts, labels = e.labelled()
    classes, rows = parts.shape[:2]
    used = e.scale > 0
    if not classes or used.sum() <= 2 * classes * rows:
        return
    found = (e.found * e.scale)[used]
    scaled = (parts * e.scale)[..., used].reshape(classes * rows, -1)
    if not np.isfinite(found).all():
        return
    shares, *_ = np.linalg.lstsq(scaled.T, found, rcond=None)
    given = np.round(shares).reshape(classes, rows)
    if (given.sum(axis=0) == 1).all() and (given >= 0).all():
        others = np.flatnonzero(given.argmax(axis=0) != labels).tolist()
        sentence = f"rows {_few(others)} of the minibatch are given labels of other rows"
        predicted = given.reshape(-1) @ parts.reshape(classes * rows, -1)
        yield Hypothesis("labels-shuffled", sentence, predicted)


def _row_by_row(e: Evidence) -> Iterator[Hypothesis]:
    """Fit how often each row counts; with few rows and many weights that is all but certain."""
    if e.rows is None:
        return
    rows, own = e.rows()
    used = e.scale > 0
    if used.sum() <= 2 * len(rows):
        return
    scaled = (rows * e.scale)[:, used]
    found = (e.found * e.scale)[used]
    if not np.isfinite(found).all():
        return
    weights, *_ = np.linalg.lstsq(scaled.T, found, rcond=None)
    n = len(own)
    if not np.isfinite(weights).all() or np.abs(weights).max() > MOST_OFTEN:
        return
    for divisor in sorted({*range(n, 2 * n + 1), e.batch_size}):
        counts = weights * divisor / n
        nearest: Array = np.asarray(np.round(counts))
        # rows that are much alike are hard to tell apart; whether it is right, the residual tells
        if np.allclose(counts, nearest, atol=0.1) and nearest.min() >= 0 and nearest.any():
            edges = np.cumsum([0, *e.rows_of_ranks])
            parts = [own[low:high] for low, high in pairwise(edges.tolist())]
            yield from _counted(nearest, own, rows, divisor, parts)
            return


def _counted(
    times: Array, own: list[int], rows: Array, divisor: int, parts: list[list[int]]
) -> Iterator[Hypothesis]:
    """Say what is wrong with how often each row counts.

    ``own`` are those of the minibatch, ``parts`` those of each rank.
    """
    n = len(own)
    predicted = times @ rows * (n / divisor)
    lost = [i for i in own if times[i] == 0]
    more = [i for i in own if times[i] > 1]
    foreign = [int(i) for i in np.flatnonzero(times) if i not in own]
    if divisor != n and lost:
        sentence = f"rows {_few(lost)} are not counted, but {len(foreign)} of another minibatch"
        yield Hypothesis("rows-lost", sentence, predicted)
    elif lost and more and not foreign and _of_one(own, times, parts):
        sentence = f"all ranks compute the rows of one: {_few(more)}"
        yield Hypothesis("same-shard", sentence, predicted)
    elif divisor != n:
        sentence = f"{divisor - n} rows are added to the {n}: {_few(more + foreign)} count again"
        yield Hypothesis("padding-counted", sentence, predicted)
    elif lost and (more or foreign):
        what = f"rows {_few(more)} more than once" if more else f"rows {_few(foreign)} instead"
        sentence = f"rows {_few(lost)} are not counted, and {what}"
        yield Hypothesis("overlapping-shards", sentence, predicted)
    elif lost:
        yield Hypothesis("rows-lost", f"rows {_few(lost)} are not counted", predicted)
    elif more or foreign:
        sentence = f"rows {_few(more + foreign)} count more often than they should"
        yield Hypothesis("overlapping-shards", sentence, predicted)


def _of_one(own: list[int], times: Array, parts: list[list[int]]) -> bool:
    """Return whether all rows that count belong to one rank."""
    counted = {i for i in own if times[i]}
    return any(counted <= set(part) for part in parts)


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:6])) + (" …" if len(rows) > 6 else "")
