"""dptrain's own oracles, each alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gradcheck.checkers.checker import Checker
from benchmarks.gradcheck.problems import Problem
from dptrain.gradcheck.oracles.complex_step import complex_step
from dptrain.gradcheck.oracles.differences import UNIT
from dptrain.gradcheck.oracles.kinks import Undecided, white_box
from dptrain.gradcheck.oracles.projections import (
    Oracle,
    Slope,
    by_complex_step,
    by_differences,
    projected,
)
from dptrain.gradcheck.oracles.taylor import Judgement, taylor

Array = NDArray[Any]


def _by_complex_step(problem: Problem, gradient: Array) -> bool:
    wanted = problem.factor * complex_step(problem.reference, problem.x, np.arange(len(gradient)))
    return bool((np.abs(gradient - wanted) <= _tolerance(problem)).all())


def _tolerance(problem: Problem) -> Array:
    """Return how far a computed gradient and the complex step's may be apart by rounding."""
    return np.asarray(2 * problem.bound + 2 * UNIT * np.abs(problem.right))


def _by_central_differences(problem: Problem, gradient: Array) -> bool:
    found = white_box(problem.branched, problem.x, range(len(gradient)), problem.noise)
    pairs = zip(found, gradient, problem.bound, strict=True)
    return all(
        not isinstance(each, Undecided) and each.accepts(float(g), float(bound))
        for each, g, bound in pairs
    )


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
    _, found = projected(problem.spans, gradient, oracle, bounds)
    return all(each.fits for each in found)


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
