"""The tree: whoever does its additions, the sums have the same bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.arithmetic.shards import assign
from dptrain.arithmetic.tree import (
    additions,
    owned_additions,
    remaining_additions,
    roots,
    tree_sum,
)


def recursive_sum(values: list[np.float32]) -> np.float32:
    """Sum by the definition: the left subtree has the largest power of two of leaves."""
    if len(values) == 1:
        return values[0]
    half = 1 << (len(values) - 1).bit_length() - 1
    return np.float32(recursive_sum(values[:half]) + recursive_sum(values[half:]))


def test_five_shards_are_added_as_documented() -> None:
    assert [tuple(a) for a in additions(5)] == [(0, 1, 2), (2, 3, 4), (0, 2, 4), (0, 4, 5)]


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_tree_sum_is_the_recursive_definition(leaves: int, seed: int) -> None:
    values = list(np.random.default_rng(seed).standard_normal(leaves).astype(np.float32))
    assert tree_sum(values).tobytes() == recursive_sum(values).tobytes()


def test_another_order_gives_other_bits() -> None:
    values = list(np.random.default_rng(0).standard_normal(64).astype(np.float32))
    in_order = np.float32(0)
    for value in values:
        in_order += value
    assert tree_sum(values).tobytes() != in_order.tobytes()


@given(st.integers(1, 24), st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
def test_sharing_out_the_additions_changes_no_bit(
    shards: int, workers: int, rows: int, seed: int
) -> None:
    workers = min(workers, shards)
    leaves = min(rows, shards)
    bounds = assign(shards, workers)
    values = np.random.default_rng(seed).standard_normal((leaves, 3)).astype(np.float32)
    expected = tree_sum(list(values))
    shared = values.copy()
    handed_in: set[int] = set()
    for first, last in bounds:
        for into, other, _ in owned_additions(leaves, first, last):
            shared[into] += shared[other]
        handed_in |= set(roots(leaves, first, last))
    for into, other, _ in remaining_additions(leaves, (*(f for f, _ in bounds), shards)):
        assert {into, other} <= handed_in
        shared[into] += shared[other]
    assert shared[0].tobytes() == expected.tobytes()


def test_nothing_cannot_be_summed() -> None:
    with pytest.raises(IndexError):
        tree_sum(list[float]())
