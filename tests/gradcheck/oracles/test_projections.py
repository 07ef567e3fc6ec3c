"""Projections: what they accept, what they see, and how often they miss, against the formula."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.gradcheck.directions import compare_along_directions
from dptrain.gradcheck.oracles.differences import UNIT
from dptrain.gradcheck.oracles.projections import (
    Oracle,
    Slope,
    blocks_of,
    by_complex_step,
    by_differences,
    missed,
    projected,
    sampled,
)
from dptrain.gradcheck.reference.network import Batch, Reference
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.activations import Tanh
from dptrain.nn.dense import Dense
from dptrain.nn.losses import SumOfSquares
from dptrain.nn.network import Network
from tests.gradcheck.smooth import Far, Smooth

Array = NDArray[Any]


def exact(gradient: Array, error: float = 0.0) -> Oracle:
    return lambda direction: Slope(float(gradient @ direction), error, direction)


def small_network() -> tuple[Reference, Array, list[slice]]:
    rng = np.random.default_rng(7)
    network = Network(5, [Dense(4), Tanh(), Dense(3)])
    rows = [rng.standard_normal((n, 5)) for n in (4, 3)]
    batch = Batch(rows, [rng.standard_normal((n, 3)) for n in (4, 3)], 0, 0)
    spans = [slice(t.start, t.stop) for t in network.all_tensors()]
    return Reference(network, SumOfSquares(), batch), rng.standard_normal(network.size), spans


@pytest.mark.parametrize("kind", ["complex step", "differences"])
def test_a_right_gradient_fits_and_a_wrong_tensor_does_not(kind: str) -> None:
    reference, x, spans = small_network()
    right = reference.gradient(x, UNIT)
    if kind == "complex step":
        oracle = by_complex_step(reference, x)
    else:
        oracle = by_differences(lambda at: float(reference.value(at)[0]), x, 4 * right.loss_bound)
    for seed in range(5):
        _, found = projected(spans, right.total, oracle, 2 * right.bound, seed=seed)
        assert all(each.fits for each in found)
        assert [each.span for each in found] == spans
    wrong = right.total.copy()
    wrong[21] *= 1 + 1e-6
    _, found = projected(spans, wrong, oracle, 2 * right.bound, seed=0)
    assert [each.fits for each in found] == [True, False, True, True]


@pytest.mark.parametrize("seed", range(10))
def test_differences_along_a_direction_that_rounding_bends(seed: int) -> None:
    """Large elements lose most digits of a small step, and it must not count as an error."""
    f = Far(seed)
    oracle = by_differences(f.value, f.x, f.noise)
    _, (found,) = projected([slice(0, 10)], np.ones(10), oracle, np.zeros(10), signs=3, seed=seed)
    assert found.fits
    assert max(each.tolerance for each in found.projections) < 1e-5


@pytest.mark.parametrize("draws", [1, 2])
def test_the_probability_to_miss_is_that_of_the_formula(draws: int) -> None:
    """Three patterns of an error of norm 1: all alike, alternating, and a single element."""
    size, tolerance, trials = 25, 0.6, 2000
    patterns = [np.ones(size) / 5, np.resize([0.2, -0.2], size), np.eye(size)[3]]
    nothing = np.zeros(size)
    wanted = missed(tolerance, 1.0) ** draws
    for pattern in patterns:
        passed = 0
        for seed in range(trials):
            oracle = exact(nothing, tolerance)
            _, (found,) = projected(
                [slice(0, size)], pattern, oracle, nothing, gaussian=draws, signs=0, seed=seed
            )
            passed += found.fits
            assert found.missed(1.0) == pytest.approx(wanted, rel=1e-9)
        deviation = math.sqrt(wanted * (1 - wanted) / trials)
        assert abs(passed / trials - wanted) < 3.5 * deviation


def test_an_error_of_the_oracle_does_not_raise_the_probability() -> None:
    """The oracle may be wrong by all that its error allows, to either side."""
    size, tolerance, trials = 16, 0.6, 2000
    error, nothing = np.ones(size) / 4, np.zeros(size)
    for shift in (-0.6, 0.3, 0.6):
        passed = 0
        for seed in range(trials):
            _, (found,) = projected(
                [slice(0, size)],
                error,
                lambda d, shift=shift: Slope(shift, tolerance, d),  # type: ignore[misc]
                nothing,
                gaussian=1,
                signs=0,
                seed=seed,
            )
            passed += found.fits
        assert passed / trials < missed(tolerance, 1.0) + 0.02


def test_missed_is_below_its_bound() -> None:
    for tolerance, size in [(1e-9, 1.0), (0.1, 1.0), (1.0, 1e-3)]:
        assert missed(tolerance, size) <= math.sqrt(2 / math.pi) * tolerance / size + 1e-15
    assert missed(1.0, 0.0) == 1.0


def test_signs_always_see_a_single_wrong_element() -> None:
    size = 30
    oracle = exact(np.zeros(size), 0.4)
    for seed in range(200):
        wrong = np.zeros(size)
        wrong[seed % size] = 0.9
        _, (found,) = projected(
            [slice(0, size)], wrong, oracle, np.zeros(size), gaussian=0, seed=seed
        )
        assert min(2 * each.tolerance for each in found.projections) == pytest.approx(0.8)
        assert not found.fits


def test_an_error_that_cancels_along_positive_directions_is_seen() -> None:
    wrong = np.array([1.0, -1.0])
    for seed in range(100):
        _, (found,) = projected([slice(0, 2)], wrong, exact(np.zeros(2)), np.zeros(2), seed=seed)
        assert not found.fits


def test_a_seed_is_fresh_unless_given_and_repeats_what_it_found() -> None:
    f = Smooth(3)
    spans = [slice(0, 2), slice(2, 3)]
    oracle = exact(f.gradient(f.x))
    first, found = projected(spans, f.gradient(f.x), oracle, np.zeros(3))
    other, _ = projected(spans, f.gradient(f.x), oracle, np.zeros(3))
    assert first != other
    assert projected(spans, f.gradient(f.x), oracle, np.zeros(3), seed=first) == (first, found)


def test_what_is_not_finite_never_fits() -> None:
    gradient = np.array([1.0, math.nan])
    _, (found,) = projected([slice(0, 2)], gradient, exact(np.ones(2)), np.full(2, 1e9))
    assert not found.fits


def test_sampled_elements_of_every_tensor() -> None:
    values = np.array([0, 5, -9, 0, 1e-3, 2, 3, -4, 1, 0, 0, 7], float)
    spans = [slice(0, 8), slice(9, 12)]
    for seed in range(20):
        drawn, indices = sampled(values, spans, 2, seed=seed)
        assert drawn == seed
        assert {1, 2, 4, 5, 11, 10} <= set(indices)
        assert 8 not in indices
        assert (np.diff(indices) > 0).all()
        assert len(indices) <= 8 + 1
    random = {int(i) for seed in range(50) for i in sampled(values, spans, 2, seed=seed)[1]}
    assert random == set(range(12)) - {8}


def test_blocks_cover_a_tensor_along_its_first_axis() -> None:
    blocks = blocks_of(slice(100, 100 + 784 * 50), (784, 50))
    assert [blocks[0], blocks[-1]] == [slice(100, 5_000), slice(34_400, 39_300)]
    assert [b.stop for b in blocks[:-1]] == [b.start for b in blocks[1:]]
    assert len(blocks_of(slice(0, 3 * 400), (3, 400))) == 3  # no row is cut
    assert len(blocks_of(slice(7, 7 + 200), (200,))) == 3
    for shape in [(8, 15), (1, 5_000), (5,), ()]:
        assert blocks_of(slice(0, math.prod(shape)), shape) == []


def test_a_block_shows_an_error_that_rounding_of_the_rest_hides() -> None:
    """The rows behind the first hundred are so uncertain that the whole tensor shows nothing."""
    right, bounds = np.ones(800), np.full(800, 1e-3)
    bounds[:100] = 1e-9
    wrong = right.copy()
    wrong[7] += 1e-4
    span = slice(0, 800)
    hidden, seen = 0, 0
    for seed in range(50):
        blocks = [blocks_of(span, (800,))]
        _, (found,) = projected([span], wrong, exact(right), bounds, blocks=blocks, seed=seed)
        hidden += all(each.fits for each in found.projections)
        seen += [each.fits for each in found.blocks] == [False] + 7 * [True]
        _, (found,) = projected([span], right, exact(right), bounds, blocks=blocks, seed=seed)
        assert found.fits
    assert (hidden, seen) == (50, 50)


def test_a_comparison_names_the_rows_of_the_blocks_that_are_wrong() -> None:
    network = Network(40, [Dense(20), Tanh(), Dense(3)])
    tensors = network.all_tensors()
    right = np.random.default_rng(3).standard_normal(network.size)
    wrong = right.copy()
    wrong[tensors[0].start + 25 * 20 + 3] *= 1.01  # W1[25, 3]
    bounds = np.full(network.size, 1e-12)
    same = compare_along_directions("e", "here", tensors, right, exact(right), bounds, 5)
    other = compare_along_directions("e", "here", tensors, wrong, exact(right), bounds, 5)
    assert (same.verdict, "wrong in" in same.note) == (Verdict.PASS, False)
    assert other.verdict is Verdict.FAIL
    assert other.note.endswith("; wrong in dense1.W[25:30]")
    assert [t.failed > 0 for t in other.tensors] == [True, False, False, False]
    assert [t.compared for t in other.tensors] == [11, 3, 3, 3]


def _bent(f: Smooth, across: Array, there: float, jump: float, x: Array) -> float:
    return f.value(x) + jump * max(float(across @ x) - there, 0.0)


@pytest.mark.parametrize("distance", [1e-9, 1e-8, 1e-7, 1e-6, 1e-5])
def test_differences_along_a_direction_step_round_kinks(distance: float) -> None:
    """Beyond a kink that is near, both central differences are wrong by the same half jump."""
    for seed in range(20):
        f = Smooth(seed)
        random = np.random.default_rng(seed)
        across, jump = random.standard_normal(len(f.x)), 10 ** random.uniform(-3, 0)
        there = float(across @ f.x) + distance

        bent = partial(_bent, f, across, there, jump)
        oracle = by_differences(bent, f.x, f.noise + 8 * UNIT)
        for _ in range(5):
            slope = oracle(random.standard_normal(len(f.x)))
            assert abs(slope.value - f.gradient(f.x) @ slope.direction) <= slope.error
