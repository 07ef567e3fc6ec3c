"""Model files: what is read is what was computed with, and damage is named."""

import io
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.errors import CheckpointError, RunFolderError
from dptrain.nn.quantisation import Quantised, quantise
from dptrain.weights.model_file import load_model, model_bytes, save_model


def checkpoint(dtype: str = "float32") -> tuple[Checkpoint, dict[str, Quantised]]:
    """Return weights of which one is quantised."""
    random = np.random.default_rng(0)
    W = quantise(random.standard_normal((30, 4)).astype(dtype))
    tensors = {
        "dense1.W": W.restored(),
        "dense1.b": random.standard_normal(4).astype(dtype),
        "a/scale": random.standard_normal((2, 2)).astype(dtype),
    }
    flat = np.concatenate([tensor.reshape(-1) for tensor in tensors.values()])
    saved = Checkpoint(
        tensors=tensors,
        optimizer={},
        step=7,
        epoch=2,
        experiment="[experiment]\n# ü\n",
        digest=digest(flat),
        progress={"best": None, "class_names": "0\n1"},
    )
    return saved, {"dense1.W": W}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("whole", [True, False])
def test_everything_comes_back(dtype: str, whole: bool, tmp_path: Path) -> None:
    saved, quantised = checkpoint(dtype)
    path = tmp_path / "model.npz"
    size = save_model(path, saved, quantised if whole else {})
    assert size == path.stat().st_size
    found = load_model(path)
    assert list(found.tensors) == list(saved.tensors)
    for name, tensor in found.tensors.items():
        np.testing.assert_array_equal(tensor, saved.tensors[name], strict=True)
    assert replace(found, tensors={}) == replace(saved, tensors={})


def test_optimizer_state_is_left_out() -> None:
    saved, _ = checkpoint()
    with_state = replace(saved, optimizer={"momentum.0": np.ones(128, np.float32)})
    assert model_bytes(with_state, {}) == model_bytes(saved, {})


def test_numpy_reads_it_without_pickle(tmp_path: Path) -> None:
    saved, quantised = checkpoint()
    save_model(tmp_path / "model.npz", saved, quantised)
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        assert arrays["dense1.W"].dtype == np.int8
        restored = arrays["dense1.W"] * arrays["dense1.W/scale"]
        np.testing.assert_array_equal(restored, saved.tensors["dense1.W"])
        assert msgspec.json.decode(arrays["about"].item())["step"] == 7


def written(path: Path, **changes: Any) -> Path:
    """Write a model file with other members; None takes one out."""
    saved, quantised = checkpoint()
    with np.load(io.BytesIO(model_bytes(saved, quantised))) as arrays:
        members = dict(arrays)
    members |= {name.replace("_", "."): value for name, value in changes.items()}
    np.savez(path, **{name: value for name, value in members.items() if value is not None})
    return path


ABOUT: dict[str, Any] = {
    "version": 1,
    "step": 0,
    "epoch": 0,
    "experiment": "",
    "digest": "0",
    "progress": {},
    "parameters": ["dense1.b"],
}


def about(**changes: Any) -> Any:
    """Return the member that describes the others."""
    return np.array(msgspec.json.encode(ABOUT | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"about": None}, "is not a model of dptrain: it has no array 'about'"),
        ({"about": np.zeros(3)}, "'about' is damaged"),
        ({"about": about(version=2)}, "has version 2"),
        ({"about": about(step=-1)}, "step"),
        ({"about": about(more=1)}, "more"),
        ({"about": about(parameters=[])}, "parameters"),
        ({"about": about()}, "its digest does not match"),
        ({"about": about(parameters=["dense2.W"])}, "its weights dense2.W are missing"),
        ({"dense1_b": np.zeros(4, np.float32)}, "its digest does not match"),
        ({"dense1_b": np.zeros(4, np.int64)}, "dense1.b is int64, not float"),
        ({"dense1_b": np.array(["text"])}, "dense1.b is <U4, not float"),
        ({"dense1_W": np.zeros((30, 4))}, "scales of dense1.W do not fit"),
        ({"dense1_W": np.zeros((30, 3), np.int8)}, "scales of dense1.W do not fit"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "model.npz", **changes)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_no_file_half_a_file_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(CheckpointError, match=f"{re.escape(str(path))}: .*No such file"):
        load_model(path)
    saved, quantised = checkpoint()
    data = model_bytes(saved, quantised)
    path.write_bytes(data[:-200])
    with pytest.raises(CheckpointError, match="not an intact"):
        load_model(path)
    stored = io.BytesIO()
    np.lib.format.write_array(stored, np.array([{}], object), allow_pickle=True)
    path.write_bytes(data)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("dense9.W.npy", stored.getvalue())
    with pytest.raises(CheckpointError, match="Python objects"):
        load_model(path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="make the folder first"):
        save_model(tmp_path / "none" / "model.npz", *checkpoint())
