"""Numbers that stand in memory where others belong: of an earlier step, or of another place."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.engine import TrainingState
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis

Array = NDArray[Any]
Places = NDArray[np.intp]

FAR = 8  # steps back that are looked at
# So many numbers in a row are no coincidence; and a part of all wrong ones that is worth naming.
FEWEST, SHARE = 4, 0.02
# Of the wrong numbers between the first and the last of a run, so many belong to it.
DENSE = 0.5
MOST_NAMES = 3  # of places, in a sentence


def stale_buffers(steps: Sequence[Step], wrong: Array, *, moved_rightly: bool) -> list[Diagnosis]:
    """Return what the last of some steps says of buffers that were taken for each other.

    Args:
        steps: of a run, one behind the other, the last being the one that is wrong.
        wrong: which elements are wrong after it, bool ``(size,)``.
        moved_rightly: whether the weights are right, and only the optimizer's state is wrong.
    """
    if not wrong.any():
        return []
    after, number = steps[-1].after, steps[-1].number + 1
    weights, state = _ages(after, steps, wrong)
    has_state = bool(after.slots)
    if has_state and 1 in state and 1 in weights and _anything(steps[-1].before, wrong):
        return unwritten(steps[-1], wrong)
    if weights and 1 not in weights:
        both = [age for age in weights if age in state]
        what = "The weights and the optimizer's state" if has_state and both else "The weights"
        said = f"{what} after step {number} are those of {min(both or weights)} steps before"
    elif has_state and state and moved_rightly:
        said = "did not move" if min(state) == 1 else f"is that of {min(state)} steps before"
        said = f"The weights moved rightly in step {number}, but the optimizer's state {said}"
    else:
        return []
    said += ": the step was written to another buffer than the one that is read"
    return [Diagnosis("stale-buffer", said, 0.0)]


def unwritten(step: Step, wrong: Array) -> list[Diagnosis]:
    """Return whether a step was not written at all, where it is wrong: 0, or all as it was."""
    before, after = (np.asarray(s.parameters)[wrong] for s in (step.before, step.after))
    number = step.number + 1
    if len(after) > 1 and before.any() and not after.any():
        said = f"Where the weights are wrong after step {number}, all are 0: they were never "
        return [Diagnosis("update-skipped", f"{said}written, and new memory is 0", 0.0)]
    slots = list(zip(step.before.slots, step.after.slots, strict=True))
    stays = slots and np.array_equal(before, after)
    if stays and all(_equal(now, then, wrong) for then, now in slots):
        said = f"Neither the weights nor the optimizer's state moved in step {number}: the update "
        return [Diagnosis("update-skipped", f"{said}was left out, or went elsewhere", 0.0)]
    return []


def _ages(after: TrainingState, steps: Sequence[Step], wrong: Array) -> tuple[list[int], list[int]]:
    """Return how many steps old the weights could be, and the state, where they are wrong."""
    weights, state = [], []
    for age, step in enumerate(reversed(steps[-FAR:]), 1):
        if _equal(after.parameters, step.before.parameters, wrong):
            weights.append(age)
        pairs = zip(after.slots, step.before.slots, strict=True)
        if all(_equal(now, then, wrong) for now, then in pairs):
            state.append(age)
    return weights, state


def _equal(now: Array, then: Array, which: Array) -> bool:
    return bool(np.array_equal(np.asarray(now)[which], np.asarray(then)[which]))


def _anything(state: TrainingState, which: Array) -> bool:
    """Return whether an optimizer's state is other than new."""
    return any(np.asarray(slot)[which].any() for slot in state.slots)


def of_other_places(e: Evidence) -> Iterator[Hypothesis]:
    """Yield where the wrong numbers of a gradient come from: memory overlaps, or is used twice.

    They are looked up, bit by bit, in everything else that the run has in memory. Where many are
    found one behind the other, the gradient holds what belongs there.
    """
    with np.errstate(invalid="ignore"):
        left = np.flatnonzero(e.wrong & (e.found != 0) & np.isfinite(e.found))
    fewest = max(FEWEST, int(SHARE * len(left)))
    predicted, said = e.right.copy(), []
    for name, array in _memory(e):
        while len(left) >= fewest:
            own, offset = _run(e.found, left, array)
            # few other wrong numbers stand between these
            between = np.count_nonzero((left >= own[0]) & (left <= own[-1])) if len(own) else 0
            if len(own) < fewest or len(own) < DENSE * between:
                break
            predicted[own] = e.found[own]
            where = "at the same place" if not offset else f"from its element {own[0] + offset} on"
            said.append(f"elements {own[0]} to {own[-1]} hold {name}, {where}")
            left = np.setdiff1d(left, own)
    if said:
        predicted[e.wrong & (e.found == 0)] = 0
        what = "; ".join(said[:MOST_NAMES]) + (" …" if len(said) > MOST_NAMES else "")
        sentence = f"{what}: two buffers overlap, or one is used again too early"
        yield Hypothesis("race", sentence, predicted)


def _memory(e: Evidence) -> Iterator[tuple[str, Array]]:
    """Yield what a run has in memory, with its name."""
    steps = [("", e.right, e.shards, e.parameters)]
    for back, past in enumerate(reversed(e.past), 1):
        gradient = past.shards.sum(axis=0)
        steps.append((f" of {back} steps before", gradient, past.shards, past.parameters))
    for ago, gradient, shards, weights in steps:
        yield f"the gradient{ago}", gradient
        for rank, (low, high) in enumerate(e.ranks):
            yield f"rank {rank}'s part{ago}", shards[low:high].sum(axis=0)
        for shard, part in enumerate(shards):
            yield f"shard {shard}'s part{ago}", part
        if weights is not None:
            yield f"the weights{ago}", weights


def _run(found: Array, left: Places, array: Array) -> tuple[Places, int]:
    """Return which of some places hold an array's numbers in a row, and how far they have moved."""
    _, here, there = np.intersect1d(found[left], array, return_indices=True)
    offsets, counts = np.unique(there - left[here], return_counts=True)
    if not len(offsets):
        return left[:0], 0
    offset = int(offsets[counts.argmax()])
    inside = left[(left + offset >= 0) & (left + offset < len(array))]
    return inside[array[inside + offset] == found[inside]], offset
