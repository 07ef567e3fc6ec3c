"""Central differences against derivatives by formula, and what they say of their own errors."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.gradcheck.oracles.differences import SAFETY, central, richardson
from tests.gradcheck.smooth import UNIT, Smooth

Array = NDArray[Any]


@given(st.integers(0, 2**32))
def test_values_lie_within_their_errors(seed: int) -> None:
    f = Smooth(seed)
    found = central(f.value, f.x, range(3), f.noise)
    assert (np.abs(found.values - f.gradient(f.x)) <= found.errors).all()


def test_errors_are_estimates_with_slack_and_yet_small() -> None:
    shares, relative = [], []
    for seed in range(300):
        f = Smooth(seed)
        found, wanted = central(f.value, f.x, range(3), f.noise), f.gradient(f.x)
        shares += list(SAFETY * np.abs(found.values - wanted) / found.errors)
        relative += list(found.errors / np.abs(wanted))
    assert max(shares) < 0.25
    assert np.median(relative) < 2e-9


def test_a_noise_that_is_too_small_shows_in_the_measure_of_the_errors() -> None:
    """That errors above are small is no accident of estimates that are far too large."""
    f = Smooth(3)
    outside = 0
    for seed in range(100):
        f = Smooth(seed)
        found = central(f.value, f.x, range(3), 1e-4 * f.noise)
        outside += int((np.abs(found.values - f.gradient(f.x)) > found.errors).sum())
    assert outside > 30


@pytest.mark.parametrize("at", [0.0, 1e-9, 1.0, -3.7, 4096.0])
def test_a_polynomial_of_the_fourth_degree_is_exact_but_for_rounding(at: float) -> None:
    def f(x: Array) -> float:
        return float((x[0] - at) ** 4 + 3 * (x[0] - at) ** 2 - 7 * (x[0] - at))

    found = central(f, np.array([at]), [0], 4 * UNIT)
    assert found.values[0] == pytest.approx(-7, rel=1e-9)
    assert abs(found.values[0] + 7) <= found.errors[0] < 1e-7


def test_steps_follow_the_third_derivative() -> None:
    def f(x: Array) -> float:
        return math.sin(x[0]) + math.sin(1000 * x[1])

    found = central(f, np.full(2, 0.5), [0, 1], lambda value: 4 * UNIT * (abs(value) + 1))
    wanted = [(12 * UNIT * 1.5 / abs(third)) ** (1 / 3) for third in _thirds(0.5)]
    assert found.steps == pytest.approx(wanted, rel=2)
    assert found.steps[0] > 50 * found.steps[1]


@pytest.mark.parametrize("h", [1e-2, 1e-1, 0.5])
def test_a_step_that_is_too_large_shows_in_the_error(h: float) -> None:
    value, error = richardson(math.sin, 0.5, h, UNIT)
    assert abs(value - math.cos(0.5)) <= error
    assert error == pytest.approx(SAFETY * h**2 * math.cos(0.5) / 6, rel=0.3)


def _thirds(x: float) -> tuple[float, float]:
    return -math.cos(x), -1e9 * math.cos(1000 * x)


def test_only_the_elements_asked_for_are_moved_and_counted() -> None:
    seen = set()

    def f(x: Array) -> float:
        seen.add((float(x[0]), float(x[2])))
        return float(x[1] ** 3)

    found = central(f, np.arange(3.0), [1], 1e-15)
    assert seen == {(0.0, 2.0)}
    assert 8 <= found.evaluations <= 20
    assert found.evaluations % 4 == 0
    assert found.values == pytest.approx([3.0], rel=1e-9)


def test_float32_arguments_are_moved_in_float64() -> None:
    found = central(lambda x: float(np.exp(x[0])), np.array([1.0], np.float32), [0], 1e-15)
    assert found.values[0] == pytest.approx(math.e, rel=1e-9)


def test_a_float32_function_is_refused() -> None:
    with pytest.raises(UsageError, match="returned a float32; differences need float64"):
        central(lambda x: np.float32(x[0]), np.ones(1), [0], 1e-15)  # type: ignore[arg-type, return-value]


def test_near_the_edge_of_where_a_function_is_defined_steps_become_smaller() -> None:
    def f(x: Array) -> float:
        return math.log(x[0]) if x[0] > 0 else math.nan

    found = central(f, np.array([1e-7]), [0], lambda value: 2 * UNIT * abs(value))
    assert abs(found.values[0] - 1e7) <= found.errors[0] < 1e5


def test_outside_of_it_the_error_is_infinite() -> None:
    found = central(lambda _: math.nan, np.zeros(1), [0], 1e-16)
    assert found.errors == [math.inf]
