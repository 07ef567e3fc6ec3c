"""Differences, noise and the Taylor test against derivatives and rounding by formula."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.gradcheck.oracles.differences import (
    SAFETY,
    Kink,
    Smooth,
    along,
    along_element,
    richardson,
    step,
)
from dptrain.gradcheck.oracles.noise import measured
from dptrain.gradcheck.oracles.taylor import Judgement, taylor
from tests.gradcheck.oracles.smooth import UNIT, Far, Function

Array = NDArray[Any]


@given(st.integers(0, 2**32))
def test_values_of_smooth_functions_lie_within_their_errors(seed: int) -> None:
    f = Function(seed)
    for i, wanted in enumerate(f.gradient(f.x)):
        found = along_element(f.value, f.x, i, f.noise)
        assert isinstance(found, Smooth)
        assert abs(found.value - wanted) <= found.error


@pytest.mark.parametrize(("share", "outside"), [(1.0, (0, 0)), (1e-4, (31, 300))])
def test_errors_are_estimates_with_slack_and_yet_small(
    share: float, outside: tuple[int, int]
) -> None:
    """A noise that is too small shows: that errors are small is no accident of large estimates."""
    relative, beyond = [], 0
    for seed in range(100):
        f = Function(seed)
        for i, wanted in enumerate(f.gradient(f.x)):
            line = _line(f, i)
            at, noise = float(f.x[i]), share * f.noise
            value, error = richardson(line, at, step(line, at, noise), noise)
            beyond += abs(value - wanted) > error
            relative.append(error / abs(wanted))
    assert outside[0] <= beyond <= outside[1]
    assert np.median(relative) < 2e-9


def _line(f: Function, i: int) -> Callable[[float], float]:
    return lambda at: f.value(np.where(np.arange(3) == i, at, f.x))


def test_steps_follow_the_third_derivative_and_too_large_ones_show_in_the_error() -> None:
    for size in (1, 1000):

        def line(x: float, size: int = size) -> float:
            return math.sin(size * x)

        third = size**3 * math.cos(size * 0.5)
        noise = 4 * UNIT
        assert step(line, 0.5, noise) == pytest.approx(abs(3 * noise / third) ** (1 / 3), rel=2)
    for h in (1e-2, 1e-1, 0.5):
        value, error = richardson(math.sin, 0.5, h, UNIT)
        assert abs(value - math.cos(0.5)) <= error
        assert error == pytest.approx(SAFETY * h**2 * math.cos(0.5) / 6, rel=0.3)


def test_the_ends_of_what_a_function_can_do() -> None:
    logarithm = along(lambda x: math.log(x) if x > 0 else math.nan, 1e-7, 1e-15)
    assert isinstance(logarithm, Smooth)
    assert abs(logarithm.value - 1e7) <= logarithm.error < 1e5
    assert along(lambda _: math.nan, 0.0, 1e-16) is None
    with pytest.raises(UsageError, match="returned a float32; differences need float64"):
        along(cast(Any, np.float32), 1.0, 1e-15)


KINKS: list[tuple[Callable[[float], float], float, float]] = [
    (abs, -1, 1),
    (lambda x: max(x, 0.0), 0, 1),
    (lambda x: max(3 * x, -2 * x) + math.sin(x), -1, 4),
    (lambda x: -abs(math.expm1(x)), 1, -1),
    *((lambda x, jump=jump: math.sin(x) + jump * abs(x), 1 - jump, 1 + jump)
      for jump in (1e-4, 1e-6, 1e-8)),
]  # fmt: skip


@pytest.mark.parametrize(("f", "left", "right"), KINKS)
def test_kinks_are_found_with_both_slopes(
    f: Callable[[float], float], left: float, right: float
) -> None:
    found = along(f, 0.0, lambda value: 2 * UNIT * (abs(value) + 1e-3))
    assert isinstance(found, Kink)
    size = abs(right - left)
    assert (found.left, found.right) == pytest.approx((left, right), abs=1e-2 * size)
    low, high = sorted((found.left, found.right))
    for value in (low - size, (low + high) / 2, high + size):
        assert found.nearest(value) == min(max(value, low), high)


@pytest.mark.parametrize("distance", [1e-13, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4])
def test_beside_a_kink_the_slope_of_that_side_is_accepted(distance: float) -> None:
    for seed in range(20):
        f, random = Function(seed), np.random.default_rng(seed)
        f.x = random.standard_normal(3)
        slope = float(f.gradient(f.x)[0])
        jump = float(np.abs(f.gradient(f.x)).max() * 10 ** random.uniform(-4, 1))
        place, smooth = float(f.x[0]) + distance, _line(f, 0)

        def line(at: float, s: Any = smooth, jump: float = jump, place: float = place) -> float:
            return float(s(at)) + jump * abs(at - place)

        found = along(line, float(f.x[0]), f.noise + 8 * UNIT * jump)
        right = slope - jump
        assert found is not None
        near = found.nearest(right) if isinstance(found, Kink) else found.value
        assert abs(near - right) <= found.error
        assert isinstance(found, Smooth) or distance < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_that_of_float64_or_of_float32_on_the_way(seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(40)

    def smooth(x: Array) -> Array:
        return np.array([np.exp(x).sum(), 1e6 * np.sin(x).sum()])

    found = measured(smooth, x, seed)
    assert 1e-16 < found[0] < 1e-13
    assert 1e-11 < found[1] < 1e-8
    narrow = measured(lambda x: smooth(x.astype(np.float32).astype(float)), x, seed)[0]
    deviation = np.sqrt(np.sum((np.exp(x) * np.spacing(np.abs(x).astype(np.float32))) ** 2) / 12)
    assert deviation / 8 < narrow < deviation * 4


def test_a_kink_is_no_noise_and_what_is_not_finite_has_none_that_can_be_told() -> None:
    x = np.random.default_rng(0).standard_normal(40)
    place = float(x[0]) + 3e-7 * abs(float(x[0]))

    def bent(x: Array) -> Array:
        return np.array([np.exp(x).sum() + 10 * max(x[0] - place, 0)])

    # seven of eight times, one of three directions leads away from it
    assert sum(measured(bent, x, seed)[0] < 1e-13 for seed in range(40)) >= 30
    assert measured(lambda x: np.array([np.nan * x.sum()]), np.ones(3), 0)[0] == np.inf


@pytest.mark.parametrize(("factor", "slope"), [(1.0, 2), (1.01, 1)])
def test_right_gradients_leave_over_h_squared_and_wrong_ones_h(factor: float, slope: int) -> None:
    judged = []
    for seed in range(50):
        f, direction = Function(seed), np.random.default_rng(seed).standard_normal(3)
        gradient = f.gradient(f.x)
        gradient[np.abs(gradient * direction).argmax()] *= factor
        found = taylor(f.value, f.x, gradient, direction, f.noise)
        judged.append(found.judgement)
        assert found.slope == pytest.approx(slope, abs=0.1) or found.judgement != judged[0]
    assert judged.count(Judgement.RIGHT if factor == 1 else Judgement.WRONG) >= 48 + 2 * (
        slope == 2
    )


TAYLOR: list[tuple[Any, Array, Array, Any, Judgement]] = [
    (lambda x: float(3 * x[0]), np.ones(1), np.full(1, 3.0), 1e-15, Judgement.RIGHT),
    (lambda x: float(3 * x[0]), np.ones(1), np.full(1, 3.1), 1e-15, Judgement.WRONG),
    (lambda x: math.sin(x[0]), np.zeros(1), np.ones(1), lambda v: 1e-16 * abs(v), Judgement.RIGHT),
    (lambda _: math.nan, np.ones(1), np.ones(1), 1e-16, Judgement.UNDECIDED),
    (lambda x: float(x[0] ** 2), np.ones(1), np.full(1, np.nan), 1e-16, Judgement.UNDECIDED),
    (lambda _: 0.0, np.ones(3), np.zeros(3), 0.0, Judgement.RIGHT),  # a hinge beyond its margin
    (lambda _: 0.0, np.ones(3), np.full(3, 1e-6), 0.0, Judgement.WRONG),
    (Far(0).value, Far(0).x, np.ones(10), Far(0).noise, Judgement.RIGHT),
]


@pytest.mark.parametrize(("f", "x", "gradient", "noise", "judgement"), TAYLOR)
def test_the_taylor_test_where_there_is_no_slope_of_2(
    f: Any, x: Array, gradient: Array, noise: Any, judgement: Judgement
) -> None:
    found = taylor(f, x, gradient, np.linspace(1, -0.9, len(x)), noise)
    assert found.judgement is judgement
