"""Losses beyond their gradients."""

import numpy as np
import pytest

from dptrain.errors import ShapeError
from dptrain.nn.dense import Dense
from dptrain.nn.losses import SoftmaxCrossEntropy, SumOfSquares
from tests.nn.build import CLASSIFY, REGRESS, problem


def test_cross_entropy_is_minus_log_softmax() -> None:
    task = problem([Dense(6)], 3, 11, labels=True, loss=CLASSIFY)
    found = task.filled(4)
    sums = found.forward()
    W, b = (task.parameters[:18].reshape(3, 6), task.parameters[18:])
    outputs = task.x @ W + b
    rows = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(11), task.t]
    expected = [part.sum() for part in np.array_split(rows, 4)]
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
    assert sum(found.loss.correct()) == int((outputs.argmax(axis=1) == task.t).sum())


def test_squares_take_labels_as_one_hot_rows() -> None:
    task = problem([Dense(4)], 3, 5, labels=True, loss=REGRESS)
    W, b = (task.parameters[:12].reshape(3, 4), task.parameters[12:])
    error = task.x @ W + b - np.eye(4)[task.t]
    assert task.loss() == pytest.approx(0.5 * (error**2).sum() / 5, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits_stay_finite(dtype: str) -> None:
    task = problem([Dense(3)], 2, 6, labels=True, dtype=dtype)
    task.parameters *= 1e4
    assert np.isfinite(task.gradient(4)).all()
    assert np.isfinite(task.loss())


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ShapeError, match=r"real numbers.*sum-of-squares"):
        SoftmaxCrossEntropy().check((2,), 0, (2,))
    with pytest.raises(ShapeError, match=r"shape \(3,\).*10 classes.*10 units"):
        SoftmaxCrossEntropy().check((3,), 10, ())
    with pytest.raises(ShapeError, match="targets of shape"):
        SumOfSquares().check((3,), 0, (2,))
