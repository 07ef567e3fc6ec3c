"""Rounding, measured: of functions whose rounding is known."""

from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.oracles.noise import measured


def smooth(x: Any) -> Any:
    return np.array([np.exp(x).sum(), 1e6 * np.sin(x).sum()])


@pytest.mark.parametrize("seed", range(10))
def test_rounding_of_float64(seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(40)
    found = measured(smooth, x, seed)
    assert 1e-16 < found[0] < 1e-13
    assert 1e-11 < found[1] < 1e-8


@pytest.mark.parametrize("seed", range(10))
def test_rounding_to_float32_on_the_way(seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(40)

    def rounded(x: Any) -> Any:
        return smooth(x.astype(np.float32).astype(float))

    deviation = np.sqrt(np.sum((np.exp(x) * np.spacing(np.abs(x).astype(np.float32))) ** 2) / 12)
    assert deviation / 8 < measured(rounded, x, seed)[0] < deviation * 4


def test_a_kink_in_some_directions_is_no_noise() -> None:
    x = np.random.default_rng(0).standard_normal(40)
    place = float(x[0]) + 3e-7 * abs(float(x[0]))

    def bent(x: Any) -> Any:
        return np.array([np.exp(x).sum() + 10 * max(x[0] - place, 0)])

    # seven of eight times, one of three directions leads away from it
    found = [measured(bent, x, seed)[0] < 1e-13 for seed in range(40)]
    assert sum(found) >= 30


def test_what_is_not_finite_has_no_noise_that_can_be_told() -> None:
    assert measured(lambda x: np.array([np.nan * x.sum()]), np.ones(3), 0)[0] == np.inf
