"""The median stopping rule, on curves that are given."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.tune.pruning import FEWEST, falls_behind


def curve(*values: float) -> list[tuple[float, float]]:
    return list(enumerate(values, 1))


OTHERS = [curve(0.1, 0.5), curve(0.2, 0.6), curve(0.3, 0.7), curve(0.4, 0.8), curve(0.5, 0.9)]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (curve(0.3), False),  # the median itself is good enough
        (curve(0.29), True),
        (curve(0.29, 0.7), False),
        (curve(0.9, 0.1), False),  # its best so far counts
        (curve(0.9, 0.1, 0.1), False),  # nobody has come as far
        (curve(), False),
    ],
)
def test_worse_than_the_median_at_the_same_epoch(
    own: list[tuple[float, float]], expected: bool
) -> None:
    assert falls_behind(own, OTHERS) is expected


def test_of_few_trials_the_median_says_little() -> None:
    assert FEWEST == 5
    assert not falls_behind(curve(0.0), OTHERS[:4])
    assert not falls_behind(curve(0.0, 0.0), [*OTHERS[:4], curve(0.5)])
    assert not falls_behind(curve(0.0), [*OTHERS[:4], []])


def test_their_best_so_far_counts_as_well() -> None:
    others = [curve(0.5, 0.1)] * 5
    assert falls_behind(curve(0.2, 0.4), others)


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=6, max_size=9))
def test_the_definition(values: list[list[float]]) -> None:
    own, *others = values
    for epoch in (1, 2, 3):
        wanted = max(own[:epoch]) < statistics.median(max(each[:epoch]) for each in others)
        assert falls_behind(curve(*own[:epoch]), [curve(*each) for each in others]) is wanted
