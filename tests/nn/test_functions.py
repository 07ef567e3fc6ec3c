"""Softmax and losses of plain arrays; the notes' own numbers are in tests/test_notes.py."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import ArrayLike

from dptrain.errors import ShapeError
from dptrain.nn.functions import cross_entropy, softmax, sum_of_squares
from tests.nn.build import CLASSIFY, REGRESS

LOSSES = [cross_entropy, sum_of_squares]
BATCHES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    elements=st.floats(-50, 50, width=32),
)


@given(BATCHES)
def test_softmax_is_the_share_of_each_power(x: Any) -> None:
    for found, row in zip(softmax(x), x, strict=True):
        powers = [math.exp(v) for v in row]
        assert found.tolist() == pytest.approx([p / math.fsum(powers) for p in powers], rel=1e-12)


@given(BATCHES, st.floats(-1000, 1000))
def test_softmax_does_not_see_a_shift_of_a_row(x: Any, shift: float) -> None:
    shifts = shift * np.arange(len(x))[:, None]
    np.testing.assert_allclose(softmax(x + shifts), softmax(x), rtol=1e-8)


def test_softmax_of_extremes() -> None:
    large = [[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [1e308, 1e308, 0]]
    expected = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1 / 2, 1 / 2, 0]])
    np.testing.assert_allclose(softmax(large), expected, rtol=1e-15)


def test_softmax_keeps_shape_and_dtype() -> None:
    for shape in ((4,), (3, 4), (2, 3, 4)):
        assert softmax(np.zeros(shape, np.float32)).shape == shape
        np.testing.assert_array_equal(softmax(np.zeros(shape)), np.full(shape, 0.25))
    assert softmax(np.zeros(4, np.float32)).dtype == np.float32
    assert softmax([1, 2]).dtype == np.float64


def test_softmax_leaves_its_argument_alone() -> None:
    x = np.array([1.0, 2.0])
    softmax(x)
    assert x.tolist() == [1, 2]


@given(BATCHES, st.data())
def test_functions_agree_with_the_losses_of_training(x: Any, data: st.DataObject) -> None:
    labels = np.array([data.draw(st.integers(0, x.shape[1] - 1)) for _ in x])
    (total,) = REGRESS.bind([x[None]], [labels[None]]).losses()
    assert sum_of_squares(x, labels) == pytest.approx(total / len(x), rel=1e-12)
    close = x / 10  # so that no probability is near the guard of 1e-7, which training lacks
    (total,) = CLASSIFY.bind([close[None]], [labels[None]]).losses()
    guard = 1e-7 / softmax(close).min()
    assert cross_entropy(softmax(close), labels) == pytest.approx(total / len(x), abs=1.1 * guard)


def test_the_guard_keeps_an_impossible_class_finite() -> None:
    assert cross_entropy([1.0, 0.0], 1) == pytest.approx(-math.log(1e-7), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_labels_and_one_hot_rows_are_the_same(loss: Callable[..., float]) -> None:
    y = softmax(np.random.default_rng(0).standard_normal((6, 4)))
    labels = [3, 0, 1, 1, 2, 3]
    one_hot = np.eye(4, dtype=int)[labels]
    whole = loss(y, labels)
    assert whole == loss(y, one_hot) == loss(y.tolist(), one_hot.tolist())
    assert whole == loss(y, np.array(labels, np.uint8))
    rows = [loss(row, label) for row, label in zip(y, labels, strict=True)]
    assert whole == pytest.approx(math.fsum(rows) / 6, rel=1e-14)
    assert rows[0] == loss(y[0], one_hot[0]) == loss(y[:1], [3]) == loss(y[0], [3])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("y", "t", "message"),
    [
        ([[0.5, 0.5]], [0, 1], r"targets of shape \(2,\) do not fit predictions of shape \(1, 2\)"),
        ([0.5, 0.5], [[0, 1]], r"targets of shape \(1, 2\) do not fit predictions of shape \(2,\)"),
        ([[0.5, 0.5]] * 3, [0, 1], r"\(2,\) do not fit predictions of shape \(3, 2\)"),
        ([[0.5, 0.5]] * 3, 1, r"\(\) do not fit predictions of shape \(3, 2\)"),
        ([[0.5, 0.5]] * 3, [0.0, 1.0, 0.0], "one-hot rows of the same shape or one class number"),
        ([[0.5, 0.5]] * 3, [True, False, True], "one class number a row"),
        ([[[0.5, 0.5]]], [[0]], r"predictions of shape \(1, 1, 2\) are neither one row nor"),
        ([[[0.5, 0.5]]], [[[0, 1]]], "neither one row nor a batch"),
        (np.empty((0, 2)), np.empty(0, int), r"predictions of shape \(0, 2\) are neither"),
        (np.empty((0, 2)), np.empty((0, 2)), "neither one row nor a batch"),
        ([[0.5, 0.5]] * 2, [0, 2], r"class numbers must be 0 to 1, not \[0, 2\]"),
        ([[0.5, 0.5]] * 2, [-1, 0], r"class numbers must be 0 to 1, not \[-1, 0\]"),
    ],
)
def test_targets_that_do_not_fit_are_refused(
    loss: Callable[..., float], y: ArrayLike, t: ArrayLike, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        loss(y, t)
