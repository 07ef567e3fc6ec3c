"""Projections and the complex step: what they see, what they miss, and how often."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import entry
from dptrain.gradcheck.oracles.complex_step import OwnComplexStep, by_complex_step, complex_step
from dptrain.gradcheck.oracles.logarithm import Labelled, lacking
from dptrain.gradcheck.oracles.projections import (
    Oracle,
    Slope,
    blocks_of,
    by_differences,
    compare_along_directions,
    missed,
    projected,
)
from dptrain.gradcheck.reference.network import Batch, Reference
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.activations import Tanh
from dptrain.nn.dense import Dense
from dptrain.nn.losses import SumOfSquares
from dptrain.nn.network import Network
from tests.gradcheck.oracles.smooth import UNIT, Far, Function

Array = NDArray[Any]
X = np.array([0.0, -1.5, 2.0])


def exact(gradient: Array, error: float = 0.0) -> Oracle:
    return lambda direction: Slope(float(gradient @ direction), error, direction)


@pytest.mark.parametrize("kind", ["complex step", "differences"])
def test_a_right_gradient_fits_and_a_wrong_tensor_does_not(kind: str) -> None:
    random = np.random.default_rng(7)
    network = Network(5, [Dense(4), Tanh(), Dense(3)])
    rows, t = ([random.standard_normal((n, k)) for n in (4, 3)] for k in (5, 3))
    reference, x = (
        Reference(network, SumOfSquares(), Batch(rows, t, 0, 0)),
        random.standard_normal(39),
    )
    right = reference.gradient(x, UNIT)
    found = complex_step(reference, x, np.arange(39))
    assert (np.abs(found - right.total) <= 2 * right.bound).all()
    oracle = by_complex_step(reference, x)
    if kind == "differences":
        oracle = by_differences(lambda at: float(reference.value(at)[0]), x, 4 * right.loss_bound)
    wrong = right.total.copy()
    wrong[21] *= 1 + 1e-6
    for seed in range(5):
        for gradient, fits in ((right.total, [True] * 4), (wrong, [True, False, True, True])):
            each = projected(network.all_tensors(), gradient, oracle, 2 * right.bound, seed)
            assert [all(p.fits for p in own) for own in each] == fits


@pytest.mark.parametrize("seed", range(10))
def test_differences_along_a_direction_that_rounding_bends(seed: int) -> None:
    """Large elements lose most digits of a small step, and it must not count as an error."""
    f = Far(seed)
    oracle = by_differences(f.value, f.x, f.noise)
    (found,) = projected([entry("W", (10,))], np.ones(10), oracle, np.zeros(10), seed)
    assert all(each.fits for each in found)
    assert max(each.tolerance for each in found) < 1e-5


@pytest.mark.parametrize("shift", [0.0, -0.6, 0.3, 0.6])
def test_the_probability_to_miss_is_that_of_the_formula(shift: float) -> None:
    """Whatever an error of norm 1 looks like; an oracle that errs does not raise it."""
    size, tolerance, trials = 25, 0.6, 1000
    wanted = missed(tolerance, 1.0)
    deviation = math.sqrt(wanted * (1 - wanted) / trials)
    for pattern in (np.ones(size) / 5, np.resize([0.2, -0.2], size), np.eye(size)[3]):
        passed = 0
        for seed in range(trials):
            oracle: Oracle = lambda d: Slope(shift, tolerance, d)  # noqa: E731 - short
            tensors, nothing = [entry("W", (size,))], np.zeros(size)
            (found,) = projected(tensors, pattern, oracle, nothing, seed, few=True)
            passed += found[0].fits
        assert passed / trials - wanted < 3.5 * deviation
        assert shift or abs(passed / trials - wanted) < 3.5 * deviation
    assert missed(1.0, 0.0) == 1.0


def test_errors_that_cancel_single_ones_and_what_is_no_number_are_seen() -> None:
    for seed in range(100):
        alternating, single = np.array([1.0, -1.0]), np.eye(30)[seed % 30]
        for wrong, error in ((alternating, 0.0), (0.9 * single, 0.4), (np.full(3, np.nan), 1e9)):
            size = len(wrong)
            oracle = exact(np.zeros(size), error)
            (found,) = projected([entry("W", (size,))], wrong, oracle, np.zeros(size), seed)
            assert not all(each.fits for each in found)


def test_blocks_cover_a_tensor_along_its_first_axis() -> None:
    blocks = blocks_of(entry("W", (784, 50), 100))
    assert [blocks[0], blocks[-1]] == [slice(100, 5_000), slice(34_400, 39_300)]
    assert [b.stop for b in blocks[:-1]] == [b.start for b in blocks[1:]]
    assert len(blocks_of(entry("W", (3, 400)))) == 3  # no row is cut
    assert len(blocks_of(entry("W", (200,), 7))) == 3
    for shape in [(8, 15), (1, 5_000), (5,), ()]:
        assert blocks_of(entry("W", shape)) == []


def test_a_comparison_names_the_rows_that_are_wrong_also_if_rounding_of_others_hides_them() -> None:
    tensors, bounds = [entry("W", (40, 20)), entry("b", (20,), 800)], np.full(820, 1e-3)
    bounds[25 * 20 : 30 * 20] = 1e-9
    right = np.random.default_rng(3).standard_normal(820)
    wrong = right.copy()
    wrong[25 * 20 + 3] += 1e-4
    for gradient, verdict in ((right, Verdict.PASS), (wrong, Verdict.FAIL)):
        found = compare_along_directions("e", "here", tensors, gradient, exact(right), bounds, 5)
        assert found.verdict is verdict
        assert found.note.endswith("; wrong in W[25:30]") == (verdict is Verdict.FAIL)
        assert [t.compared for t in found.tensors] == [11, 3]
    assert [t.failed for t in found.tensors] == [1, 0]


def _bent(f: Function, across: Array, there: float, jump: float, x: Array) -> float:
    return f.value(x) + jump * max(float(across @ x) - there, 0.0)


@pytest.mark.parametrize("distance", [1e-9, 1e-8, 1e-7, 1e-6, 1e-5])
def test_differences_along_a_direction_step_round_kinks(distance: float) -> None:
    """Beyond a kink that is near, both central differences are wrong by the same half jump."""
    for seed in range(20):
        f, random = Function(seed), np.random.default_rng(seed)
        across, jump = random.standard_normal(3), 10 ** random.uniform(-3, 0)
        bent = partial(_bent, f, across, float(across @ f.x) + distance, jump)
        oracle = by_differences(bent, f.x, f.noise + 8 * UNIT)
        for _ in range(5):
            slope = oracle(random.standard_normal(3))
            assert abs(slope.value - f.gradient(f.x) @ slope.direction) <= slope.error


def relu(x: Any) -> Any:
    y = x.copy()
    y[x <= 0] = 0
    return (y * np.array([1.0, 2.0, 3.0])).sum() + (x**2).sum()


class Code:
    """In place of a job: its loss is a function of three weights, in one shard."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def complex_losses(self, parameters: Any, step: int) -> Any:  # noqa: ARG002 - as of a job
        return np.array([self.function(parameters)])


def stepped(function: Callable[[Any], Any]) -> OwnComplexStep:
    local: Any = Code(function)
    return OwnComplexStep(local, X, 0)


def test_a_tie_is_found_and_nothing_is_known_there() -> None:
    own, every = stepped(relu), np.arange(3)
    gradient = own.gradients(every)
    assert gradient is not None
    np.testing.assert_allclose(gradient[0], [1, -3, 7])
    assert own.tied(every, gradient[0]).tolist() == [0]
    assert own.slope(np.array([1.0, 0.0, 0.0])).error == np.inf
    found = own.slope(np.array([0.0, 1.0, -1.0]))
    assert (found.value, found.error) == pytest.approx((-10, 0))


@pytest.mark.parametrize(
    ("function", "agrees"),
    [
        (relu, True),
        (lambda x: relu(x) + 1e-3 * np.abs(x[1]), False),  # np.abs drops the imaginary part
        (lambda x: relu(x) + abs(x[2].real), False),
        (lambda x: relu(x.conj()), False),
        (lambda x: float(relu(x)), False),
    ],
)
def test_code_is_trusted_only_as_far_as_differences_agree(function: Any, agrees: bool) -> None:
    differences = by_differences(lambda x: float(function(x)), X, 1e-15)
    tries = [[np.array([0.0, 1.0, 0.3]), np.array([0.0, -0.2, 1.0])]]
    assert (stepped(function).agreeing(tries, differences) is not None) == agrees


@pytest.mark.parametrize(
    ("estimates", "known", "told"),
    [
        ((1.002e-7, 1.0e-7, 1.004e-7, 1.003e-7), 0.0, 1e-7),
        ((1.2e-7, 0.9e-7, 1.004e-7, 1.003e-7), 0.0, None),  # as far apart as chance would have it
        ((1.0e-7, 1.0e-7), 0.0, None),
        ((0.4e-7, 0.2e-7), 1e-7, 1e-7),  # what other rows have told
        ((3e-7, 0.2e-7), 1e-7, None),
    ],
)
def test_uncertain_tensors_that_agree_tell_an_epsilon(
    estimates: tuple[float, ...], known: float, told: float | None
) -> None:
    count = len(estimates)
    slopes = [Slope(-e, 1.1e-7, d) for e, d in zip(estimates, np.eye(count), strict=True)]
    labelled = Labelled(3, np.ones(count), np.zeros(count))
    found = lacking(labelled, np.zeros(count), slopes, known)
    assert (found and found.epsilon) == told
