"""Bugs that bring in another step, other weights or other rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis

Array = NDArray[Any]


def hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """Yield what each bug would lead to."""
    yield from _left_over(evidence)
    yield from _stale(evidence)
    yield from _relabelled(evidence)
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
    if e.at is None or not e.past:
        return
    places = {
        "of the step before": e.past[-1].parameters,
        "of the very beginning": e.past[0].parameters,
    }
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


def _row_by_row(e: Evidence) -> Iterator[Hypothesis]:
    """Fit how often each row counts; with few rows and many weights that is all but certain."""
    if e.rows is None:
        return
    rows = e.rows()
    used = e.scale > 0
    if used.sum() <= 2 * len(rows) or not np.isfinite(e.found[used]).all():
        return
    scaled = (rows * e.scale)[:, used]
    counts, *_ = np.linalg.lstsq(scaled.T, (e.found * e.scale)[used], rcond=None)
    nearest: Array = np.asarray(np.round(counts))
    if not np.allclose(counts, nearest, atol=1e-6) or (nearest == 1).all() or nearest.min() < 0:
        return
    lost = [i for i, c in enumerate(nearest.tolist()) if c == 0]
    more = [i for i, c in enumerate(nearest.tolist()) if c > 1]
    predicted = nearest @ rows
    if lost and more:
        sentence = f"rows {_few(lost)} are not counted, and rows {_few(more)} more than once"
        yield Hypothesis("overlapping-shards", sentence, predicted)
    elif lost:
        yield Hypothesis("rows-lost", f"rows {_few(lost)} are not counted", predicted)
    else:
        yield Hypothesis("overlapping-shards", f"rows {_few(more)} count more than once", predicted)


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:6])) + (" …" if len(rows) > 6 else "")
