"""What a run is warned of: through the real API, whose warnings these become."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain import BatchNorm, Conv2D, Dense, Flatten, Network, ReLU, Residual
from dptrain.errors import DataError
from dptrain.nn.network import AnyLayer

RANDOM = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs be written into a folder of the test's."""
    monkeypatch.chdir(tmp_path)


def warned(shape: tuple[int, ...], layers: Sequence[AnyLayer], rows: int, **settings: Any) -> str:
    """Train on random rows for a step; return the warnings."""
    x = settings.pop("offset", 0.0) + RANDOM.standard_normal((rows, *shape))
    t = settings.pop("targets", np.arange(rows) % 3)
    network = Network(shape, layers)
    settings |= {} if "steps" in settings else {"epochs": 1}
    settings = {"test": 0, "workers": 1, "progress": False} | settings
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        dptrain.fit(network, (x, t), **settings)
    return "\n".join(str(each.message) for each in found)


def normed(**settings: Any) -> list[AnyLayer]:
    return [Dense(4), BatchNorm(**settings), ReLU(), Dense(3)]


def test_batch_norm_of_single_rows() -> None:
    told = warned((5,), normed(), 6, batch_size=1)
    assert "batchnorm1 normalises minibatches of one row" in told
    assert "give batch_size=2 or more" in told
    told = warned((5,), normed(), 21, batch_size=10)
    assert "the last minibatch of an epoch has one row, as 21 rows in minibatches of 10" in told
    assert "or train_rows=20" in told
    inner: list[AnyLayer] = [Dense(5), Residual([Dense(5), BatchNorm()]), Dense(3)]
    assert "residual1.batchnorm1 leaves nothing" in warned((5,), inner, 21, batch_size=10)


def test_ghost_batch_norm_of_single_rows() -> None:
    told = warned((5,), normed(sync=False), 20, batch_size=7)
    assert "of 7 rows in 4 shards some have one row" in told
    assert "give batch_size=8 or more" in told


def test_batch_norms_that_have_rows_enough() -> None:
    assert not warned((5,), normed(), 20, batch_size=10)
    assert not warned((5,), normed(), 21, batch_size=10, steps=2)
    assert not warned((5,), normed(sync=False), 24, batch_size=8)
    assert not warned((5,), [Dense(3)], 6, batch_size=1)
    images: list[AnyLayer] = [Conv2D(2, 3), BatchNorm(), Flatten(), Dense(3)]
    assert not warned((5, 5), images, 5, batch_size=1)
    assert not warned((5,), normed(), 6, batch_size=1, freeze=["batchnorm1"])


def test_digits_that_rounding_takes() -> None:
    far: dict[str, Any] = {"offset": np.array([0, 1e7])}
    told = warned((2,), [Dense(3)], 30, **far)
    assert "float32 takes most digits of column 1 of x_train: its mean is 1e+07" in told
    assert "give normalise='standard' or dtype='float64', or take the mean off" in told
    assert not warned((2,), [Dense(3)], 30, **far, normalise="standard")
    assert not warned((2,), [Dense(3)], 30, **far, dtype="float64")
    targets = 1e9 + RANDOM.standard_normal(30)
    told = warned((2,), [Dense(1)], 30, targets=targets)
    assert "takes most digits of the targets: its mean is 1e+09" in told
    assert "apart; give normalise_targets='standard', or take the mean off" in told


@pytest.mark.parametrize("part", ["train", "test"])
def test_targets_of_every_part_lie_in_the_range_of_the_loss(part: str) -> None:
    parts = {
        name: (RANDOM.standard_normal((9, 2)), np.full((9, 2), 0.5)) for name in ("train", "test")
    }
    parts[part][1][3, 1] = 7
    network = Network(2, [Dense(2)])
    with pytest.raises(DataError, match=rf"row 3 \(counting from 0\) of the {part} part has .*7"):
        dptrain.fit(
            network,
            parts["train"],
            test_data=parts["test"],
            loss="binary-cross-entropy",
            workers=1,
            progress=False,
        )
