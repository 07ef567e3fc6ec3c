"""Mean squares and Huber beside the sum of squares, Huber's parts and those of log-cosh."""

import numpy as np
import pytest

from dptrain.nn.losses import Huber, LogCosh, MeanSquaredError, SumOfSquares

DTYPES = ["float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [1, 2, 8])
def test_mean_squares_are_a_multiple_of_the_sum(units: int, dtype: str) -> None:
    random = np.random.default_rng(1)
    y, t = random.standard_normal((2, 3, 5, units)).astype(dtype)
    total, mean = (loss.bind([y], [t]) for loss in (SumOfSquares(), MeanSquaredError()))
    roundings = 5 * float(np.finfo(dtype).eps)
    expected = np.array(total.losses()) * 2 / units
    np.testing.assert_allclose(mean.losses(), expected, rtol=roundings)
    slopes = total.backward(15)[0] * 2 / units
    np.testing.assert_allclose(mean.backward(15)[0], slopes, rtol=roundings)


@pytest.mark.parametrize("dtype", DTYPES)
def test_huber_is_a_parabola_between_two_lines(dtype: str) -> None:
    error = np.array([-3.0, -0.5, -0.25, 0.0, 0.25, 0.5, 3.0], dtype)
    bound = Huber(huber_delta=0.5).bind([error.reshape(7, 1, 1) + 1], [np.ones((7, 1, 1), dtype)])
    line = 0.5 * (3 - 0.25)
    assert bound.losses() == [line, 0.125, 0.03125, 0, 0.03125, 0.125, line]
    assert bound.backward(1)[0].ravel().tolist() == [-0.5, -0.5, -0.25, 0, 0.25, 0.5, 0.5]


def test_a_wide_huber_is_half_the_mean_square() -> None:
    random = np.random.default_rng(2)
    y, t = random.standard_normal((2, 3, 5, 4))
    wide, mean = (loss.bind([y], [t]) for loss in (Huber(huber_delta=1e6), MeanSquaredError()))
    np.testing.assert_allclose(2 * np.array(wide.losses()), mean.losses(), rtol=1e-14)
    np.testing.assert_allclose(2 * wide.backward(15)[0], mean.backward(15)[0], rtol=1e-14)


def test_huber_of_large_errors_does_not_overflow() -> None:
    y = np.array([[[1e30, -1e30]]], np.float32)
    bound = Huber().bind([y], [np.zeros((1, 1, 2), np.float32)])
    assert bound.losses() == pytest.approx([1e30])
    assert bound.backward(1)[0].ravel().tolist() == [0.5, -0.5]


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_cosh_is_half_a_square_near_zero(dtype: str) -> None:
    error = np.array([-1e-2, -1e-3, 0, 1e-4, 1e-2], dtype)
    bound = LogCosh().bind([error.reshape(5, 1, 1)], [np.zeros((5, 1, 1), dtype)])
    square = error.astype(float) ** 2 / 2
    # beside the next term of the series, a rounding of the error itself
    room = error.astype(float) ** 4 / 10 + np.abs(error) * float(np.finfo(dtype).eps)
    assert (np.abs(bound.losses() - square) <= room).all()
    assert bound.losses()[2] == 0
    np.testing.assert_allclose(bound.backward(1)[0].ravel(), error, rtol=4e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_cosh_is_a_straight_line_far_out(dtype: str) -> None:
    error = np.array([-1e30, -1e4, -50, 50, 1e4, 1e30], dtype)
    bound = LogCosh().bind([error.reshape(6, 1, 1)], [np.zeros((6, 1, 1), dtype)])
    roundings = 2 * float(np.finfo(dtype).eps)
    line = np.abs(error.astype(float)) - np.log(2)
    np.testing.assert_allclose(bound.losses(), line, rtol=roundings)
    assert bound.backward(1)[0].ravel().tolist() == [-1, -1, -1, 1, 1, 1]
