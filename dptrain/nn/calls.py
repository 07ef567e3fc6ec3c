"""Computation as lists of calls on fixed arrays: made once, run in every step.

A call is a NumPy function with all its arguments, the output among them, so that a step allocates
nothing and Python has next to nothing to do between two calls. A layer that must decide something
while it runs puts a method of its own into the list.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Call = Callable[[], object]
call = partial


def run(calls: Iterable[Call]) -> None:
    """Run calls in order."""
    for each in calls:
        each()


def product(a: NDArray[Any], b: NDArray[Any], out: NDArray[Any]) -> Call:
    """Return the call ``out = a @ b`` of blocks ``(shards, m, k)`` and ``(shards, k, n)``.

    ``b`` may be one matrix ``(k, n)`` for all shards. A single shard goes to BLAS through `dot`,
    which takes a microsecond less than `matmul` and calls the same routine with the same arguments;
    where a dimension is 1, the two choose different routines, and `matmul` stays.
    """
    second = b if b.ndim == 2 else b[0]
    if len(a) == 1 and min(*a.shape[1:], second.shape[1]) > 1:
        return call(a[0].dot, second, out[0])
    return call(np.matmul, a, b, out)
