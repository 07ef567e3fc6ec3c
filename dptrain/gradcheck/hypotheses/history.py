"""Bugs that bring in another step, other weights or other rows."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis
from dptrain.gradcheck.reference.bounded import narrowed

Array = NDArray[Any]

MOST_OFTEN = 1e6  # that a row could count
MOST_AREAS = 8  # that are tried one by one
FAR = 8  # steps back from where something could be left


def hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """Yield what each bug would lead to."""
    yield from _left_over(evidence)
    yield from _stale(evidence)
    yield from _rounded_weights(evidence)
    yield from _older(evidence)
    yield from _relabelled(evidence)
    yield from fitted(evidence)
    yield from _of_another_step(evidence)


def fitted(evidence: Evidence) -> Iterator[Hypothesis]:
    """Yield what depends on which elements are known: how rows and labels are fitted to them."""
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


def _older(e: Evidence) -> Iterator[Hypothesis]:
    """What is two or more steps old: where two buffers take turns, or one is not written."""
    for back, step in enumerate(reversed(e.past[-FAR:-1]), 2):
        sentence = f"the gradient is that of {back} steps before"
        yield Hypothesis("race", sentence, step.gradient)
        for rank, part in enumerate(step.parts):
            low, high = e.ranks[rank]
            own = e.shards[low:high].sum(axis=0)
            sentence = f"rank {rank}'s part is that of {back} steps before"
            yield Hypothesis("race", sentence, e.right - own + part)


def _of_another_step(e: Evidence) -> Iterator[Hypothesis]:
    """The rows of another step, with the weights of this one."""
    if e.elsewhere is None:
        return
    around = {e.step - 1: "step before", e.step + 1: "next step"}
    for step, what in around.items():
        if step < 0:
            continue
        yield from _computed(
            e, "rows-of-another-step", f"the rows of the {what}", e.elsewhere(step)
        )


def _computed(e: Evidence, kind: str, what: str, shards: Array) -> Iterator[Hypothesis]:
    """Yield what comes of other ``shards`` of all ranks, or of one of them."""
    yield Hypothesis(kind, f"all ranks compute {what}", shards.sum(axis=0))
    for rank, (low, high) in enumerate(e.ranks):
        part = shards[low:high].sum(axis=0) - e.shards[low:high].sum(axis=0)
        yield Hypothesis(kind, f"rank {rank} computes {what}", e.right + part)


def _stale(e: Evidence) -> Iterator[Hypothesis]:
    if e.at is None:
        return
    places = {f"drawn with the seed {seed}": drawn for seed, drawn in e.drawn.items()}
    if e.past:
        places["of the step before"] = e.past[-1].parameters
        for back, step in enumerate(reversed(e.past[-FAR:-1]), 2):
            places[f"of {back} steps before"] = step.parameters
        places["of the very beginning"] = e.past[0].parameters
        places |= dict(_partly(e))
    for what, parameters in places.items():
        yield from _computed(e, "stale-weights", f"with the weights {what}", e.at(parameters))


def _partly(e: Evidence) -> Iterator[tuple[str, Array]]:
    """Yield weights of which parts that travel by themselves are those of the step before."""
    if e.parameters is None or not 1 < len(e.areas) <= MOST_AREAS:
        return
    first, *others = e.areas
    parts = [(area.name, [area]) for area in e.areas]
    parts += [(f"all but {first.name}", others)] if len(others) > 1 else []
    for name, areas in parts:
        mixed = e.parameters.copy()
        for area in areas:
            own = slice(area.start, area.stop)
            mixed[own] = e.past[-1].parameters[own]
        yield f"of the step before in {name}", mixed


def _rounded_weights(e: Evidence) -> Iterator[Hypothesis]:
    """Weights that were sent, or are kept, in a narrower number format."""
    if e.at is None or e.parameters is None:
        return
    for name, dtype in (("float32", np.float32), ("float16", np.float16)):
        rounded = narrowed(e.parameters, dtype)
        if np.array_equal(rounded, e.parameters) or not np.isfinite(rounded).all():
            continue
        yield from _computed(e, "weights-rounded", f"with weights rounded to {name}", e.at(rounded))


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
    alone = np.array(own)
    if len(own) < len(rows):  # fewer unknowns are told apart more sharply
        yield from _fitted(e, rows[alone], list(range(len(own))), alone)
    yield from _fitted(e, rows, own, np.arange(len(rows)))


def _fitted(e: Evidence, rows: Array, own: list[int], names: Array) -> Iterator[Hypothesis]:
    """Fit how often each of some rows counts.

    ``own`` are those of the minibatch among them, ``names`` their numbers.
    """
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
            predicted = nearest @ rows * (n / divisor)
            if said := _counted(nearest, own, divisor, parts, names):
                yield Hypothesis(*said, predicted)
            return


def _counted(
    times: Array, own: list[int], divisor: int, parts: list[list[int]], names: Array
) -> tuple[str, str] | None:
    """Say what is wrong with how often each row counts.

    ``own`` are those of the minibatch, ``parts`` those of each rank; ``names`` their numbers.
    """

    def few(rows: list[int]) -> str:
        return _few([int(names[i]) for i in rows])

    n = len(own)
    lost = [i for i in own if times[i] == 0]
    more = [i for i in own if times[i] > 1]
    foreign = [int(i) for i in np.flatnonzero(times) if i not in own]
    if divisor != n and lost:
        sentence = f"rows {few(lost)} are not counted, but {len(foreign)} of another minibatch"
        return "rows-lost", sentence
    if lost and more and not foreign and _of_one(own, times, parts):
        counted = [i for i in own if times[i]]
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


def _of_one(own: list[int], times: Array, parts: list[list[int]]) -> bool:
    """Return whether all rows that count belong to one rank."""
    counted = {i for i in own if times[i]}
    return any(counted <= set(part) for part in parts)


def _few(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:6])) + (" …" if len(rows) > 6 else "")
