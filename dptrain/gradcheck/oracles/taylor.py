"""The Taylor test: what the gradient leaves over, ``|L(θ + h d) - L(θ) - h <g, d>|``, over h.

With the right gradient it falls as h², with a wrong one as h: on a log-log plot, lines of the
slopes 2 and 1. For large h the function's further terms bend them, and for small h rounding ends
them, so the slope is fitted to the smallest steps that rounding leaves alone.
"""

import enum
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.oracles.differences import UNIT, Function, Noise, checked, noise_of

Array = NDArray[Any]

# Rounding's part of a point that is used is at most this share of it, and bends a slope over a
# decade by 0.1.
CLEAN = 0.125
DECADES = 1.5
LEAST_POINTS = 4
# How near to a whole number a slope must be: 300 random smooth functions had 2 within 0.003, and
# between the lines, where a wrong gradient's term and the curvature are alike, it is any number.
NEAR = 0.15
STEPS = np.geomspace(1e-10, 1e-1, 55)


class Judgement(enum.StrEnum):
    """What the slope says of the gradient."""

    RIGHT = "right"
    WRONG = "wrong"
    UNDECIDED = "undecided"


class Taylor(NamedTuple):
    """What a gradient leaves over along a direction.

    Attributes:
        points: steps h, ascending, and what is left over, for a plot.
        slope: of the smallest steps that rounding leaves alone; NaN where there were too few.
        judgement: from the slope. Where no remainder at all rises above rounding, the gradient
            is right as far as can be seen.
    """

    points: tuple[tuple[float, float], ...]
    slope: float
    judgement: Judgement


def taylor(f: Function, x: Array, gradient: Array, direction: Array, noise: Noise) -> Taylor:
    """Measure what a gradient leaves over.

    Args:
        f: of a float64 vector; it may not keep what it is given.
        x: where, ``(size,)``.
        gradient: that is checked, ``(size,)``.
        direction: to go, ``(size,)``, other than 0; steps are relative to its largest element.
        noise: bound of the rounding error of ``f``, or a function that makes it of its value.
    """
    origin = np.array(x, float)
    start = checked(f(origin.copy()))
    unit = direction / np.max(np.abs(direction))
    left = np.empty(len(STEPS))
    clean = np.zeros(len(STEPS), bool)
    for i, h in enumerate(STEPS):
        there = origin + h * unit
        value = checked(f(there.copy()))
        terms = gradient.astype(float) * (there - origin)  # of the step that was gone
        linear = math.fsum(terms) if np.isfinite(terms).all() else math.nan
        rounding = 3 * UNIT * float(np.abs(terms).sum()) + 2 * UNIT * abs(value - start)
        blur = noise_of(noise, start) + noise_of(noise, value) + rounding
        left[i] = abs(value - start - linear)
        # exactly 0 where nothing is left of a loss that is flat, which has no slope
        clean[i] = 0 < left[i] <= math.inf and blur <= CLEAN * left[i]
    points = tuple(zip(STEPS.tolist(), left.tolist(), strict=True))
    return Taylor(points, *_judged(left, clean))


def _judged(left: Array, clean: Array) -> tuple[float, Judgement]:
    """Return the slope of the smallest clean points, and what it says."""
    if not clean.any():
        flat = left[-1] <= math.inf
        return math.nan, Judgement.RIGHT if flat else Judgement.UNDECIDED
    used = clean & (STEPS[clean][0] * 10**DECADES >= STEPS)
    if np.count_nonzero(used) < LEAST_POINTS:
        return math.nan, Judgement.UNDECIDED
    slope = float(np.polyfit(np.log(STEPS[used]), np.log(left[used]), 1)[0])
    if slope <= 1 + NEAR:
        return slope, Judgement.WRONG
    # 3 where the second derivative is 0
    whole = abs(slope - round(slope)) <= NEAR
    return slope, Judgement.RIGHT if whole else Judgement.UNDECIDED
