"""Hinge losses: at the kink, and with one output or several."""

from typing import Any

import numpy as np
import pytest

from dptrain.errors import ShapeError
from dptrain.nn.losses import Hinge

LOSS = Hinge()
DTYPES = ["float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_output(dtype: str) -> None:
    y = np.array([[[0.25], [-3.0], [2.0]], [[0.25], [-3.0], [2.0]]], dtype)
    bound = LOSS.bind([y], [np.array([[1, 1, 1], [0, 0, 0]])])
    assert bound.losses() == [0.75 + 4 + 0, 1.25 + 0 + 3]
    gradient = bound.backward(4)[0][..., 0]
    assert (4 * gradient).tolist() == [[-1, -1, 0], [1, 0, 1]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_outputs(dtype: str) -> None:
    y = np.array([[[0.5, 2.0, 1.5], [5.0, 1.0, -1.0]]], dtype)
    bound = LOSS.bind([y], [np.array([[1, 2]])])
    # 0.5 - 2 + 1 < 0, 1.5 - 2 + 1 = 0.5; 5 + 1 + 1 = 7, 1 + 1 + 1 = 3
    assert bound.losses() == [10.5]
    assert (2 * bound.backward(2)[0]).tolist() == [[[0, -1, 1], [1, 1, -2]]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_the_kink_nothing_pulls(dtype: str) -> None:
    one = LOSS.bind([np.array([[[1.0], [-1.0]]], dtype)], [np.array([[1, 0]])])
    several = LOSS.bind([np.array([[[1.0, 2.0, 1.0]]], dtype)], [np.array([[1]])])
    for bound in (one, several):
        assert bound.losses() == [0]
        assert not bound.backward(1)[0].any()


def test_two_outputs_are_as_good_as_one() -> None:
    """With y in one output and 0 in the other the margin is the same."""
    y = np.random.default_rng(3).standard_normal((2, 9, 1)) * 2
    t = np.random.default_rng(4).integers(0, 2, (2, 9))
    one = LOSS.bind([y], [t])
    two = LOSS.bind([np.concatenate([0 * y, y], axis=-1)], [t])
    np.testing.assert_allclose(one.losses(), two.losses(), rtol=1e-14)
    np.testing.assert_array_equal(one.backward(9)[0], two.backward(9)[0][..., 1:])
    assert one.correct() == two.correct()


def test_scores_are_what_the_network_puts_out() -> None:
    y = np.array([[1.5, -0.5]])
    assert LOSS.predictions(y) is y
    assert not LOSS.probabilistic


def test_what_fits() -> None:
    LOSS.check((1,), 2, ())
    LOSS.check((2,), 2, ())
    LOSS.check((7,), 7, ())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1,), 3, ()), r"shape \(1,\).*3 classes"),
        (((2,), 0, (2,)), r"hinge needs class labels.*shape \(2,\); use --loss sum-of-squares"),
    ],
)
def test_what_does_not_fit(arguments: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        LOSS.check(*arguments)
