"""Beginning with saved weights, and layers that stay as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.errors import CheckpointError, RunFolderError, UsageError
from dptrain.trained import load_run
from tests.commands import result
from tests.sessions import run, write_dataset

SETTINGS: dict[str, Any] = {"model": "mlp:20-6-5-3", "lr": 0.05}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def source(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "source"
    run({**SETTINGS, "dataset": str(data)}, path, workers=1)
    return path


def weights(path: Path) -> dict[str, Any]:
    trained, _ = load_run(path, "last")
    return {name: each.copy() for name, each in trained.weights.items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_frozen_layers_keep_the_saved_weights(
    optimizer: str, data: Path, source: Path, tmp_path: Path
) -> None:
    digests = set()
    for workers, exchange in ((1, "inline"), (2, "shared"), (3, "star")):
        path = tmp_path / f"{workers}"
        settings = SETTINGS | {"optimizer": optimizer, "weight_decay": 0.1, "clip_norm": 0.5}
        settings |= {"init_from": str(source), "freeze": ["dense1", "dense2.W"], "seed": 7}
        outcome = run({**settings, "dataset": str(data)}, path, workers=workers, exchange=exchange)
        digests.add(outcome.digest)
        before, after = weights(source), weights(path)
        for name in ("dense1.W", "dense1.b", "dense2.W"):
            np.testing.assert_array_equal(after[name], before[name])
        for name in ("dense2.b", "dense3.W", "dense3.b"):
            assert not np.array_equal(after[name], before[name])
    assert len(digests) == 1


def test_the_norm_of_a_clipped_gradient_is_that_of_what_is_trained(
    data: Path, source: Path, tmp_path: Path
) -> None:
    """With a norm of 1e-3 a step of plain descent is exactly as long, however large the rest is."""
    settings = SETTINGS | {"optimizer": "sgd", "lr": 1.0, "clip_norm": 1e-3, "dtype": "float64"}
    settings |= {"init_from": str(source), "freeze": ["dense1.b", "dense2"], "steps": 1}
    run({**settings, "dataset": str(data)}, tmp_path / "run", workers=1)
    before, after = weights(source), weights(tmp_path / "run")
    moved = sum(float(np.sum((after[n] - before[n].astype(float)) ** 2)) for n in before)
    assert moved == pytest.approx(1e-6, rel=1e-9)


def test_tensors_of_another_shape_begin_anew(data: Path, source: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"model": "mlp:20-6-4-3", "init_from": str(source), "freeze": ["dense1"]}
    settings |= {"lr": 1e-30}
    run({**settings, "dataset": str(data)}, tmp_path / "run", workers=1)
    before, after = weights(source), weights(tmp_path / "run")
    np.testing.assert_array_equal(after["dense1.W"], before["dense1.W"])
    np.testing.assert_array_equal(after["dense3.b"], before["dense3.b"])
    assert after["dense3.W"].shape == (4, 3)
    with pytest.raises(UsageError, match=r"has no dense2\.W, dense2\.b of this net"):
        run({**settings, "dataset": str(data), "freeze": ["dense2"]}, tmp_path / "b", workers=1)


def test_a_checkpoint_file_may_be_named(data: Path, source: Path, tmp_path: Path) -> None:
    file = source / "checkpoints" / "best.safetensors"
    settings = SETTINGS | {"init_from": str(file), "dataset": str(data), "lr": 1e-30}
    run(settings, tmp_path / "run", workers=1)
    best, _ = load_run(source, "best")
    for name, value in weights(tmp_path / "run").items():
        np.testing.assert_array_equal(value, best.weights[name])


def test_without_a_model_the_network_is_the_saved_one(
    data: Path, source: Path, tmp_path: Path
) -> None:
    flags = ("--dataset", data, "--steps", 1, "--batch-size", 20)
    result("train", "--init-from", source, *flags, "--out", tmp_path / "same")
    assert [each.shape for each in weights(tmp_path / "same").values()] == [
        each.shape for each in weights(source).values()
    ]
    model = ("--model", "mlp:20-6-4-3")
    result("train", "--init-from", source, *flags, *model, "--out", tmp_path / "other")
    assert weights(tmp_path / "other")["dense2.W"].shape == (6, 4)


def test_what_cannot_be_begun_with(data: Path, source: Path, tmp_path: Path) -> None:
    settings = SETTINGS | {"dataset": str(data)}
    for changed, kind, words in (
        ({"init_from": str(tmp_path / "nowhere")}, RunFolderError, "no such run folder"),
        ({"init_from": str(data)}, CheckpointError, "small.npz"),
        ({"init_from": str(source), "model": "mlp:20-9-3"}, UsageError, "no tensor that this"),
        ({"init_from": str(source), "init_digest": "0" * 64}, CheckpointError, "has changed"),
    ):
        with pytest.raises(kind, match=words):
            run(settings | changed, tmp_path / "run", workers=1)
