"""Random numbers keyed by what they are for, so that no generator state is ever carried along.

Whoever asks for the same seed, purpose and key gets the same stream, on any rank, in any order and
after any resume. The streams are those of NumPy's ``Philox`` (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC'11), whose key is derived by ``SeedSequence``.
"""

import enum
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import UsageError

_SEED_LIMIT = 2**64
_KEY_LIMIT = 2**32


class Purpose(enum.IntEnum):
    """What a stream is for. The numbers enter every stream: add new ones, never renumber."""

    SHUFFLE = 1
    SPLIT = 2
    INITIAL_WEIGHTS = 3
    DROPOUT = 4
    AUGMENTATION = 5
    FINGERPRINT = 6
    SEARCH = 7
    OWN_CODE = 8


def generator(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """Return the generator of one purpose and key (epoch, step, layer, shard ...), at its start.

    ``seed`` is a whole number from 0 to 2**64 - 1, otherwise UsageError. The numbers of ``key``
    lie below 2**32.

    Different arguments give different streams, also ``key=(1,)`` and ``key=(1, 0)``. Putting all
    numbers into the entropy would not do: ``SeedSequence`` pads entropy with zeros to four 32-bit
    words, so ``SeedSequence((1,))`` equals ``SeedSequence((1, 0))``, and it spreads a number of
    2**32 or more over two words, so ``(2**32,)`` equals ``(0, 1)``. A spawn key starts after the
    padded entropy and counts word by word.
    """
    if not 0 <= seed < _SEED_LIMIT:
        raise UsageError(f"seed={seed} must be a whole number from 0 to {_SEED_LIMIT - 1}")
    assert all(0 <= part < _KEY_LIMIT for part in key), key
    sequence = np.random.SeedSequence(seed, spawn_key=(int(purpose), *key))
    return np.random.Generator(np.random.Philox(sequence))


class _Stepped:
    """A stream for one purpose and key that begins anew for every step, at little cost.

    The key of ``Philox`` comes from seed, purpose and key as in `generator`; the step is the
    highest word of its counter, so the streams of two steps have nothing in common.
    """

    def __init__(self, seed: int, purpose: Purpose, *key: int) -> None:
        """Prepare; arguments as for `generator`."""
        self._philox: Any = generator(seed, purpose, *key).bit_generator
        self._generator = np.random.Generator(self._philox)
        self._state: Any = self._philox.state

    def _begin(self, step: int) -> None:
        self._state["state"]["counter"][...] = (0, 0, 0, step)
        self._philox.state = self._state


class SteppedUniform(_Stepped):
    """Random numbers for one purpose and key, anew for every step."""

    def fill(self, step: int, out: NDArray[np.float32]) -> None:
        """Fill an array with numbers from 0 up to, but not including, 1."""
        self._begin(step)
        self._generator.random(out=out, dtype=np.float32)


class SteppedNormal(_Stepped):
    """Normally distributed numbers for one purpose and key, anew for every step.

    They are looked up by 16 random bits each, one of 65,536 equally likely values, the farthest
    4.2 standard deviations from the mean: as good as any for noise, and drawn four times as fast
    as by NumPy's ``standard_normal``.
    """

    def fill(self, step: int, out: NDArray[np.float32]) -> None:
        """Fill a C-contiguous array; mean 0, standard deviation 1."""
        self._begin(step)
        words = self._philox.random_raw(-(-out.size // 4)).astype("<u8", copy=False)
        _quantiles().take(words.view("<u2")[: out.size], out=out.reshape(-1), mode="clip")


@functools.cache
def _quantiles() -> NDArray[np.float32]:
    """Return the middles of 65,536 equally likely parts of the normal distribution, ascending."""
    import statistics  # here, because it takes 10 ms to import and few runs need it

    inverse = statistics.NormalDist().inv_cdf
    half = np.array([inverse((i + 0.5) / 2**16) for i in range(2**15)])
    half /= np.sqrt(np.square(half).mean())  # what the parts' width takes from the variance
    return np.concatenate([half, -half[::-1]]).astype(np.float32)
