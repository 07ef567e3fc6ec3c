"""Augmentation that is wrong, each way of it, is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.arithmetic import randomness
from dptrain.data import augmentation, warping
from dptrain.exchange.rank import Rank
from tests.gradcheck.minibatches.cases import ALL, case, images

Patch = pytest.MonkeyPatch


def fill_of(change: Any) -> Any:
    right = randomness.SteppedNormal.fill
    return lambda self, step, out: change(right, self, step, out)


def stream_of(key: Any) -> Any:
    right = augmentation.Augmenter._stream
    return lambda self, shard: right(self, key(shard))


def noise_of_rank(self: Any, step: int, block: Any, x: Any) -> None:
    local = block._replace(first=0)
    RIGHT_NOISE(self, step, local, x)


RIGHT_NOISE = augmentation.Augmenter._add_noise
RIGHT_WHOLE = augmentation._whole
RIGHT_MOVE = warping.Rotation.apply
RIGHT_AUGMENT = Rank.augment
NORMAL, AUGMENTER = randomness.SteppedNormal, augmentation.Augmenter
AUGMENTED = {
    "noise of step 0": (
        NORMAL, "fill", fill_of(lambda right, s, _, out: right(s, 0, out)),
        "augmentation-repeated: Every step draws the noise of step 0.",
    ),
    "noise twice as large": (
        NORMAL, "fill", fill_of(lambda right, s, step, out: (right(s, step, out), np.multiply(out, 2, out))),  # noqa: E501
        "augmentation-noise: Noise is 2 times as large as it should be.",
    ),
    "noise by place": (
        AUGMENTER, "_add_noise", noise_of_rank, "augmentation-by-local-shard: Streams of noise",
    ),
    "one stream": (
        AUGMENTER, "_stream", stream_of(lambda _: 0), "augmentation-",
    ),
    "range": (
        augmentation, "_whole",
        lambda u, limit: (u * np.float32(2 * limit)).astype(np.intp) - limit,
        "augmentation-range: Images are shifted from -2 to 1 pixels, and never by 2.",
    ),
    "only shifts too short": (
        augmentation, "_whole", lambda u, n: RIGHT_WHOLE(u, n - (n == 2)),
        "augmentation-range: Images are shifted by up to 1 pixels instead of 2.",
    ),
    "the other way round": (
        warping.Rotation, "apply", lambda s, x, turns, *by: RIGHT_MOVE(s, x, -turns, *by),
        "augmentation-moves: Images turn clockwise",
    ),
    "down and right swapped": (
        warping.Rotation, "apply", lambda s, x, t, down, right: RIGHT_MOVE(s, x, t, right, down),
        "augmentation-moves: Shifts down and to the right are swapped.",
    ),
    "in one rank only": (
        Rank, "augment",
        lambda self, share, found: share.first or RIGHT_AUGMENT(self, share, found),
        "augmentation-missing: In rank 1 alone: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AUGMENTED)
def test_wrong_augmentation(name: str, monkeypatch: Patch, tmp_path: Path) -> None:
    owner, attribute, change, wanted = AUGMENTED[name]
    right = images(tmp_path / "data", **ALL)
    monkeypatch.setattr(owner, attribute, change)
    assert ": ".join(right.named()).startswith(wanted)


def test_a_step_in_the_low_word_of_the_counter(monkeypatch: Patch, tmp_path: Path) -> None:
    def begin(self: Any, step: int) -> None:
        self._state["state"]["counter"][...] = (step, 0, 0, 0)
        self._philox.state = self._state

    right = case(tmp_path / "data", augment_noise=0.2)
    monkeypatch.setattr(randomness._Stepped, "_begin", begin)
    assert right.named()[0] == "augmentation-overlap"


def wrapping(self: Any, x: Any, down: Any, right: Any) -> None:
    for image, *by in zip(x, down, right, strict=True):
        image[...] = np.roll(image, [int(each) for each in by], (0, 1))


def test_what_comes_in_from_the_other_side(monkeypatch: Patch, tmp_path: Path) -> None:
    right = images(tmp_path / "data", augment_shift=2)
    monkeypatch.setattr(warping.Shift, "apply", wrapping)
    assert right.named()[0] == "augmentation-edges"
