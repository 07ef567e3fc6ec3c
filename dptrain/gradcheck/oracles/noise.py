"""How far rounding moves a function of somebody's code, measured.

Values at equally spaced points a tiny way apart differ by the function's slope, which higher
differences do not see, and by rounding, which they see the better the higher they are: the k-th
differences of independent errors of deviation σ have the deviation ``σ √((2k)!) / k!`` (Moré and
Wild 2011, "Estimating computational noise"). Points as near as neighbours of float64 show the
rounding of float64; code that computes in float32 on the way gives the same value there, and shows
its rounding at points as far apart as neighbours of float32.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Spacing, relative to each element: some neighbours of float64, and one or two of float32.
SPACINGS = (2.0**-48, 2.0**-23)
POINTS, ORDERS = 8, (3, 4)
# A kink among the points of a direction looks like noise; not in all directions at once.
DIRECTIONS = 3


def measured(f: Callable[[Array], Array], x: Array, seed: int) -> Array:
    """Return about the deviation by which rounding moves each value of a function.

    Args:
        f: of a float64 vector; returns as many values each time, ``(k,)``.
        x: where, ``(size,)``.
        seed: of the directions.

    Returns:
        ``(k,)``, the larger of both spacings. What is not finite has no noise that can be told:
        infinite.
    """
    random = np.random.default_rng(seed)
    found = []
    for spacing in SPACINGS:
        estimates = []
        for _ in range(DIRECTIONS):
            step = (
                spacing * np.maximum(np.abs(x), np.abs(x).mean()) * random.uniform(0.5, 1, len(x))
            )
            step *= random.choice((-1.0, 1.0), len(x))
            values = np.array([f(x + k * step) for k in range(POINTS)], float)
            estimates.append(_deviation(values))
        found.append(np.min(estimates, axis=0))
    noise: Array = np.nan_to_num(np.max(found, axis=0), nan=np.inf)
    return noise


def _deviation(values: Array) -> Array:
    """Return the deviation of what differs by rounding, the larger of those by both orders."""
    found = []
    for order in ORDERS:
        with np.errstate(all="ignore"):
            table = np.diff(values, order, axis=0)
            scale = math.factorial(order) / math.sqrt(math.factorial(2 * order))
            found.append(scale * np.sqrt(np.mean(table**2, axis=0)))
    larger: Array = np.max(found, axis=0)
    return larger
