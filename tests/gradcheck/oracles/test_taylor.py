"""The Taylor test: slope 2 for right gradients, 1 for wrong ones, of functions known by formula."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.gradcheck.oracles.taylor import Judgement, taylor
from tests.gradcheck.smooth import Far, Smooth

Array = NDArray[Any]


def random(seed: int) -> tuple[Smooth, Array, Array]:
    """Return a function, its gradient and a direction that leaves a second derivative."""
    f = Smooth(seed)
    return f, f.gradient(f.x), np.random.default_rng(seed).standard_normal(3)


@pytest.mark.parametrize("seed", range(50))
def test_right_gradients_leave_over_h_squared(seed: int) -> None:
    f, gradient, direction = random(seed)
    found = taylor(f.value, f.x, gradient, direction, f.noise)
    assert found.judgement == Judgement.RIGHT
    assert found.slope == pytest.approx(2, abs=0.02)


@given(st.integers(0, 2**32))
def test_wrong_gradients_leave_over_h(seed: int) -> None:
    f, gradient, direction = random(seed)
    wrong = gradient.copy()
    wrong[np.abs(gradient * direction).argmax()] *= 1.01
    direction /= np.abs(direction).max()
    right = taylor(f.value, f.x, gradient, direction, f.noise)
    found = taylor(f.value, f.x, wrong, direction, f.noise)
    seen = abs((wrong - gradient) @ direction) / right.resolution
    assert seen > 1
    if seen > 30:
        assert found.judgement == Judgement.WRONG
        assert found.slope == pytest.approx(1, abs=0.1)


def test_what_is_called_right_is_right_to_the_resolution() -> None:
    for seed in range(100):
        f, gradient, direction = random(seed)
        direction /= np.abs(direction).max()
        for relative in 10.0 ** np.arange(-12, -2):
            wrong = gradient.copy()
            wrong[np.abs(gradient * direction).argmax()] *= 1 + relative
            found = taylor(f.value, f.x, wrong, direction, f.noise)
            if found.judgement == Judgement.RIGHT:
                assert abs((wrong - gradient) @ direction) < found.resolution


def test_only_clean_points_of_a_decade_and_a_half_are_fitted() -> None:
    f, gradient, direction = random(0)
    found = taylor(f.value, f.x, gradient, direction, f.noise)
    used = [p for p in found.points if p.fitted]
    assert all(p.remainder >= 8 * p.noise for p in used)
    assert used[-1].h <= used[0].h * 10**1.6
    assert not found.points[0].fitted
    assert not found.points[-1].fitted


def test_a_linear_function_leaves_nothing_over() -> None:
    found = taylor(lambda x: float(3 * x[0]), np.ones(1), np.full(1, 3.0), np.ones(1), 1e-15)
    assert found.judgement == Judgement.RIGHT
    assert math.isnan(found.slope)
    assert found.resolution < 1e-12
    found = taylor(lambda x: float(3 * x[0]), np.ones(1), np.full(1, 3.1), np.ones(1), 1e-15)
    assert found.judgement == Judgement.WRONG


def test_without_a_second_derivative_the_slope_is_3() -> None:
    def f(x: Array) -> float:
        return float(np.sin(x[0]))

    found = taylor(f, np.zeros(1), np.ones(1), np.ones(1), lambda value: 1e-16 * abs(value))
    assert found.slope == pytest.approx(3, abs=0.02)
    assert found.judgement == Judgement.RIGHT


def test_steps_that_rounding_bends() -> None:
    f = Far(0)
    found = taylor(f.value, f.x, np.ones(10), np.linspace(-1, 1, 10), f.noise)
    assert found.slope == pytest.approx(2, abs=0.02)
    assert found.resolution < 1e-5


def test_a_function_without_a_value_is_undecided() -> None:
    found = taylor(lambda _: math.nan, np.ones(1), np.ones(1), np.ones(1), 1e-16)
    assert found.judgement == Judgement.UNDECIDED


def test_a_gradient_that_is_not_finite_is_undecided() -> None:
    found = taylor(lambda x: float(x[0] ** 2), np.ones(1), np.full(1, math.nan), np.ones(1), 1e-16)
    assert found.judgement == Judgement.UNDECIDED


def test_a_loss_that_is_flat_has_no_slope_and_a_right_gradient_of_0() -> None:
    """As the hinge loss of rows that are all beyond their margin."""
    x, along = np.ones(3), np.array([1.0, -1.0, 0.5])
    found = taylor(lambda _: 0.0, x, np.zeros(3), along, 0.0)
    assert found.judgement is Judgement.RIGHT
    assert not any(point.fitted for point in found.points)
    wrong = taylor(lambda _: 0.0, x, np.full(3, 1e-6), along, 0.0)
    assert wrong.judgement is Judgement.WRONG
