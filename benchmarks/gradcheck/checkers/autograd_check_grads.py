"""HIPS autograd's `check_grads`: of first order, in reverse mode, as asked here."""

from typing import Any

import numpy as np
from autograd.extend import defvjp, primitive
from autograd.test_util import check_grads
from numpy.typing import NDArray

from benchmarks.gradcheck.checkers.checker import Checker
from benchmarks.gradcheck.problems import Problem


def _accepts(problem: Problem, gradient: NDArray[Any]) -> bool:
    @primitive  # type: ignore[untyped-decorator, unused-ignore]
    def loss(x: Any) -> Any:
        return problem.value(np.asarray(x))

    defvjp(loss, lambda *_: lambda factor: factor * gradient)
    try:
        check_grads(loss, modes=["rev"], order=1)(problem.x)
    except AssertionError:
        return False
    return True


CHECKERS = (
    Checker(
        "autograd check_grads",
        _accepts,
        "first order, reverse mode: central differences of step 5e-7 along one normal "
        "direction; a difference below 1e-6, "
        "absolute or relative",
    ),
)
