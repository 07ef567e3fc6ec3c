"""Numbers that stand in a gradient and belong elsewhere: memory that overlaps, or is used twice.

Every wrong number is looked up, bit by bit, in everything else that the run has in memory. Where
many are found one behind the other, the gradient holds what belongs there.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Array, Evidence, Hypothesis

Whole = NDArray[np.intp]

# So many numbers in a row are no coincidence; and a part of all wrong ones that is worth naming.
FEWEST, SHARE = 4, 0.02
# Of the wrong numbers between the first and the last of a run, so many belong to it.
DENSE = 0.5
MOST_NAMES = 3  # of places, in a sentence


def hypotheses(e: Evidence) -> Iterator[Hypothesis]:
    """Yield where the wrong numbers come from, if they stand elsewhere."""
    with np.errstate(invalid="ignore"):
        left = np.flatnonzero(e.wrong & (e.found != 0) & np.isfinite(e.found))
    fewest = max(FEWEST, int(SHARE * len(left)))
    predicted, said = e.right.copy(), []
    for name, array in _memory(e):
        while len(left) >= fewest:
            own, offset = _run(e.found[left], left, array)
            if len(own) < fewest or not _dense(own, left):
                break
            predicted[own] = e.found[own]
            said.append(_said(own, offset, name))
            left = np.setdiff1d(left, own)
    if said:
        zeros = e.wrong & (e.found == 0)
        predicted[zeros] = 0
        more = f" and {len(said) - MOST_NAMES} more" if len(said) > MOST_NAMES else ""
        what = "; ".join(said[:MOST_NAMES]) + more
        sentence = f"{what}: two buffers overlap, or one is used again too early"
        yield Hypothesis("race", sentence, predicted)


def _memory(e: Evidence) -> Iterator[tuple[str, Array]]:
    """Yield what a run has in memory, with its name."""
    yield "the gradient", e.right
    for rank, (low, high) in enumerate(e.ranks):
        yield f"rank {rank}'s part", e.shards[low:high].sum(axis=0)
    for shard, part in enumerate(e.shards):
        yield f"shard {shard}'s part", part
    yield from e.memory.items()
    for back, step in enumerate(reversed(e.past), 1):
        ago = "the step before" if back == 1 else f"{back} steps before"
        yield f"the gradient of {ago}", step.gradient
        yield f"the weights of {ago}", step.parameters
        for rank, part in enumerate(step.parts):
            yield f"rank {rank}'s part of {ago}", part


def _run(found: Array, places: Whole, array: Array) -> tuple[Whole, int]:
    """Return which numbers stand in an array one behind the other, and how far from their place."""
    nothing = np.empty(0, np.intp), 0
    values, first, counts = np.unique(array, return_index=True, return_counts=True)
    values, first = values[counts == 1], first[counts == 1]  # what stands there twice tells nothing
    if not len(values):
        return nothing
    at = np.minimum(np.searchsorted(values, found), len(values) - 1)
    hit = values[at] == found
    offsets, counts = np.unique(first[at[hit]] - places[hit], return_counts=True)
    if not len(offsets):
        return nothing
    offset = int(offsets[counts.argmax()])
    inside = (places + offset >= 0) & (places + offset < len(array))
    same = np.zeros(len(places), bool)
    same[inside] = array[places[inside] + offset] == found[inside]
    return places[same], offset


def _dense(own: Whole, wrong: Whole) -> bool:
    """Return whether few other wrong numbers stand between these."""
    between = np.count_nonzero((wrong >= own[0]) & (wrong <= own[-1]))
    return bool(len(own) >= DENSE * between)


def _said(own: Whole, offset: int, name: str) -> str:
    first, last = int(own[0]), int(own[-1])
    where = "at the same place" if not offset else f"from its element {first + offset} on"
    return f"elements {first} to {last} hold {name}, {where}"
