"""Augmentation: training samples that are changed at random, differently in every step.

The draws depend on the experiment's seed, the step and the shard alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.randomness import Purpose, SteppedNormal, SteppedUniform
from dptrain.arithmetic.shards import Block
from dptrain.data.warping import TURN_STEPS, Rotation, Shift
from dptrain.errors import UsageError

Array = NDArray[Any]
Whole = NDArray[np.intp]

# They enter the random streams: never renumber.
_MOVES, _NOISE = 0, 1

MOST_CHANNELS = 4


@dataclass(frozen=True)
class Augmentation:
    """What is done to the samples of a training step.

    Attributes:
        shift: an image moves by up to so many whole pixels, in both directions; 0 for none. What
            comes in is 0.
        rotate: it turns by up to so many degrees, either way; 0 for not at all.
        noise: standard deviation of normally distributed noise that is added to every number, in
            the unit of the inputs as they are trained on (grey values range from 0 to 1), and not
            clipped; 0 for none.
    """

    shift: int = 0
    rotate: float = 0.0
    noise: float = 0.0

    def __bool__(self) -> bool:
        """Tell whether anything is done at all."""
        return bool(self.shift or self.rotate or self.noise)

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Raise `UsageError` where samples of a shape cannot be augmented in this way.

        Only images, ``(H, W)`` or ``(H, W, C)``, can be moved; noise can be added to anything.
        """
        for name, value in (("augment_shift", self.shift), ("augment_rotate", self.rotate)):
            if value and not _is_image(sample_shape):
                raise UsageError(
                    f"{name}={value} is for images, of shape (height, width) or (height, width, "
                    f"up to {MOST_CHANNELS} channels), but the data set has samples of shape "
                    f"{sample_shape}; leave it out, or give the samples such a shape"
                )
        if self.shift and self.shift >= min(sample_shape[:2]):
            raise UsageError(
                f"augment_shift={self.shift} would shift images of shape {sample_shape} out of "
                f"sight; give less than {min(sample_shape[:2])}, such as 2"
            )

    def bind(self, sample_shape: tuple[int, ...], dtype: np.dtype[Any], seed: int) -> "Augmenter":
        """Return what augments samples of a shape in the steps of an experiment of a seed."""
        return Augmenter(self, sample_shape, dtype, seed)


class Augmenter:
    """Augments samples, with buffers of its own."""

    def __init__(
        self,
        what: Augmentation,
        sample_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        seed: int,
    ) -> None:
        """Make the buffers; see `Augmentation.bind`."""
        self._what = what
        self._seed = seed
        self._streams: dict[int, _Streams] = {}
        self._noise = np.empty((0, *sample_shape), np.float32)
        self._rotation = Rotation(sample_shape, what.rotate, dtype) if what.rotate else None
        only_shifts = what.shift and not what.rotate
        self._shift = Shift(sample_shape, what.shift, dtype) if only_shifts else None

    def apply(self, step: int, blocks: Sequence[Block], samples: Sequence[Array]) -> None:
        """Augment the samples of a step's shards in place.

        Args:
            step: counted from 0.
            blocks: of shards.
            samples: of each block, ``(shards * rows, *sample_shape)``, C-contiguous.
        """
        for block, x in zip(blocks, samples, strict=True):
            if self._shift is not None or self._rotation is not None:
                self._move(step, block, x)
            if self._what.noise:
                self._add_noise(step, block, x)

    def _move(self, step: int, block: Block, x: Array) -> None:
        draws = np.empty((block.shards, block.rows, 3), np.float32)
        for i, each in enumerate(draws):
            self._stream(block.first + i).moves.fill(step, each)
        uniform = draws.reshape(-1, 3)
        down, right = (_whole(uniform[:, i], self._what.shift) for i in (0, 1))
        if self._shift is not None:
            for part in _parts(len(x), self._shift.rows):
                self._shift.apply(x[part], down[part], right[part])
        if self._rotation is not None:
            turns = _whole(uniform[:, 2], TURN_STEPS)
            for part in _parts(len(x), self._rotation.rows):
                self._rotation.apply(x[part], turns[part], down[part], right[part])

    def _add_noise(self, step: int, block: Block, x: Array) -> None:
        if len(self._noise) < block.rows:
            self._noise = np.empty((block.rows, *x.shape[1:]), np.float32)
        noise = self._noise[: block.rows]
        deviation = np.float32(self._what.noise)
        for i, each in enumerate(x.reshape(block.shards, block.rows, *x.shape[1:])):
            self._stream(block.first + i).noise.fill(step, noise)
            np.multiply(noise, deviation, out=noise)
            np.add(each, noise, out=each)

    def _stream(self, shard: int) -> "_Streams":
        """Return the streams of a shard, made at the first call and then kept."""
        found = self._streams.get(shard)
        if found is None:
            seed, purpose = self._seed, Purpose.AUGMENTATION
            found = self._streams[shard] = _Streams(
                SteppedUniform(seed, purpose, _MOVES, shard),
                SteppedNormal(seed, purpose, _NOISE, shard),
            )
        return found


class _Streams(NamedTuple):
    """Random numbers for one shard."""

    moves: SteppedUniform
    noise: SteppedNormal


def _whole(uniform: NDArray[np.float32], limit: int) -> Whole:
    """Turn numbers from 0 up to, but not including, 1 into whole ones, ``-limit`` to ``limit``."""
    return (uniform * np.float32(2 * limit + 1)).astype(np.intp) - limit


def _parts(rows: int, most: int) -> list[slice]:
    return [slice(start, start + most) for start in range(0, rows, most)]


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[2] <= MOST_CHANNELS)
