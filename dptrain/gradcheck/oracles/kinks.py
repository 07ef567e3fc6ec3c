"""Kinks: where a function has a slope on each side, and a central difference means nothing.

A white box tells on which side of every kink it is (`branches`): the step is halved until all
points of the stencil are on the same side as x, and if there is no such step, x lies at a kink. A
black box tells only values: there ``Δ(h) = |right slope - left slope|`` halves with h where the
function is smooth, and stays where it has a kink.

Where one comparison is tied, backpropagation takes one side or something between: a value between
the two slopes is right, and any other wrong. Where several are tied at once, such as those of a
unit without weights on all rows, it decides for each by itself, and the sum need be neither slope
nor between them: so `Kink.ties` counts them.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.oracles.differences import (
    FIRST,
    LEAST,
    SAFETY,
    UNIT,
    Function,
    Line,
    Noise,
    along_element,
    checked,
    noise_of,
    richardson,
    scale,
    step,
)

Array = NDArray[Any]
Branched = Callable[[Array], tuple[float, list[bytes]]]
BranchLine = Callable[[float], list[bytes]]

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
        error: as of `Differences`; in a black box with what a kink that drowns in the rounding
            error could add.
        step: h; the function was evaluated as far as 2 h away.
    """

    value: float
    error: float
    step: float

    def accepts(self, found: float, tolerance: float = 0.0) -> bool:
        """Return whether a derivative may be right."""
        return abs(found - self.value) <= self.error + tolerance


class Kink(NamedTuple):
    """A kink at x, or too near to tell.

    Attributes:
        left: the slope on the side of smaller values.
        right: on that of larger ones.
        error: how far either may be from the true one, as of `Differences`.
        ties: bytes in which the branches of the sides differ: at least 1 in a white box, and 1 if
            one comparison alone is tied; 0 in a black box, which cannot tell.
    """

    left: float
    right: float
    error: float
    ties: int = 0

    def accepts(self, found: float, tolerance: float = 0.0) -> bool:
        """Return whether a derivative lies between the slopes."""
        slack = self.error + tolerance
        low, high = sorted((self.left, self.right))
        return low - slack <= found <= high + slack

    def decides(self, found: float) -> bool:
        """Return whether it tells if a derivative is right.

        Of several ties any sum of sides is right; in a black box there may be several.
        """
        return self.ties == 1 or (not self.ties and self.accepts(found))


class Undecided(NamedTuple):
    """Neither can be told.

    Attributes:
        reason: a sentence.
    """

    reason: str


Finding = Smooth | Kink | Undecided


def white_box(f: Branched, x: Array, indices: Iterable[int], noise: Noise) -> list[Finding]:
    """Return what a function is like along some elements of its argument.

    Args:
        f: returns its value, and what decided on which side of each kink it was.
        x: where, ``(size,)``.
        indices: the elements.
        noise: bound of the rounding error of ``f``'s value, as of `central`.
    """
    return [_white(f, x, index, noise) for index in indices]


def black_box(f: Function, x: Array, indices: Iterable[int], noise: Noise) -> list[Finding]:
    """Return what a function is like along some elements of its argument.

    A kink as far as a fifth of the smallest step that was tried counts as one at x.

    Args:
        f: as of `central`.
        x: where, ``(size,)``.
        indices: the elements.
        noise: as of `central`.
    """
    return [along(along_element(f, x, index), float(x[index]), noise) for index in indices]


def along(line: Line, at: float, noise: Noise) -> Finding:
    """Return what a function of one number is like, as of `black_box`; no point is computed twice.

    Args:
        line: the function.
        at: where.
        noise: as of `central`.
    """
    known = functools.cache(line)
    return _black(known, at, step(known, at, noise), noise)


def _white(f: Branched, x: Array, index: int, noise: Noise) -> Finding:
    at, moved = float(x[index]), np.array(x, float)
    known: dict[float, tuple[float, list[bytes]]] = {}

    def both(place: float) -> tuple[float, list[bytes]]:
        if place not in known:
            moved[index] = place
            value, branches = f(moved)
            known[place] = checked(value), branches
        return known[place]

    def line(place: float) -> float:
        return both(place)[0]

    def branches(place: float) -> list[bytes]:
        return both(place)[1]

    first, least = step(line, at, noise), LEAST * scale(at)
    here = branches(at)
    h = first
    while h >= least:
        if all(branches(at + k * h) == here for k in (-2, -1, 1, 2)):
            return Smooth(*richardson(line, at, h, noise), h)
        h /= 2
    edge = 4 * least  # a kink further away would have left room for the stencil
    # The first step, other than the chosen one, has not been made small by the kink
    wide = FIRST * scale(at)
    left, right = (_one_branch(branches, at, side * wide, side * edge) for side in (-1, 1))
    if left is None or right is None:
        return Undecided("more than one kink, too near to each other")
    found = _at_kink(line, at, (left, right), noise)
    ties = _differing(branches(at - edge), branches(at + edge))
    return found._replace(ties=ties) if isinstance(found, Kink) else found


def _differing(left: list[bytes], right: list[bytes]) -> int:
    """Count bytes."""
    pairs = zip(b"".join(left), b"".join(right), strict=True)
    return sum(a != b for a, b in pairs)


def _one_branch(branches: BranchLine, at: float, h: float, least: float) -> float | None:
    """Return the largest signed step, halved from h, without a kink from ``least`` to 2 h."""
    there = branches(at + least)
    while abs(h) >= 4 * abs(least):
        if all(branches(at + k * h) == there for k in (0.25, 0.5, 1, 2)):
            return h
        h /= 2
    return None


def _at_kink(line: Line, at: float, steps: tuple[float, float], noise: Noise) -> Finding:
    """Return the slopes of both sides; where they agree, the function is smooth all the same."""
    (left, below), (right, above) = (_one_sided(line, at, h, noise) for h in steps)
    error = max(below, above)
    if not math.isfinite(error):
        return Undecided("the function is not finite on both sides")
    if abs(right - left) <= below + above:
        size = min(map(abs, steps))
        return Smooth((left + right) / 2, error + abs(right - left) / 2, size)
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


def _black(line: Line, at: float, h: float, noise: Noise) -> Finding:
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
    if kinked is not None:
        return _at_kink(line, at, (-kinked / 2, kinked / 2), noise)
    return Undecided("no step is so small that the slopes of both sides draw nearer evenly")


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
