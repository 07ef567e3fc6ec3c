"""JAX's `jax.test_util.check_grads` in 64 bits: of first order, in reverse mode, as asked here."""

from typing import Any

import jax
import numpy as np
from jax.test_util import check_grads
from numpy.typing import NDArray

from benchmarks.gradcheck.checkers.checker import Checker
from benchmarks.gradcheck.problems import Problem

jax.config.update("jax_enable_x64", True)


def _accepts(problem: Problem, gradient: NDArray[Any]) -> bool:
    scalar = jax.ShapeDtypeStruct((), np.float64)

    @jax.custom_vjp  # type: ignore[untyped-decorator, unused-ignore]
    def loss(x: Any) -> Any:
        return jax.pure_callback(lambda at: np.float64(problem.value(np.asarray(at))), scalar, x)

    loss.defvjp(lambda x: (loss(x), None), lambda _, factor: (factor * gradient,))
    try:
        check_grads(loss, (problem.x,), order=1, modes=("rev",))
    except AssertionError:
        return False
    return True


CHECKERS = (
    Checker(
        "JAX check_grads",
        _accepts,
        "first order, reverse mode: central differences of step 1e-4 along one normal "
        "direction, always of the same seed; "
        "rtol and atol 1e-5",
    ),
)
