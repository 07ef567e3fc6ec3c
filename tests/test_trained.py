"""Weights from checkpoints: taken only where they belong."""

from pathlib import Path

import numpy as np
import pytest

from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dptrain.errors import CheckpointError, DataError, ShapeError
from dptrain.trained import load_run
from tests.sessions import run, write_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    data = write_dataset(path / "small.npz")
    run({"dataset": str(data), "dtype": "float64"}, path / "run", workers=1)
    return path / "run"


def rewritten(folder: Path, **changes: np.ndarray) -> None:
    """Write other tensors into a run's best checkpoint."""
    saved = load_checkpoint(folder / "checkpoints" / "last.safetensors")
    tensors = {name: changes.get(name.replace(".", "_"), t) for name, t in saved.tensors.items()}
    other = Checkpoint(
        tensors,
        saved.optimizer,
        saved.step,
        saved.epoch,
        saved.experiment,
        saved.digest,
        saved.progress,
    )
    save_checkpoint(folder / "checkpoints" / "best.safetensors", other)


def test_outputs_are_those_of_the_network(folder: Path) -> None:
    trained, _ = load_run(folder, "last")
    x = np.random.default_rng(0).standard_normal((501, 4, 5))
    w = trained.weights
    hidden = np.maximum(x.reshape(501, 20) @ w["dense1.W"] + w["dense1.b"], 0)
    expected = hidden @ w["dense2.W"] + w["dense2.b"]
    np.testing.assert_allclose(trained.outputs(x), expected, rtol=1e-12, atol=1e-12)
    powers = np.exp(expected)
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(trained.predict(x), probabilities, rtol=1e-12)
    np.testing.assert_allclose(trained.predict(x[3]), probabilities[3:4], rtol=1e-12)
    assert trained.accuracy(x, expected.argmax(axis=1)) == 1


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (np.zeros((20, 8)), r"dense1.W is float64 \(20, 8\), the experiment has .*\(20, 7\)"),
        (np.zeros((20, 7), np.float32), "dense1.W is float32"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(
    tensor: np.ndarray, words: str, folder: Path
) -> None:
    rewritten(folder, dense1_W=tensor)
    with pytest.raises(CheckpointError, match=words):
        load_run(folder, "best")


def test_inputs_that_do_not_fit(folder: Path) -> None:
    trained, _ = load_run(folder, "last")
    with pytest.raises(ShapeError, match=r"samples of shape \(4, 5\)"):
        trained.predict(np.zeros((3, 6)))
    with pytest.raises(DataError, match="nan"):
        trained.predict(np.full((1, 4, 5), np.nan))
