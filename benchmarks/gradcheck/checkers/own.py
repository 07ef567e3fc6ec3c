"""dptrain's own oracles, each alone."""

import secrets
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gradcheck.checkers.checker import Checker
from benchmarks.gradcheck.problems import Problem
from dptrain.gradcheck.comparison import entry
from dptrain.gradcheck.oracles.complex_step import by_complex_step, complex_step
from dptrain.gradcheck.oracles.differences import UNIT, Kink, along_element
from dptrain.gradcheck.oracles.projections import Oracle, Slope, by_differences, projected
from dptrain.gradcheck.oracles.taylor import Judgement, taylor

Array = NDArray[Any]


def _by_complex_step(problem: Problem, gradient: Array) -> bool:
    wanted = problem.factor * complex_step(problem.reference, problem.x, np.arange(len(gradient)))
    return bool((np.abs(gradient - wanted) <= _tolerance(problem)).all())


def _tolerance(problem: Problem) -> Array:
    """Return how far a computed gradient and the complex step's may be apart by rounding."""
    return np.asarray(2 * problem.bound + 2 * UNIT * np.abs(problem.right))


def _by_central_differences(problem: Problem, gradient: Array) -> bool:
    for i, (g, bound) in enumerate(zip(gradient.tolist(), problem.bound, strict=True)):
        found = along_element(problem.value, problem.x, i, problem.noise)
        if found is None:
            return False
        wanted = found.nearest(g) if isinstance(found, Kink) else found.value
        if not abs(g - wanted) <= found.error + float(bound):
            return False
    return True


def _by_projections(problem: Problem, gradient: Array) -> bool:
    unscaled = by_complex_step(problem.reference, problem.x)

    def oracle(direction: Array) -> Slope:
        found = unscaled(direction)
        return found._replace(value=problem.factor * found.value)

    return _projected(problem, gradient, oracle, _tolerance(problem))


def _by_projected_differences(problem: Problem, gradient: Array) -> bool:
    oracle = by_differences(problem.value, problem.x, problem.noise)
    return _projected(problem, gradient, oracle, problem.bound)


def _projected(problem: Problem, gradient: Array, oracle: Oracle, bounds: Array) -> bool:
    tensors = [entry("", (span.stop - span.start,), span.start) for span in problem.spans]
    found = projected(tensors, gradient, oracle, bounds, secrets.randbits(64))
    return all(each.fits for own in found for each in own if each.block is None)


def _by_taylor(problem: Problem, gradient: Array) -> bool:
    direction = np.random.default_rng().standard_normal(len(gradient))
    found = taylor(problem.value, problem.x, gradient, direction, problem.noise)
    return found.judgement != Judgement.WRONG


CHECKERS = (
    Checker(
        "dptrain, complex step",
        _by_complex_step,
        "each element by the complex step; tolerance from the running bound of rounding errors",
    ),
    Checker(
        "dptrain, central differences",
        _by_central_differences,
        "each element with a step of its own and kinks told apart; tolerance from the estimate of "
        "the differences' error",
    ),
    Checker(
        "dptrain, projections",
        _by_projections,
        "for each tensor two normal directions and one of signs, by the complex step; fresh seeds",
    ),
    Checker(
        "dptrain, projected differences",
        _by_projected_differences,
        "the same directions by central differences: for a function without formulas, and knowing "
        "nothing of kinks",
    ),
    Checker(
        "dptrain, Taylor test",
        _by_taylor,
        "the slope along one normal direction is not 1; fresh seeds, and nothing known of kinks",
    ),
)
