"""Gradients compared along random directions, and how likely it is that an error goes unseen.

For an error vector e and a direction of independent standard normal numbers, ``<e, d>`` is normal
with the deviation ``‖e‖``, whatever e looks like. A tolerance τ therefore lets it pass with the
probability ``erf(τ / (√2 ‖e‖)) ≤ √(2/π) τ / ‖e‖``, and k directions with the product. The error of
the oracle cannot raise it: of all intervals of one width, a normal number is in that around 0 most
often.

Directions of random signs (Rademacher) stand beside them. They see every single wrong element
whole, where a normal number may happen to be small, but two equal errors cancel in half of them.
All directions have both signs: along positive ones, errors of both signs cancel.

Rounding of a whole tensor hides more than that of a part. Directions that move one block of it
alone see smaller errors in the block, and tell where an error is.
"""

import math
import secrets
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.oracles import complex_step
from dptrain.gradcheck.oracles.differences import (
    FIRST,
    UNIT,
    Function,
    Noise,
    checked,
    noise_of,
    scale,
)
from dptrain.gradcheck.oracles.kinks import Smooth, along
from dptrain.gradcheck.reference.network import Reference

Array = NDArray[Any]

# A direction costs a forward pass: as many as that locate an error well enough, of tensors that are
# too large to have all their elements looked at.
BLOCKS, BLOCK = 8, 64
# Directions in which it is tried what rounding the places of points does to a function.
ROUNDED = 2


class Slope(NamedTuple):
    """What an oracle finds along a direction.

    Attributes:
        value: the derivative along ``direction``.
        error: how far it may be from the true one; infinite where kinks lie so near that
            nothing can be said.
        direction: the one that was gone, ``(size,)``: what was asked for, but for rounding.
    """

    value: float
    error: float
    direction: Array


Oracle = Callable[[Array], Slope]


class Projection(NamedTuple):
    """A tensor's gradient along a direction that moves this tensor, or a block of it, alone.

    Attributes:
        found: of the gradient that is checked.
        wanted: of the oracle.
        tolerance: how far apart they may be; infinite where the oracle knows nothing.
        gaussian: whether the direction is of normal numbers, otherwise of signs.
        error: the oracle's part of the tolerance.
    """

    found: float
    wanted: float
    tolerance: float
    gaussian: bool
    error: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether they agree, for all that the oracle knows; what is not finite never does."""
        return abs(self.found - self.wanted) <= self.tolerance

    @property
    def compared(self) -> bool:
        """Whether the oracle knows anything."""
        return self.tolerance < math.inf


class Projected(NamedTuple):
    """All projections of a tensor.

    Attributes:
        span: of the tensor in the flat vector.
        projections: one for each direction that moves all of it.
        blocks: one for each block, in their order.
    """

    span: slice
    projections: tuple[Projection, ...]
    blocks: tuple[Projection, ...] = ()

    @property
    def all(self) -> tuple[Projection, ...]:
        """Those of the whole tensor, and those of blocks."""
        return self.projections + self.blocks

    @property
    def fits(self) -> bool:
        """Whether all agree."""
        return all(each.fits for each in self.all)

    def missed(self, size: float) -> float:
        """Return the probability that an error in this tensor would have gone unseen.

        Blocks make it smaller for some errors, but not for all, and are not counted.

        Args:
            size: its Euclidean norm.
        """
        normal = (p.tolerance for p in self.projections if p.gaussian)
        return math.prod(missed(tolerance, size) for tolerance in normal)


def missed(tolerance: float, size: float) -> float:
    """Return ``erf(τ / (√2 ‖e‖))``: how likely one normal direction hides an error of this norm."""
    return math.erf(tolerance / (math.sqrt(2) * size)) if size else 1.0


def by_complex_step(reference: Reference, parameters: Array) -> Oracle:
    """Return an oracle whose error is that of rounding alone, which belongs into the `bounds`."""

    def slope(direction: Array) -> Slope:
        return Slope(complex_step.directional(reference, parameters, direction), 0.0, direction)

    return slope


def by_differences(f: Function, x: Array, noise: Noise) -> Oracle:
    """Return an oracle of central differences along the direction; arguments as of `central`.

    Its steps are so short that no kink shows between them, as of `kinks.black_box`.

    The elements of ``x`` are rounded when they are moved. What is compared is the direction that
    was really gone, with the weights of the extrapolation, so that this costs no digits.
    """
    origin = np.array(x, float)

    def slope(direction: Array) -> Slope:
        reach = scale(float(np.max(np.abs(origin[direction != 0]), initial=0.0)))
        length = float(np.max(np.abs(direction), initial=0.0)) / reach or 1.0
        unit = direction / length

        def line(at: float) -> float:
            return checked(f(origin + at * unit))

        random = np.random.default_rng(0)
        rounded = [unit] + [
            np.where(direction != 0, origin * random.choice((-1.0, 1.0), origin.shape), 0.0)
            for _ in range(ROUNDED)
        ]
        ends = [[checked(f(origin + k * FIRST * each)) for k in (1, -1)] for each in rounded]
        coarse = max(abs(right - left) for right, left in ends) / FIRST

        def blurred(value: float) -> float:
            """Rounded places look like a rounded function; about as much as this."""
            return noise_of(noise, value) + UNIT * coarse

        found = along(line, 0.0, blurred)
        if not isinstance(found, Smooth):
            return Slope(0.0, math.inf, direction)
        h = found.step
        near, far = (((origin + k * unit) - (origin - k * unit)) / (2 * k) for k in (h, 2 * h))
        return Slope(found.value * length, found.error * length, (4 * near - far) / 3 * length)

    return slope


def projected(
    spans: Sequence[slice],
    gradient: Array,
    oracle: Oracle,
    bounds: Array,
    *,
    gaussian: int = 2,
    signs: int = 1,
    blocks: Sequence[Sequence[slice]] = (),
    seed: int | None = None,
) -> tuple[int, list[Projected]]:
    """Compare a gradient with an oracle along random directions, tensor by tensor.

    Args:
        spans: of the tensors in the flat vector.
        gradient: what is checked, flat ``(size,)``.
        oracle: `by_complex_step` or `by_differences`.
        bounds: for each element how far gradient and oracle may be apart by rounding, ``(size,)``.
        gaussian: directions of normal numbers for each tensor.
        signs: directions of signs.
        blocks: of each tensor, in the flat vector; each gets a direction of normal numbers.
        seed: of the directions; a fresh one unless given.

    Returns:
        The seed, for the log, and what was found for each span.
    """
    drawn = secrets.randbits(64) if seed is None else seed
    found = []
    for place, span in enumerate(spans):
        key = np.random.SeedSequence(drawn, spawn_key=(place,))
        rng = np.random.Generator(np.random.Philox(key))
        size = span.stop - span.start
        directions = [(rng.standard_normal(size), True) for _ in range(gaussian)]
        directions += [(rng.choice((-1.0, 1.0), size), False) for _ in range(signs)]
        each = [_one(span, gradient, oracle, bounds, *direction) for direction in directions]
        parts = [
            _one(b, gradient, oracle, bounds, rng.standard_normal(b.stop - b.start), True)
            for b in (blocks[place] if blocks else ())
        ]
        found.append(Projected(span, tuple(each), tuple(parts)))
    return drawn, found


def blocks_of(span: slice, shape: tuple[int, ...]) -> list[slice]:
    """Cut a tensor along its first axis into at most `BLOCKS` blocks of at least `BLOCK` elements.

    Args:
        span: of the tensor in the flat vector.
        shape: of the tensor.

    Returns:
        The blocks' places in the flat vector; none where there would be a single one.
    """
    rows = shape[0] if shape else 1
    row = (span.stop - span.start) // max(rows, 1)
    count = min(BLOCKS, rows, (span.stop - span.start) // BLOCK)
    edges = [span.start + row * (rows * k // count) for k in range(count + 1)] if count > 1 else []
    return [slice(low, high) for low, high in pairwise(edges)]


def _one(
    span: slice, gradient: Array, oracle: Oracle, bounds: Array, own: Array, gaussian: bool
) -> Projection:
    direction = np.zeros(len(gradient))
    direction[span] = own
    slope = oracle(direction)
    terms = gradient[span].astype(float) * slope.direction[span]
    # The sum is exact but for its end; each product is rounded, and so is the direction
    found = math.fsum(terms) if np.isfinite(terms).all() else math.nan
    allowed = float(np.abs(slope.direction[span]) @ bounds[span])
    rounding = 4 * UNIT * float(np.abs(terms).sum())
    tolerance = allowed + slope.error + rounding
    return Projection(found, slope.value, tolerance, gaussian, slope.error)


def sampled(
    values: Array, spans: Sequence[slice], each: int = 4, *, seed: int | None = None
) -> tuple[int, NDArray[np.intp]]:
    """Choose elements to compare one by one: of each tensor the most telling, and random ones.

    Args:
        values: flat ``(size,)``, such as a gradient.
        spans: of the tensors.
        each: of every tensor, how many with the largest absolute values, with the smallest other
            than 0, and at random.
        seed: of the random ones; a fresh one unless given.

    Returns:
        The seed, and ascending indices, none twice.
    """
    drawn = secrets.randbits(64) if seed is None else seed
    chosen: list[NDArray[np.intp]] = [np.empty(0, np.intp)]
    for place, span in enumerate(spans):
        key = np.random.SeedSequence(drawn, spawn_key=(place,))
        rng = np.random.Generator(np.random.Philox(key))
        size = np.abs(values[span])
        order = np.argsort(size, kind="stable")
        smallest = order[np.count_nonzero(size == 0) :][:each]
        random = rng.choice(len(size), min(each, len(size)), replace=False)
        own = np.concatenate([order[max(len(order) - each, 0) :], smallest, random])
        chosen.append(own + span.start)
    return drawn, np.unique(np.concatenate(chosen))
