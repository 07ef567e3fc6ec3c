"""Central differences along a line, with a step chosen for it, an error, and an eye for kinks.

A central difference errs by ``h² M₃ / 6 + ε / h``, where M₃ is the size of the third derivative and
ε bounds the rounding error of the function. That is least at ``h = (3 ε / M₃)^⅓`` (Gill, Murray,
Saunders and Wright 1983, "Computing forward-difference intervals for numerical optimization", do
the same for forward differences). M₃ is measured with the function itself, and the value is
Richardson's, ``(4 D_h - D_2h) / 3``.

At a kink a function has a slope on each side, and a central difference means nothing. Nothing is
known of the function but its values: ``Δ(h) = |right slope - left slope|`` halves with h where it
is smooth, and stays where it has a kink. There backpropagation takes one side or something between.

All functions are evaluated in float64: a float32 loss has no digits left for its differences.
"""

import functools
import math
from collections.abc import Callable
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
# Errors of 9000 derivatives of 3000 random smooth functions (tests/gradcheck/oracles/smooth.py)
# were at most 0.13 of the estimate, and 0.72 with features a hundred times finer. Features finer
# than the first step are beyond it: at 1e-6, 5 of 6000 derivatives lay outside fourfold the
# estimate.
SAFETY = 2.0
# Between 1/2, a smooth function's ratio of Δ(h/2) to Δ(h), and 1, a kink's.
KINKED = 0.75
# Multiple of rounding's part up to which a jump is none: what rounding itself can make.
UNSEEN = 10.0
# How much wider than the step the first look is: curvature shows the better, rounding the less.
WIDE = 32.0


class Smooth(NamedTuple):
    """No kink near.

    Attributes:
        value: the derivative.
        error: how far it may be from the true one: `SAFETY` times an estimate, no bound, with what
            a kink that drowns in the rounding error could add. Infinite where the function is not
            finite.
        step: h; the function was evaluated as far as 2 h away.
    """

    value: float
    error: float
    step: float


class Kink(NamedTuple):
    """A kink, or too near to tell: as far as a fifth of the smallest step that was tried.

    Attributes:
        left: the slope on the side of smaller values.
        right: on that of larger ones.
        error: how far either may be from the true one, as of `Smooth`.
    """

    left: float
    right: float
    error: float

    def nearest(self, found: float) -> float:
        """Return the derivative between both slopes that is nearest to one."""
        low, high = sorted((self.left, self.right))
        return min(max(found, low), high)


Finding = Smooth | Kink | None


def along(line: Line, at: float, noise: Noise) -> Finding:
    """Return what a function of one number is like; None where that cannot be told.

    Args:
        line: the function; no point is computed twice.
        at: where.
        noise: bound of the rounding error of ``line``, or a function that makes it of its value.

    Raises:
        UsageError: the function returns a number of less than float64.
    """

    @functools.cache
    def known(place: float) -> float:
        return checked(line(place))

    return _looked(known, at, step(known, at, noise), noise)


def along_element(f: Function, x: Array, index: int, noise: Noise) -> Finding:
    """Return what a function of a vector is like along one element of it; see `along`."""
    moved = np.array(x, float)

    def line(at: float) -> float:
        moved[index] = at
        return f(moved)

    return along(line, float(x[index]), noise)


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


def _best(line: Line, at: float, h: float, noise: Noise) -> float:
    """Return the best step for M₃ ≈ ``|f₂ - 2 f₁ + 2 f₋₁ - f₋₂| / (2 h³)``."""
    f = [line(at + k * h) for k in (2, 1, -1, -2)]
    third = abs(f[0] - 2 * f[1] + 2 * f[2] - f[3]) / (2 * h**3)
    if not math.isfinite(third):  # such as a logarithm, left of 0
        return h / 1024
    # Also an exact function: its values are rounded once
    epsilon = max(noise_of(noise, *f), UNIT * max(map(abs, f)))
    return float(np.cbrt(3 * epsilon / third)) if third else math.inf


def richardson(line: Line, at: float, h: float, noise: Noise) -> tuple[float, float]:
    """Return the derivative from the points ``h`` and ``2 h`` away on both sides, and its error.

    Its rounding error is at most ``1.5 ε / h``; what is cut off is estimated by
    ``|D_2h - D_h| / 3``, which is the error of ``D_h`` rather than that of the value. The divisors
    are the true distances of the points, which rounding has moved.
    """
    places = [(at + k * h, at - k * h) for k in (1, 2)]
    ends = [(line(right), line(left)) for right, left in places]
    near, far = (
        (a - b) / (right - left) for (a, b), (right, left) in zip(ends, places, strict=True)
    )
    value = (4 * near - far) / 3
    rounding = 1.5 * noise_of(noise, *ends[0], *ends[1]) / h + 8 * UNIT * abs(value)
    error = SAFETY * (rounding + abs(far - near) / 3)
    return value, error if math.isfinite(error) else math.inf


def _looked(line: Line, at: float, h: float, noise: Noise) -> Finding:
    """Look at ever smaller widths until none of Δ is left over by curvature, or it is a kink's.

    The first look is wider than the stencil, and all are at least four times as wide: a kink in
    the stencil, which may be anywhere in it, leaves at least a third of its Δ over.
    """
    kinked: float | None = None
    last = 0.0
    width = WIDE * h
    while width >= LEAST * scale(at):
        seen = _jumps(line, at, width, noise)
        if seen.left_over <= UNSEEN * seen.blur:
            if kinked is not None and abs(seen.jumps[0]) + seen.blur >= KINKED * last:
                break  # drowned, not gone
            h = min(h, width / 8)
            value, error = richardson(line, at, h, noise)
            return Smooth(value, error + seen.left_over + 5 * seen.blur, h)
        if seen.stays:
            kinked, last = kinked or width, abs(seen.jumps[0])
        elif seen.falls:
            kinked = None
        width /= 2
    return None if kinked is None else _at_kink(line, at, kinked / 2, noise)


class _Jumps(NamedTuple):
    """Δ with its sign at a width, its half and its quarter, and what rounding can do to the first.

    To the second it can do twice as much, and to the third four times. Curvature and a kink
    together make ``h f'' + jump``, so ``2 Δ(h/2) - Δ(h)`` is the kink's part.
    """

    jumps: tuple[float, float, float]
    blur: float

    @property
    def left_over(self) -> float:
        """What curvature does not explain; rounding makes up to ten times the blur."""
        a, b, c = self.jumps
        found = max(abs(2 * b - a), abs(2 * c - b))
        return found if math.isfinite(found) else math.inf

    @property
    def stays(self) -> bool:
        """Whether Δ is that of a kink, whatever rounding does: it stays when the width halves."""
        a, b, c = map(abs, self.jumps)
        blur = self.blur
        return b - 2 * blur > KINKED * (a + blur) and c - 4 * blur > KINKED * (b + 2 * blur)

    @property
    def falls(self) -> bool:
        """Whether Δ is not that of a kink, whatever rounding does."""
        a, b, _ = map(abs, self.jumps)
        return not b + 2 * self.blur >= KINKED * (a - self.blur)


def _jumps(line: Line, at: float, h: float, noise: Noise) -> _Jumps:
    f0 = line(at)
    sides = [(line(at - h / k), line(at + h / k), h / k) for k in (1, 2, 4)]
    a, b, c = ((right - 2 * f0 + left) / each for left, right, each in sides)
    epsilon = noise_of(noise, f0, *(f for left, right, _ in sides for f in (left, right)))
    moved = UNIT * abs(at) * max(abs(right - f0) / each for _, right, each in sides)
    return _Jumps((a, b, c), 4 * (epsilon + moved) / h)


def _at_kink(line: Line, at: float, h: float, noise: Noise) -> Finding:
    """Return the slopes of both sides; where they agree, the function is smooth all the same."""
    (left, below), (right, above) = (_one_sided(line, at, side * h, noise) for side in (-1, 1))
    error = max(below, above)
    if not math.isfinite(error):
        return None
    if abs(right - left) <= below + above:
        return Smooth((left + right) / 2, error + abs(right - left) / 2, h)
    return Kink(left, right, error)


def _one_sided(line: Line, at: float, h: float, noise: Noise) -> tuple[float, float]:
    """Return the slope at x of a signed step's side, and how far it may be from the true one.

    It is that of the parabola through the points q, 2q and 4q away, q = h/4: the value at x itself
    may belong to the other side. The weights ``(-2, 5/2, -1/2) / q`` make ``5 ε / q`` of the
    rounding error; from 2q, 4q and 8q the rest of the error is four times as large.
    """
    q = h / 4
    f1, f2, f4, f8 = f = [line(at + k * q) for k in (1, 2, 4, 8)]
    near, far = (-2 * f1 + 2.5 * f2 - 0.5 * f4) / q, (-2 * f2 + 2.5 * f4 - 0.5 * f8) / (2 * q)
    moved = UNIT * (abs(at / q) + 8) * (abs(near) + abs(far))  # points are rounded as well
    rounding = 5 * (noise_of(noise, *f) / abs(q) + moved)
    return near, SAFETY * (rounding + abs(far - near))
