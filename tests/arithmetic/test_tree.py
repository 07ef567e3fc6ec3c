"""The tree: whoever does its additions, the sums have the same bits."""

from collections import Counter
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign
from dptrain.arithmetic.tree import (
    Addition,
    additions,
    owned_additions,
    remaining_additions,
    roots,
    tree_sum,
)

LEAVES = st.integers(1, 40)


@st.composite
def owners(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Leaves, fewer or more than shards, and ranges of shards: even, uneven, some empty."""
    shards = draw(LEAVES)
    workers = draw(st.integers(1, shards))
    if draw(st.booleans()):
        bounds = list(assign(shards, workers))
    else:
        cuts = draw(st.lists(st.integers(0, shards), min_size=workers - 1, max_size=workers - 1))
        bounds = list(pairwise([0, *sorted(cuts), shards]))
    return min(draw(LEAVES), shards), bounds


def edges(bounds: list[tuple[int, int]]) -> tuple[int, ...]:
    return (*(first for first, _ in bounds), bounds[-1][1])


def values(leaves: int, seed: int) -> NDArray[np.float32]:
    """Numbers of very different sizes, so that another order shows."""
    random = np.random.default_rng(seed)
    scale = 10.0 ** random.integers(-4, 5, (leaves, 5))
    return (random.standard_normal((leaves, 5)) * scale).astype(np.float32)


def recursive_sum(terms: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Sum by the definition: the left subtree has the largest power of two of leaves."""
    if len(terms) == 1:
        return terms[0]
    half = 1 << (len(terms) - 1).bit_length() - 1
    return recursive_sum(terms[:half]) + recursive_sum(terms[half:])


def test_five_shards_are_added_as_documented() -> None:
    assert [tuple(a) for a in additions(5)] == [(0, 1, 2), (2, 3, 4), (0, 2, 4), (0, 4, 5)]


def test_one_shard_needs_no_addition() -> None:
    assert additions(1) == remaining_additions(1, (0, 1)) == ()
    assert additions(0) == ()
    assert roots(1, 0, 1) == (0,)


@given(LEAVES)
def test_every_addition_joins_two_neighbouring_subtrees(leaves: int) -> None:
    held = {i: [i] for i in range(leaves)}
    for into, other, last in additions(leaves):
        held[into] += held.pop(other)
        assert held[into] == list(range(into, last))
    assert held == {0: list(range(leaves))}


@given(LEAVES, st.integers(0, 2**32 - 1))
def test_tree_sum_is_the_recursive_definition(leaves: int, seed: int) -> None:
    terms = list(values(leaves, seed))
    before = [term.copy() for term in terms]
    assert tree_sum(terms).tobytes() == recursive_sum(terms).tobytes()
    np.testing.assert_array_equal(terms, before)


def test_another_order_gives_other_bits() -> None:
    terms = list(values(64, 0))
    in_order = np.zeros(5, np.float32)
    for term in terms:
        in_order += term
    assert tree_sum(terms).tobytes() != in_order.tobytes()
    assert tree_sum(terms).tobytes() != tree_sum([*terms[1:], terms[0]]).tobytes()


@given(owners())
def test_owned_and_remaining_are_exactly_all_additions(
    case: tuple[int, list[tuple[int, int]]],
) -> None:
    leaves, bounds = case
    shared: list[Addition] = []
    for first, last in bounds:
        shared += owned_additions(leaves, first, last)
    remaining = remaining_additions(leaves, edges(bounds))
    assert Counter([*shared, *remaining]) == Counter(additions(leaves))
    assert len(set(shared)) == len(shared)
    position = {addition: i for i, addition in enumerate(additions(leaves))}
    assert [position[a] for a in remaining] == sorted(position[a] for a in remaining)


@given(owners())
def test_an_owner_does_what_needs_its_shards_alone(
    case: tuple[int, list[tuple[int, int]]],
) -> None:
    leaves, bounds = case
    for first, last in bounds:
        own = set(range(first, last))
        expected = [a for a in additions(leaves) if own.issuperset(range(a.into, a.last))]
        assert list(owned_additions(leaves, first, last)) == expected


@given(owners())
def test_roots_hold_all_that_an_owner_computed(case: tuple[int, list[tuple[int, int]]]) -> None:
    leaves, bounds = case
    for first, last in bounds:
        held = {i: {i} for i in range(first, min(last, leaves))}
        for into, other, _ in owned_additions(leaves, first, last):
            held[into] |= held.pop(other)
        assert roots(leaves, first, last) == tuple(held)


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16])
def test_a_power_of_two_of_workers_hands_in_one_root_each(workers: int) -> None:
    assert [roots(16, *own) for own in assign(16, workers)] == [
        (first,) for first, _ in assign(16, workers)
    ]


@given(owners(), st.integers(0, 99), st.randoms(use_true_random=False))
def test_sharing_out_the_additions_changes_no_bit(
    case: tuple[int, list[tuple[int, int]]], seed: int, random: Random
) -> None:
    leaves, bounds = case
    in_order = values(leaves, seed)
    for into, other, _ in additions(leaves):
        in_order[into] += in_order[other]
    shared = values(leaves, seed)
    arrived = list(bounds)
    random.shuffle(arrived)
    handed_in: set[int] = set()
    for first, last in arrived:
        for into, other, _ in owned_additions(leaves, first, last):
            shared[into] += shared[other]
        handed_in |= set(roots(leaves, first, last))
    for into, other, _ in remaining_additions(leaves, edges(bounds)):
        assert {into, other} <= handed_in  # nobody else's memory is needed
        shared[into] += shared[other]
    assert shared.tobytes() == in_order.tobytes()
    assert shared[0].tobytes() == recursive_sum(list(values(leaves, seed))).tobytes()


def test_nothing_cannot_be_summed() -> None:
    with pytest.raises(IndexError):
        tree_sum(list[float]())
