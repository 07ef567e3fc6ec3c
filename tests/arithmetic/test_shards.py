"""Shards: contiguous, of nearly one size, and owned in order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.arithmetic.shards import assign, blocks, default_shards, present_shards

COUNTS = st.integers(1, 40)


@given(COUNTS, COUNTS)
def test_blocks_are_numpys_array_split(rows: int, shards: int) -> None:
    expected = [part.tolist() for part in np.array_split(np.arange(rows), shards) if len(part)]
    found = [
        list(range(block.start + i * block.rows, block.start + (i + 1) * block.rows))
        for block in blocks(rows, shards, 0, shards)
        for i in range(block.shards)
    ]
    assert found == expected
    assert len(found) == present_shards(rows, shards)


@given(COUNTS, COUNTS, st.data())
def test_a_ranks_blocks_are_part_of_the_whole(rows: int, shards: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, shards))
    last = data.draw(st.integers(first, shards))

    def cells(low: int, high: int) -> dict[int, tuple[int, int]]:
        return {
            block.first + i: (block.start + i * block.rows, block.rows)
            for block in blocks(rows, shards, low, high)
            for i in range(block.shards)
        }

    whole = cells(0, shards)
    assert cells(first, last) == {i: c for i, c in whole.items() if first <= i < last}
    assert len(blocks(rows, shards, first, last)) <= 2


@given(COUNTS, COUNTS)
def test_every_shard_has_one_owner(shards: int, workers: int) -> None:
    bounds = assign(shards, workers)
    assert [i for low, high in bounds for i in range(low, high)] == list(range(shards))
    sizes = [high - low for low, high in bounds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("workers", "shards"), [(1, 4), (4, 4), (5, 8), (8, 8), (9, 16)])
def test_default_shards(workers: int, shards: int) -> None:
    assert default_shards(workers) == shards
