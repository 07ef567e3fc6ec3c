"""What augmentation makes of a step's rows, written a second time.

Every shard has two streams of Philox, with the spawn keys ``(5, 0, shard)`` for what moves images
and ``(5, 1, shard)`` for noise. The step is the highest of the four words of Philox's counter.
"""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.schema import Settled
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.streams import AUGMENTATION, LAST_WORD, stream_at

Array = NDArray[Any]

MOVES, NOISE = 0, 1
# Angles are whole parts of the limit.
TURNS = 512
# Roundings of a coordinate before it is split into a place and a share: of the sine and its
# products, sums, the middle; and of the three mixtures after that.
ROUNDINGS = 16


class Moves(NamedTuple):
    """How images are moved, ``(rows,)``: in pixels, and counter-clockwise in radians."""

    down: Array
    right: Array
    angle: Array


class Augmented(NamedTuple):
    """Rows, and by how much any computation of the same formulas may differ from them."""

    x: Array
    bound: Array


def evenly(uniform: Array, limit: int) -> Array:
    """Spread numbers from 0 to 1 evenly over the whole numbers from -limit to limit."""
    return np.floor(uniform * np.float32(2 * limit + 1)).astype(int) - limit


def own_stream(_: int, step: int, shard: int) -> tuple[int, int]:
    """Return the step and shard whose stream a shard has in a step, for moves or for noise."""
    return step, shard


def as_drawn(drawn: Any) -> Any:
    """Return what was drawn."""
    return drawn


@dataclass(frozen=True)
class Draws:
    """What is drawn for the rows of an experiment: a recipe, of which mistakes change one part.

    Attributes:
        seed: of the experiment.
        shift: pixels that images move by at most.
        rotate: degrees that they turn by at most.
        deviation: of the noise.
        sample_shape: of a row.
        spread: makes whole numbers up to a limit of numbers from 0 to 1.
        word: of the counter, which holds the step.
        stream: step and shard of a stream, of what it is for, a step and a shard.
        change_moves: what is made of the moves of a shard.
        change_noise: what is made of its noise.
    """

    seed: int
    shift: int
    rotate: float
    deviation: float
    sample_shape: tuple[int, ...]
    spread: Callable[[Array, int], Array] = evenly
    word: int = LAST_WORD
    stream: Callable[[int, int, int], tuple[int, int]] = own_stream
    change_moves: Callable[[Moves], Moves] = as_drawn
    change_noise: Callable[[Array], Array] = as_drawn

    @property
    def anything(self) -> bool:
        """Whether anything is done to the rows."""
        return self.moves_images or bool(self.deviation)

    @property
    def moves_images(self) -> bool:
        """Whether images are shifted or turned."""
        return bool(self.shift or self.rotate)

    def moves(self, step: int, shard: int, rows: int) -> Moves:
        """Return how the images of a shard are moved in a step."""
        uniform = self._at(MOVES, shard, step).random((rows, 3), dtype=np.float32)
        down, right = (self.spread(uniform[:, i], self.shift) for i in (0, 1))
        turns = self.spread(uniform[:, 2], TURNS) if self.rotate else np.zeros(rows)
        return self.change_moves(Moves(down, right, math.radians(self.rotate) * turns / TURNS))

    def _at(self, what: int, shard: int, step: int) -> np.random.Generator:
        step, shard = self.stream(what, step, shard)
        return stream_at(self.seed, step, AUGMENTATION, what, shard, word=self.word)

    def moves_of(self, step: int, shards: Sequence[int]) -> Moves:
        """Return how the images of all shards are moved, one shard after the other."""
        each = [self.moves(step, shard, n) for shard, n in enumerate(shards) if n]
        return Moves(*(np.concatenate(list(parts)) for parts in zip(*each, strict=True)))

    def noise(self, step: int, shard: int, rows: int) -> Array:
        """Return what a shard's noise is made of, ``(rows, *sample)``: of deviation 1."""
        shape = (rows, *self.sample_shape)
        count = math.prod(shape)
        philox: Any = self._at(NOISE, shard, step).bit_generator
        words: Array = philox.random_raw(-(-count // 4))
        parts = words[:, np.newaxis] >> np.array([0, 16, 32, 48], np.uint64) & np.uint64(0xFFFF)
        return self.change_noise(quantiles()[parts.reshape(-1)[:count].astype(int)].reshape(shape))


def draws_of(experiment: Settled, sample_shape: tuple[int, ...]) -> Draws:
    """Return what is drawn for an experiment's rows."""
    e = experiment
    return Draws(e.seed, e.augment_shift, e.augment_rotate, e.augment_noise, sample_shape)


@functools.cache
def quantiles() -> Array:
    """Return 65,536 equally likely values, ascending, float32: as good as a normal distribution."""
    normal = statistics.NormalDist()
    lower = np.array([normal.inv_cdf((2 * i + 1) / 2**17) for i in range(2**15)])
    lower /= math.sqrt(math.fsum(lower**2) / 2**15)
    return np.concatenate([lower, -lower[::-1]]).astype(np.float32)


def augmented(x: Array, shards: Sequence[int], step: int, draws: Draws) -> Augmented:
    """Return what becomes of a step's rows ``(rows, *sample)``, of which each shard has so many."""
    present = [(shard, n) for shard, n in enumerate(shards) if n]
    found, bound = x.astype(float), np.zeros(x.shape)
    unit = UNITS[x.dtype.name]
    if draws.moves_images:
        found = moved(found, draws.moves_of(step, shards))
        if draws.rotate:
            room = ROUNDINGS * unit * sum(x.shape[1:3]) * 2
            bound += room * np.abs(found).max(initial=np.abs(x).max(initial=0))
    if draws.deviation:
        noise = np.concatenate([draws.noise(step, shard, n) for shard, n in present])
        scaled = (noise * np.float32(draws.deviation)).astype(float)
        bound += 2 * UNITS["float32"] * np.abs(scaled) + unit * np.abs(found + scaled)
        found = found + scaled
    return Augmented(found, bound)


def moved(x: Array, moves: Moves) -> Array:
    """Turn images about their middle and shift them then, by bilinear interpolation.

    Each pixel takes the value of the place that it comes from; beyond the edges that is 0.
    """
    images = x.reshape(*x.shape[:3], -1)
    height, width = images.shape[1:3]
    down, right, angle = (each[:, np.newaxis, np.newaxis] for each in moves)
    rows, columns = np.indices((height, width))
    v, u = rows - (height - 1) / 2 - down, columns - (width - 1) / 2 - right
    y = np.sin(angle) * u + np.cos(angle) * v + (height - 1) / 2
    x_from = np.cos(angle) * u - np.sin(angle) * v + (width - 1) / 2
    found = np.zeros(images.shape)
    which = np.arange(len(images))[:, np.newaxis, np.newaxis]
    for i in (np.floor(y), np.floor(y) + 1):
        for j in (np.floor(x_from), np.floor(x_from) + 1):
            inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
            weight = np.where(inside, (1 - np.abs(y - i)) * (1 - np.abs(x_from - j)), 0)
            place = which, i.clip(0, height - 1).astype(int), j.clip(0, width - 1).astype(int)
            found += weight[..., np.newaxis] * images[place]
    return found.reshape(x.shape)
