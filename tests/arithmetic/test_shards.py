"""Shards: contiguous, of nearly one size, and owned in order."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.arithmetic.shards import Block, assign, blocks, default_shards, present_shards

COUNTS = st.integers(1, 60)


def spans(rows: int, shards: int, first: int, last: int) -> dict[int, tuple[int, int]]:
    """Return the rows ``(start, stop)`` of every shard that the blocks speak of."""
    found = {}
    for block in blocks(rows, shards, first, last):
        for i in range(block.shards):
            start = block.start + i * block.rows
            assert block.first + i not in found
            found[block.first + i] = (start, start + block.rows)
    return found


def test_a_minibatch_in_words() -> None:
    """The README's "global batch 100 = 4 shards of 25", and what does not divide."""
    assert blocks(100, 4, 0, 4) == (Block(first=0, shards=4, rows=25, start=0),)
    assert blocks(10, 4, 0, 4) == (Block(0, 2, 3, 0), Block(2, 2, 2, 6))
    assert blocks(10, 4, 1, 3) == (Block(1, 1, 3, 3), Block(2, 1, 2, 6))
    assert blocks(3, 5, 0, 5) == (Block(0, 3, 1, 0),)
    assert blocks(3, 5, 3, 5) == ()


@given(COUNTS, COUNTS)
def test_blocks_are_numpys_array_split(rows: int, shards: int) -> None:
    expected = [part.tolist() for part in np.array_split(np.arange(rows), shards) if len(part)]
    found = spans(rows, shards, 0, shards)
    assert [list(range(*span)) for span in found.values()] == expected
    assert list(found) == list(range(present_shards(rows, shards)))


@given(COUNTS, COUNTS)
def test_shards_are_contiguous_cover_all_rows_and_differ_by_at_most_one(
    rows: int, shards: int
) -> None:
    found = [*spans(rows, shards, 0, shards).values()]
    assert found[0][0] == 0
    assert found[-1][1] == rows
    assert all(stop == start for (_, stop), (start, _) in pairwise(found))
    sizes = [stop - start for start, stop in found] + [0] * (shards - len(found))
    assert max(sizes) - min(sizes) <= 1


@given(COUNTS, COUNTS, st.data())
def test_a_ranks_blocks_are_part_of_the_whole(rows: int, shards: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, shards))
    last = data.draw(st.integers(first, shards))
    whole = spans(rows, shards, 0, shards)
    part = spans(rows, shards, first, last)
    assert part == {i: span for i, span in whole.items() if first <= i < last}


@given(COUNTS, COUNTS, st.data())
def test_there_are_as_few_blocks_as_sizes(rows: int, shards: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, shards))
    last = data.draw(st.integers(first, shards))
    found = blocks(rows, shards, first, last)
    assert len({block.rows for block in found}) == len(found) <= 2


@given(COUNTS, COUNTS)
def test_every_shard_has_one_owner(shards: int, workers: int) -> None:
    bounds = assign(shards, workers)
    assert len(bounds) == workers
    assert [i for low, high in bounds for i in range(low, high)] == list(range(shards))
    sizes = [high - low for low, high in bounds]
    assert max(sizes) - min(sizes) <= 1
    # the tree's bounds are the firsts and one last, so empty ranges must stand in order too
    assert all(high == low for (_, high), (low, _) in pairwise(bounds))


@pytest.mark.parametrize(("workers", "shards"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 16)])
def test_default_shards(workers: int, shards: int) -> None:
    assert default_shards(workers) == shards


@given(st.integers(1, 5000))
def test_default_shards_are_the_smallest_power_of_two_that_will_do(workers: int) -> None:
    powers = [2**i for i in range(2, 14)]
    assert default_shards(workers) == next(p for p in powers if p >= max(4, workers))
