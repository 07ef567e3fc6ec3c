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
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import Comparison, Entry, TensorResult
from dptrain.gradcheck.oracles.differences import (
    FIRST,
    UNIT,
    Function,
    Noise,
    Smooth,
    along,
    checked,
    noise_of,
    scale,
)
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.nn.network import Tensor

Array = NDArray[Any]

# A direction costs a forward pass: as many as that locate an error well enough, of tensors that are
# too large to have all their elements looked at.
BLOCKS, BLOCK = 8, 64
# Directions in which it is tried what rounding the places of points does to a function.
ROUNDED = 2
# The probability with which an error of the size named in the report may have gone unseen.
MISSED = 1e-3
# An oracle that is less certain than this, relative to a tensor's largest element or to its norm,
# says nothing.
RESOLUTION = 1e-3


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


def by_differences(f: Function, x: Array, noise: Noise) -> Oracle:
    """Return an oracle of differences along the direction, whose steps are shorter than kinks.

    The elements of ``x`` are rounded when they are moved. What is compared is the direction that
    was really gone, with the weights of the extrapolation, so that this costs no digits.

    Args:
        f: of a float64 vector; it may not keep what it is given.
        x: where, ``(size,)``.
        noise: as of `along`.
    """
    origin = np.array(x, float)

    def slope(direction: Array) -> Slope:
        reach = scale(float(np.max(np.abs(origin[direction != 0]), initial=0.0)))
        length = float(np.max(np.abs(direction), initial=0.0)) / reach or 1.0
        unit = direction / length
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

        found = along(lambda at: f(origin + at * unit), 0.0, blurred)
        if not isinstance(found, Smooth):
            return Slope(0.0, math.inf, direction)
        h = found.step
        near, far = (((origin + k * unit) - (origin - k * unit)) / (2 * k) for k in (h, 2 * h))
        return Slope(found.value * length, found.error * length, (4 * near - far) / 3 * length)

    return slope


class Projection(NamedTuple):
    """A tensor's gradient along a direction that moves this tensor, or a block of it, alone.

    Attributes:
        found: of the gradient that is checked.
        wanted: of the oracle.
        tolerance: how far apart they may be; infinite where the oracle knows nothing.
        error: the oracle's part of the tolerance.
        gaussian: whether the direction is of normal numbers and moves all of the tensor.
        block: which elements it moves, where they are not all of the tensor's.
    """

    found: float
    wanted: float
    tolerance: float
    error: float
    gaussian: bool
    block: slice | None

    @property
    def fits(self) -> bool:
        """Whether they agree, for all that the oracle knows; what is not finite never does."""
        return abs(self.found - self.wanted) <= self.tolerance

    @property
    def compared(self) -> bool:
        """Whether the oracle knows anything."""
        return self.tolerance < math.inf


def compare_along_directions(
    edge: str,
    where: str,
    tensors: Sequence[Tensor],
    gradient: Array,
    oracle: Oracle,
    bounds: Array,
    seed: int,
    *,
    few: bool = False,
) -> Comparison:
    """Compare a gradient with an oracle: tensor by tensor, and large ones block by block as well.

    Args:
        edge: as of `Comparison`, as is ``where``.
        where: see there.
        tensors: those that are compared.
        gradient: what is checked, flat ``(size,)``.
        oracle: what it is compared with.
        bounds: for each element how far both may be apart by rounding, ``(size,)``.
        seed: of the directions.
        few: only one direction for each tensor, and none for blocks.
    """
    found = projected(tensors, gradient, oracle, bounds, seed, few=few)
    sizes = [float(np.linalg.norm(gradient[t.start : t.stop])) for t in tensors]
    unseen = max((_unseen(e) / s for e, s in zip(found, sizes, strict=True) if s), default=np.nan)
    note = (
        f"seed {seed}; an error of {unseen:.1e} of a tensor's gradient goes unseen with a "
        f"probability of {MISSED:g}"
    )
    every = [projection for each in found for projection in each]
    if left := sum(not each.compared for each in every):
        note += f"; {left} of {len(every)} directions are not compared, kinks are too near"
    verdicts = []
    for tensor, each, size in zip(tensors, found, sizes, strict=True):
        # a gradient that is 0 but for rounding, as of biases before a batch norm, has no size
        zero = float(np.linalg.norm(bounds[tensor.start : tensor.stop]))
        verdicts.append(_verdict(each, size if size > zero else max(sizes)))
    wrong = [
        part for tensor, each in zip(tensors, found, strict=True) for part in _at(tensor, each)
    ]
    if wrong:
        note += f"; wrong in {', '.join(wrong)}"
    results = tuple(map(_result, tensors, found, sizes))
    return Comparison("analytic = projections", edge, where, worst(verdicts), results, note)


def projected(
    tensors: Sequence[Tensor],
    gradient: Array,
    oracle: Oracle,
    bounds: Array,
    seed: int,
    *,
    few: bool = False,
) -> list[list[Projection]]:
    """Return the projections of each tensor; arguments as of `compare_along_directions`.

    Two directions of normal numbers and one of signs, and one for each block.
    """
    found = []
    for place, tensor in enumerate(tensors):
        key = np.random.SeedSequence(seed, spawn_key=(place,))
        random = np.random.Generator(np.random.Philox(key))
        whole, size = slice(tensor.start, tensor.stop), tensor.stop - tensor.start
        own = []
        for block, normal in _directions(tensor, few=few):
            span = block or whole
            count = span.stop - span.start
            drawn = random.standard_normal(count) if normal else random.choice((-1.0, 1.0), size)
            direction = np.zeros(len(gradient))
            direction[span] = drawn
            slope = oracle(direction)
            terms = gradient[span].astype(float) * slope.direction[span]
            # The sum is exact but for its end; each product is rounded, and so is the direction
            sum_ = math.fsum(terms) if np.isfinite(terms).all() else math.nan
            allowed = float(np.abs(slope.direction[span]) @ bounds[span])
            tolerance = allowed + slope.error + 4 * UNIT * float(np.abs(terms).sum())
            gaussian = normal and block is None
            own.append(Projection(sum_, slope.value, tolerance, slope.error, gaussian, block))
        found.append(own)
    return found


def _directions(tensor: Tensor, *, few: bool) -> Iterator[tuple[slice | None, bool]]:
    """Yield which block each direction moves, if not all, and whether by normal numbers."""
    yield None, True
    if not few:
        yield from [(None, True), (None, False)]
        yield from ((block, True) for block in blocks_of(tensor))


def blocks_of(tensor: Tensor) -> list[slice]:
    """Cut a tensor along its first axis into at most `BLOCKS` blocks of at least `BLOCK` elements.

    Returns:
        The blocks' places in the flat vector; none where there would be a single one.
    """
    size, rows = tensor.stop - tensor.start, tensor.shape[0] if tensor.shape else 1
    row = size // max(rows, 1)
    count = min(BLOCKS, rows, size // BLOCK)
    edges = (
        [tensor.start + row * (rows * k // count) for k in range(count + 1)] if count > 1 else []
    )
    return [slice(low, high) for low, high in pairwise(edges)]


def missed(tolerance: float, size: float) -> float:
    """Return ``erf(τ / (√2 ‖e‖))``: how likely one normal direction hides an error of this norm."""
    return math.erf(tolerance / (math.sqrt(2) * size)) if size else 1.0


def _unseen(found: Sequence[Projection]) -> float:
    """Return the norm of an error that goes unseen with the probability `MISSED`.

    Blocks make it smaller for some errors, but not for all, and are not counted.
    """
    known = [p.tolerance for p in found if p.gaussian and p.compared]
    if not known:
        return np.inf
    low, high = 0.0, max(known) * 1e6 + 1e-300
    for _ in range(60):
        middle = (low + high) / 2
        hidden = math.prod(missed(tolerance, middle) for tolerance in known)
        low, high = (middle, high) if hidden > MISSED else (low, middle)
    return high


def _result(tensor: Tensor, found: Sequence[Projection], size: float) -> TensorResult:
    entries = [Entry((), p.found, p.wanted, p.tolerance) for p in found if p.compared]
    ratios = [abs(e.found - e.wanted) / (e.tolerance or 1e-300) for e in entries]
    top = entries[int(np.argmax(ratios))] if entries else None
    seen = _unseen(found) / size if size else np.nan
    failed = sum(not p.fits for p in found)
    elements = tensor.stop - tensor.start
    return TensorResult(tensor.name, elements, len(entries), 0, failed, top, (seen, seen))


def _verdict(found: Sequence[Projection], size: float) -> Verdict:
    """Return what the projections of a tensor whose gradient has a norm come to."""
    if not all(p.fits for p in found):
        return Verdict.FAIL
    if not size:  # the loss is flat
        return Verdict.PASS
    blocks = [p.error <= RESOLUTION * size for p in found if p.block is not None]
    whole = any(p.error <= RESOLUTION * size for p in found if p.block is None)
    return Verdict.PASS if whole or (blocks and all(blocks)) else Verdict.INCONCLUSIVE


def _at(tensor: Tensor, found: Sequence[Projection]) -> Iterator[str]:
    """Yield which rows of a tensor are wrong, as slices are written, where others are right."""
    row = (tensor.stop - tensor.start) // (tensor.shape[0] if tensor.shape else 1)
    blocks = [p for p in found if p.block is not None]
    for each in blocks:
        if each.block and not each.fits and any(p.fits for p in blocks):
            edges = ((edge - tensor.start) // row for edge in (each.block.start, each.block.stop))
            yield f"{tensor.name}[{':'.join(map(str, edges))}]"
