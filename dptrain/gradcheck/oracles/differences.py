"""Central differences, with a step chosen for each element and an error beside each value.

A central difference errs by ``h² M₃ / 6 + ε / h``, where M₃ is the size of the third derivative and
ε bounds the rounding error of the function. That is least at ``h = (3 ε / M₃)^⅓`` (Gill, Murray,
Saunders and Wright 1983, "Computing forward-difference intervals for numerical optimization", do
the same for forward differences). M₃ is measured with the function itself, and the value is
Richardson's, ``(4 D_h - D_2h) / 3``.

All functions are evaluated in float64: a float32 loss has no digits left for its differences.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import UsageError

Array = NDArray[Any]
Function = Callable[[Array], float]
Line = Callable[[float], float]
Noise = Callable[[float], float] | float

UNIT = 2.0**-53
FIRST: float = UNIT ** (1 / 3)
LEAST: float = UNIT ** (2 / 3)
MOST: float = UNIT ** (1 / 6)
GROWTH = 16.0
ROUNDS = 4
# Errors of 9000 derivatives of 3000 random smooth functions (tests/gradcheck/smooth.py) were at
# most 0.13 of the estimate, and 0.72 with features a hundred times finer. Features finer than the
# first step are beyond it: at 1e-6, 5 of 6000 derivatives lay outside fourfold the estimate.
SAFETY = 2.0


class Differences(NamedTuple):
    """Derivatives by some elements, each ``(len(indices),)`` float64.

    Attributes:
        values: the derivatives.
        errors: how far they may be from the true ones: `SAFETY` times an estimate, no bound. Only
            the part that comes from rounding is one. Infinite where the function is not finite.
        steps: h of each element; the function was evaluated as far as 2 h away.
        evaluations: of the function, in all.
    """

    values: Array
    errors: Array
    steps: Array
    evaluations: int


class Estimate(NamedTuple):
    """A derivative, and how far it may be from the true one: an estimate, as of `Differences`."""

    value: float
    error: float


def central(f: Function, x: Array, indices: Iterable[int], noise: Noise) -> Differences:
    """Return the derivatives of a function by some elements of its argument.

    Args:
        f: of a float64 vector; it may not keep what it is given.
        x: where, ``(size,)``; it is made float64.
        indices: the elements.
        noise: bound of the rounding error of ``f``, or a function that makes it of ``f``'s value.

    Raises:
        UsageError: ``f`` returns a number of less than float64.
    """
    found, steps, count = [], [], 0

    def counted(at: Array) -> float:
        nonlocal count
        count += 1
        return f(at)

    for index in indices:
        line = along_element(counted, x, index)
        h = step(line, float(x[index]), noise)
        found.append(richardson(line, float(x[index]), h, noise))
        steps.append(h)
    values, errors = [e.value for e in found], [e.error for e in found]
    return Differences(np.array(values), np.array(errors), np.array(steps), count)


def along_element(f: Function, x: Array, index: int) -> Line:
    """Return ``f`` as a function of one element of ``x``, the others as they are."""
    moved = np.array(x, float)

    def line(at: float) -> float:
        moved[index] = at
        return checked(f(moved))

    return line


def checked(value: float) -> float:
    """Return a function's value as float.

    Raises:
        UsageError: it has fewer digits than float64.
    """
    kind = getattr(value, "dtype", None)
    if kind is not None and kind != np.float64:
        raise UsageError(
            f"the function returned a {kind}; differences need float64: compute it in float64, "
            "also where training uses float32"
        )
    return float(value)


def noise_of(noise: Noise, *values: float) -> float:
    """Return the bound of the rounding error of any of some values of the function."""
    return max(noise(v) for v in values) if callable(noise) else float(noise)


def scale(at: float) -> float:
    """Return what steps at a place are relative to."""
    return max(1.0, abs(at))


def step(line: Line, at: float, noise: Noise) -> float:
    """Return the step with the smallest error, from M₃ measured with the step before.

    Where M₃ drowns in the rounding error, its estimate is a small accident; so the next step is
    larger by no more than `GROWTH`, until M₃ shows. Steps never leave `LEAST` to `MOST`, relative
    to `scale`: a quadratic function has no M₃.
    """
    size = scale(at)
    h = FIRST * size
    for _ in range(ROUNDS):
        before = h
        largest = min(GROWTH * h, MOST * size)
        h = max(min(_best(line, at, h, noise), largest), LEAST * size)
        if before / 2 <= h <= before * 2:
            break
    return h


def richardson(line: Line, at: float, h: float, noise: Noise) -> Estimate:
    """Return the derivative from the points ``h`` and ``2 h`` away on both sides.

    Its rounding error is at most ``1.5 ε / h``; what is cut off is estimated by
    ``|D_2h - D_h| / 3``, which is the error of ``D_h`` rather than that of the value. The divisors
    are the true distances of the points, which rounding has moved.
    """
    near, far = (_difference(line, at, each) for each in (h, 2 * h))
    value = (4 * near.slope - far.slope) / 3
    epsilon = noise_of(noise, *near.ends, *far.ends)
    rounding = 1.5 * epsilon / h + 8 * UNIT * abs(value)
    error = SAFETY * (rounding + abs(far.slope - near.slope) / 3)
    return Estimate(value, error if math.isfinite(error) else math.inf)


class _Difference(NamedTuple):
    slope: float
    ends: tuple[float, float]


def _difference(line: Line, at: float, h: float) -> _Difference:
    right, left = at + h, at - h
    ends = line(right), line(left)
    return _Difference((ends[0] - ends[1]) / (right - left), ends)


def _best(line: Line, at: float, h: float, noise: Noise) -> float:
    """Return the best step for M₃ ≈ ``|f₂ - 2 f₁ + 2 f₋₁ - f₋₂| / (2 h³)``."""
    f = [line(at + k * h) for k in (2, 1, -1, -2)]
    third = abs(f[0] - 2 * f[1] + 2 * f[2] - f[3]) / (2 * h**3)
    if not math.isfinite(third):  # such as a logarithm, left of 0
        return h / 1024
    # Also an exact function: its values are rounded once
    epsilon = max(noise_of(noise, *f), UNIT * max(map(abs, f)))
    return float(np.cbrt(3 * epsilon / third)) if third else math.inf
