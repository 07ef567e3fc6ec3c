"""SciPy's `scipy.optimize.check_grad`, which returns a norm and leaves the verdict to its reader.

Here the reader is as strict as can be without a false alarm: the norm may not be larger than the
largest that right gradients of the same kind of function have, with the same factor of the loss.
"""

import functools
from typing import Any

from numpy.typing import NDArray
from scipy.optimize import check_grad

from benchmarks.gradcheck.checkers.checker import Checker
from benchmarks.gradcheck.problems import Problem, problem

SEEDS = 100


def _norm(asked: Problem, gradient: NDArray[Any]) -> float:
    return float(check_grad(asked.value, lambda _: gradient, asked.x))


@functools.cache
def _largest(kind: str, factor: float) -> float:
    clean = (problem(kind, seed).times(factor) for seed in range(SEEDS))
    return max(_norm(each, each.right) for each in clean)


def _accepts(asked: Problem, gradient: NDArray[Any]) -> bool:
    return _norm(asked, gradient) <= _largest(asked.kind, asked.factor)


CHECKERS = (
    Checker(
        "scipy check_grad",
        _accepts,
        "forward differences of step 1.5e-8 for each element; only a norm, which is compared with "
        f"the largest of {SEEDS} right gradients: no false alarms by construction",
    ),
)
