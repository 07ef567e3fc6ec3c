"""Scores of classes against their definitions, counted row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.errors import ShapeError
from dptrain.evaluation.classification import classification

Pairs = list[tuple[int, int]]


def test_worked_values() -> None:
    # class a: 3 rows, called a 2 times rightly and once b; class b: 1 row, called a; c: never
    found = classification([0, 0, 0, 1], [0, 0, 1, 0], ["a", "b", "c"])
    assert found.accuracy == 0.5
    assert found.confusion.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert list(found.classes[0]) == ["a", 3, 2 / 3, 2 / 3, 2 / 3]
    assert list(found.classes[1]) == ["b", 1, 0, 0, 0]
    assert list(found.classes[2]) == ["c", 0, 0, 0, 0]
    assert found.f1 == pytest.approx((2 / 3 + 0) / 2), "c neither occurs nor is answered"
    assert found.plain()["classes"][0]["precision"] == 2 / 3


def test_a_class_that_is_never_answered_has_precision_0() -> None:
    found = classification([0, 1, 1], [0, 0, 0], ["a", "b"])
    assert list(found.classes[1]) == ["b", 2, 0, 0, 0]
    assert (found.precision, found.recall) == pytest.approx(((1 / 3 + 0) / 2, (1 + 0) / 2))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_the_definitions(pairs: Pairs) -> None:
    labels, answers = np.transpose(pairs)
    found = classification(labels, answers, [*"abcde"])
    assert found.accuracy == sum(t == y for t, y in pairs) / len(pairs)
    met = []
    for k, (_, rows, precision, recall, f1) in enumerate(found.classes):
        both = pairs.count((k, k))
        called = sum(y == k for _, y in pairs)
        assert rows == sum(t == k for t, _ in pairs)
        assert precision == (both / called if called else 0)
        assert recall == (both / rows if rows else 0)
        harmonic = 2 * precision * recall / (precision + recall) if both else 0
        assert f1 == pytest.approx(harmonic)
        for j in range(5):
            assert found.confusion[k, j] == pairs.count((k, j))
        met += [f1] if rows or called else []
    assert found.f1 == pytest.approx(sum(met) / len(met))


def test_scikit_learn_says_the_same() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(3)
    t, y = random.integers(0, 6, (2, 50))
    found = classification(t, y, [*"abcdefg"])
    averages = metrics.precision_recall_fscore_support(t, y, average="macro", zero_division=0)
    assert (found.precision, found.recall, found.f1) == pytest.approx(averages[:3])
    assert found.confusion[:6, :6].tolist() == metrics.confusion_matrix(t, y).tolist()


@pytest.mark.parametrize(("t", "y"), [([0, 1], [0]), ([], []), ([[0]], [[0]])])
def test_answers_that_do_not_fit(t: list[int], y: list[int]) -> None:
    with pytest.raises(ShapeError, match="cannot be compared"):
        classification(np.array(t, int), np.array(y, int), ["a", "b"])
