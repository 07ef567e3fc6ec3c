"""The Taylor test: what the gradient leaves over, ``|L(θ + h d) - L(θ) - h <g, d>|``, over h.

With the right gradient it falls as h², with a wrong one as h: on a log-log plot, lines of the
slopes 2 and 1. For large h the function's further terms bend them, and for small h rounding ends
them, so the slope is fitted to the smallest steps that rounding leaves alone.
"""

import enum
import math
from collections.abc import Callable
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


class Point(NamedTuple):
    """One step.

    Attributes:
        h: the step.
        remainder: what the gradient leaves over.
        noise: bound of rounding's part of it.
        fitted: whether the slope was fitted to it.
    """

    h: float
    remainder: float
    noise: float
    fitted: bool


class Taylor(NamedTuple):
    """What a gradient leaves over along a direction.

    Attributes:
        points: with ascending h, for a plot.
        slope: of the fitted points; NaN where there were too few.
        judgement: from the slope. Where no remainder at all rises above rounding, the gradient
            is right as far as can be seen.
        resolution: where the gradient is right, the error of ``<g, d>`` that would have shown:
            as large as what curvature leaves over; otherwise NaN. Direction and error are those
            of a direction whose largest element is 1.
    """

    points: tuple[Point, ...]
    slope: float
    judgement: Judgement
    resolution: float


def taylor(
    f: Function, x: Array, gradient: Array, direction: Array, noise: Noise, steps: Array = STEPS
) -> Taylor:
    """Measure what a gradient leaves over.

    Args:
        f: of a float64 vector.
        x: where, ``(size,)``.
        gradient: that is checked, ``(size,)``.
        direction: to go, ``(size,)``, other than 0; steps are relative to its largest element.
        noise: bound of the rounding error of ``f``, as of `central`.
        steps: values of h, ascending; the default goes from 1e-10 to 0.1, six in a decade.
    """
    origin = np.array(x, float)
    start = checked(f(origin.copy()))
    unit = direction / np.max(np.abs(direction))
    found = [_left_over(f, origin, start, gradient, h, unit, noise) for h in steps]
    # exactly 0 where nothing is left of a loss that is flat, which has no slope
    clean = [0 < left <= math.inf and blur <= CLEAN * left for _, left, blur in found]
    chosen = _chosen(steps, clean)
    points = tuple(Point(*each, use) for each, use in zip(found, chosen, strict=True))
    used = [p for p in points if p.fitted]
    return Taylor(points, *_judged(points, used, any(clean)))


def _left_over(
    f: Callable[[Array], float],
    x: Array,
    start: float,
    gradient: Array,
    h: float,
    direction: Array,
    noise: Noise,
) -> tuple[float, float, float]:
    """Return h, the remainder, and rounding's part; the linear term is that of the step gone."""
    there = x + h * direction
    value = checked(f(there.copy()))
    terms = gradient.astype(float) * (there - x)
    linear = math.fsum(terms) if np.isfinite(terms).all() else math.nan
    rounding = 3 * UNIT * float(np.abs(terms).sum()) + 2 * UNIT * abs(value - start)
    blur = noise_of(noise, start) + noise_of(noise, value) + rounding
    return float(h), abs(value - start - linear), blur


def _chosen(steps: Array, clean: list[bool]) -> list[bool]:
    """Return which points to fit: the smallest clean one, and those `DECADES` above it."""
    least = min((h for h, fine in zip(steps, clean, strict=True) if fine), default=math.inf)
    return [fine and h <= least * 10**DECADES for h, fine in zip(steps, clean, strict=True)]


def _judged(
    points: tuple[Point, ...], used: list[Point], any_clean: bool
) -> tuple[float, Judgement, float]:
    """Return slope, judgement and resolution."""
    last = points[-1]
    if not any_clean and last.remainder <= math.inf:
        return math.nan, Judgement.RIGHT, (last.remainder + last.noise) / last.h
    if len(used) < LEAST_POINTS:
        return math.nan, Judgement.UNDECIDED, math.nan
    h, left = (np.log([getattr(p, name) for p in used]) for name in ("h", "remainder"))
    slope = float(np.polyfit(h, left, 1)[0])
    if slope <= 1 + NEAR:
        return slope, Judgement.WRONG, math.nan
    if abs(slope - round(slope)) > NEAR:  # 3 where the second derivative is 0
        return slope, Judgement.UNDECIDED, math.nan
    # The first point alone could be where an error's term and the curvature cancel
    return slope, Judgement.RIGHT, float(np.median([p.remainder / p.h for p in used]))
