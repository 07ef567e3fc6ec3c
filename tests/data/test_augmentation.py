"""What is drawn to augment samples: from what, how far, and the same in blocks of any size."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.arithmetic.shards import Block, blocks
from dptrain.data.augmentation import Augmentation
from dptrain.data.warping import part_rows
from dptrain.errors import UsageError

KINDS = [
    Augmentation(shift=2),
    Augmentation(rotate=20.0),
    Augmentation(noise=0.3),
    Augmentation(shift=1, rotate=10.0, noise=0.1),
]
SHAPE = (9, 9)


def samples(rows: int, shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> NDArray[Any]:
    return np.random.default_rng(1).random((rows, *shape)).astype(dtype)


def augmented(
    what: Augmentation, x: NDArray[Any], *, step: int = 0, shard: int = 0, seed: int = 0
) -> NDArray[Any]:
    """Return samples, one shard's, as a step makes them."""
    found = x.copy()
    block = Block(shard, 1, len(x), 0)
    what.bind(x.shape[1:], x.dtype, seed).apply(step, [block], [found])
    return found


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [SHAPE, (100, 100), (70, 60, 3)])
def test_a_block_has_the_bits_of_its_shards(
    what: Augmentation, dtype: Any, shape: tuple[int, ...]
) -> None:
    assert part_rows(shape) in (493, 4, 3), "parts of the large images end within shards"
    x = samples(22, shape, dtype)
    augmenter = what.bind(shape, x.dtype, 3)
    parts = blocks(22, 5, 0, 5)
    assert [(each.shards, each.rows) for each in parts] == [(2, 5), (3, 4)]
    spans = [slice(each.start, each.start + each.shards * each.rows) for each in parts]
    found = [x[span].copy() for span in spans]
    augmenter.apply(0, parts, found)  # draws of an earlier step must not matter
    for each, span in zip(found, spans, strict=True):
        each[...] = x[span]
    augmenter.apply(17, parts, found)
    whole = np.concatenate(found)
    start = 0
    for shard in range(5):
        rows = 5 if shard < 2 else 4
        alone = augmented(what, x[start : start + rows], step=17, shard=shard, seed=3)
        assert alone.tobytes() == whole[start : start + rows].tobytes()
        start += rows


@pytest.mark.parametrize("what", KINDS)
def test_draws_differ_by_step_shard_and_seed(what: Augmentation) -> None:
    x = samples(6)
    ways: list[dict[str, int]] = [{}, {"step": 1}, {"shard": 1}, {"seed": 1}, {"step": 2**32}]
    assert len({augmented(what, x, **way).tobytes() for way in ways}) == len(ways)
    assert augmented(what, x).tobytes() == augmented(what, x).tobytes()


def test_shifts_are_spread_evenly_over_all_that_are_allowed() -> None:
    x = np.zeros((5000, *SHAPE), np.float32)
    x[:, 4, 4] = 1
    found = augmented(Augmentation(shift=2), x)
    _, rows, columns = found.nonzero()
    counts = Counter(zip((rows - 4).tolist(), (columns - 4).tolist(), strict=True))
    assert sorted(counts) == [(i, j) for i in range(-2, 3) for j in range(-2, 3)]
    # 200 of each are expected; chi-squared of 24 degrees of freedom exceeds 51 once in 1000 seeds
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 51


def test_angles_are_spread_evenly_up_to_the_limit() -> None:
    ramp = np.broadcast_to(np.arange(-4.0, 5.0), (4000, *SHAPE)).copy()
    found = augmented(Augmentation(rotate=15.0), ramp)
    cos, sin = found[:, 4, 5] - found[:, 4, 4], found[:, 4, 4] - found[:, 5, 4]
    angles = np.degrees(np.arctan2(sin, cos))
    assert 14.9 < angles.max() <= 15.0 + 1e-9
    assert -15.0 - 1e-9 <= angles.min() < -14.9
    counts, _ = np.histogram(angles, 10, (-15.001, 15.001))
    assert np.square(counts - 400).sum() / 400 < 27.9  # 9 degrees of freedom, once in 1000


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_is_normal_and_is_not_clipped(dtype: Any) -> None:
    x = np.full((300, 28, 28), 0.5, dtype)
    noise = augmented(Augmentation(noise=0.3), x) - x
    deviation = 0.3 / math.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * deviation
    assert abs(noise.std() - 0.3) < 4 * deviation / math.sqrt(2)
    assert noise.max() > 1
    assert noise.min() < -1
    neighbours = np.mean(noise[:, :, 1:] * noise[:, :, :-1]) / 0.09
    assert abs(neighbours) < 4 / math.sqrt(noise.size)


def test_noise_is_added_to_samples_that_are_no_images() -> None:
    x = samples(5, (3,))
    Augmentation(noise=0.1).check((3,))
    assert (augmented(Augmentation(noise=0.1), x) != x).all()


def test_noise_leaves_the_moves_as_they_are() -> None:
    x = samples(20)
    moved = augmented(Augmentation(shift=2, rotate=10.0), x)
    noisy = augmented(Augmentation(shift=2, rotate=10.0, noise=1e-4), x)
    assert 0 < np.abs(noisy - moved).max() < 1e-3


@given(st.integers(0, 8), st.floats(0, 180), st.floats(0, 2))
def test_nothing_is_done_for_nothing(shift: int, rotate: float, noise: float) -> None:
    assert bool(Augmentation(shift, rotate, noise)) == (shift > 0 or rotate > 0 or noise > 0)


@pytest.mark.parametrize(
    ("what", "shape", "message"),
    [
        (Augmentation(shift=2), (784,), r"augment_shift=2 .* samples of shape \(784,\)"),
        (Augmentation(rotate=5.0), (784,), r"augment_rotate=5.0 is for images"),
        (Augmentation(rotate=5.0), (3, 32, 32), r"up to 4 channels.*\(3, 32, 32\)"),
        (Augmentation(shift=1), (2, 3, 4, 1), r"\(2, 3, 4, 1\)"),
        (Augmentation(shift=28), (28, 30), r"out of sight; give less than 28"),
    ],
)
def test_what_cannot_be(what: Augmentation, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        what.check(shape)


def test_what_can_be() -> None:
    for shape in ((28, 28), (28, 28, 1), (32, 32, 3)):
        Augmentation(27, 180.0, 1.0).check(shape)
