"""Checkpoints come back as they were, or not at all and with a reason."""

import dataclasses
import json
import math
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.checkpoint.checkpoint import (
    HEADER_LIMIT,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    step_of,
)
from dptrain.errors import CheckpointError, RunFolderError
from tests.checkpoint.test_atomic import largest_file


def a_checkpoint(**changes: Any) -> Checkpoint:
    random = np.random.default_rng(1)
    tensors: dict[str, NDArray[Any]] = {
        "dense1.W": random.standard_normal((3, 2)).astype(np.float32),
        "dense1.b": random.standard_normal(2).astype(np.float32),
        "dense2.W": random.standard_normal((2, 2)).astype(np.float32),
        "dense10.W": random.standard_normal((2, 1)).astype(np.float32),
    }
    whole = Checkpoint(
        tensors=tensors,
        optimizer={"adam.1": random.standard_normal(14), "adam.0": np.zeros(14)},
        step=1234,
        epoch=2,
        experiment='model = "mlp:3-2-1"\nname = "실험 \\"1\\""\n',
        digest="ab" * 32,
        progress={"best": 0.975, "best_step": 1200, "worst": 1.0, "why": "test", "none": None},
    )
    return dataclasses.replace(whole, **changes)


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    for name in ("tensors", "optimizer"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert list(ours) == list(theirs)
        for key, array in ours.items():
            assert array.dtype == theirs[key].dtype
            assert array.shape == theirs[key].shape
            assert array.tobytes() == theirs[key].tobytes()
    one, other = (dataclasses.replace(each, tensors={}, optimizer={}) for each in (one, other))
    assert repr(one) == repr(other)  # which tells 1.0 from 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.safetensors"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": {}},
        {"tensors": {"W": np.array([[math.nan, -0.0, math.inf, 5e-324]])}},
        {"tensors": {"W": np.zeros((0, 3)), "b": np.ones((1, 1, 1), np.float32)}},
        {"step": 0, "epoch": 0, "progress": {}, "experiment": "", "digest": ""},
        {"step": 2**62},
    ],
)
def test_a_checkpoint_comes_back(path: Path, changes: dict[str, Any]) -> None:
    saved = a_checkpoint(**changes)
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    assert_same(saved, loaded)
    for array in loaded.tensors.values():
        array += 1  # the caller's own: writable


def test_arrays_of_any_layout_come_back(path: Path) -> None:
    # safetensors 0.8.0 writes the bytes of such arrays in the wrong order, without a word.
    base = np.arange(24.0).reshape(4, 6)
    tensors = {
        "T": base.T,
        "strided": base[::2, ::3],
        "F": np.asfortranarray(base),
        "r": base[::-1],
    }
    save_checkpoint(path, a_checkpoint(tensors=tensors, optimizer={"s": base.reshape(-1)[::2]}))
    loaded = load_checkpoint(path)
    for name, array in tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], array)
    np.testing.assert_array_equal(loaded.optimizer["s"], np.arange(0.0, 24.0, 2.0))


def test_any_reader_of_safetensors_finds_the_parameters(path: Path) -> None:
    saved = a_checkpoint()
    save_checkpoint(path, saved)
    # By the format's description, without its library.
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    about = json.loads(header.pop("__metadata__")["dptrain"])
    assert about["version"] == 1
    assert about["step"] == 1234
    assert set(header) == {*saved.tensors, "optimizer/adam.0", "optimizer/adam.1"}
    for name, array in saved.tensors.items():
        start, stop = header[name]["data_offsets"]
        assert data[8 + length :][start:stop] == array.tobytes()
        assert header[name]["shape"] == list(array.shape)


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    for name in "ab":
        save_checkpoint(tmp_path / name, a_checkpoint())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_score_that_is_not_finite_comes_back_as_none(path: Path) -> None:
    save_checkpoint(path, a_checkpoint(progress={"best": math.nan, "least": math.inf}))
    assert load_checkpoint(path).progress == {"best": None, "least": None}


@pytest.mark.parametrize(
    "tensors",
    [{"W": np.zeros(2, np.int64)}, {"W": np.zeros(2, ">f4")}, {"optimizer/W": np.ones(1)}],
)
def test_what_cannot_be_kept_is_not_written(path: Path, tensors: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        save_checkpoint(path, a_checkpoint(tensors=tensors))
    assert not path.exists()


def test_a_full_disk_leaves_the_old_checkpoint(path: Path) -> None:
    saved = a_checkpoint()
    save_checkpoint(path, saved)
    larger = a_checkpoint(tensors={"W": np.zeros(100_000)})
    with largest_file(100_000), pytest.raises(RunFolderError, match="free some space"):
        save_checkpoint(path, larger)
    assert_same(load_checkpoint(path), saved)


def test_a_file_cut_short_anywhere_is_refused(path: Path) -> None:
    save_checkpoint(path, a_checkpoint())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            load_checkpoint(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_a_flipped_bit_anywhere_is_noticed(path: Path) -> None:
    saved = a_checkpoint()
    save_checkpoint(path, saved)
    whole = path.read_bytes()
    noticed = 0
    for position in range(len(whole)):
        rotten = bytearray(whole)
        rotten[position] ^= 1 << (position % 8)
        path.write_bytes(rotten)
        try:
            assert_same(load_checkpoint(path), saved)  # such as other white space in the header
        except CheckpointError:
            noticed += 1
    assert noticed > len(whole) - 16


@pytest.mark.parametrize("position", [-1, -100])
def test_bit_rot_is_told_from_other_damage(path: Path, position: int) -> None:
    save_checkpoint(path, a_checkpoint())
    rotten = bytearray(path.read_bytes())
    rotten[position] ^= 1
    path.write_bytes(rotten)
    message = "its checksum does not match its content; use the run's other checkpoint, or train"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@given(st.binary(max_size=64), st.booleans())
def test_garbage_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, nice: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage"
    path.write_bytes(len(data).to_bytes(8, "little") + data if nice else data)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (2**64 - 1, "not a checkpoint of dptrain"),
        (HEADER_LIMIT + 1, "not a checkpoint of dptrain"),
        (HEADER_LIMIT, "cut short: its header alone takes 8,388,608 bytes, the file has 1,008"),
        (1001, "cut short"),
    ],
)
def test_a_header_is_not_believed(path: Path, length: int, message: str) -> None:
    path.write_bytes(length.to_bytes(8, "little") + b"{" * 1000)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "header", [b"[" * 100_000, b'{"a":' * 100_000, b'{"__metadata__":3}', b"\xff"]
)
def test_a_hostile_header_is_refused(path: Path, header: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match="its header is damaged"):
        load_checkpoint(path)


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, NDArray[Any]]], None]) -> None:
    """Write the file again, well-formed, after a change of its metadata or tensors."""
    save_checkpoint(path, a_checkpoint())
    with safetensors.safe_open(path, "np") as file:
        about = json.loads(file.metadata()["dptrain"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    change(about, arrays)
    path.write_bytes(safetensors.numpy.save(arrays, {"dptrain": json.dumps(about)}))


def reshape(arrays: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> None:
    arrays[name] = arrays[name].reshape(shape)


def swap(arrays: dict[str, NDArray[Any]], one: str, other: str) -> None:
    arrays[one], arrays[other] = arrays[other], arrays[one]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda about, _: about.update(version=2),
            "version 2 .* reads 1; use the dptrain that wrote",
        ),
        (lambda about, _: about.pop("version"), "header is damaged"),
        (lambda about, _: about.update(step=-1), "header is damaged .*step"),
        (lambda about, _: about.update(step=True), "header is damaged .*step"),
        (lambda about, _: about.update(surprise=1), "header is damaged .*surprise"),
        (lambda about, _: about.update(epoch=3), "checksum does not match"),
        (lambda about, _: about.update(experiment=""), "checksum does not match"),
        (lambda about, _: about["parameters"].reverse(), "checksum does not match"),
        (lambda about, _: about["slots"].pop(), "tensors are not those"),
        (lambda about, _: about["slots"].append("adam.0"), "tensors are not those"),
        (lambda _, arrays: arrays.pop("dense1.b"), "tensors are not those"),
        (lambda _, arrays: arrays.update(extra=np.zeros(1)), "tensors are not those"),
        (lambda _, arrays: arrays.update({"dense1.b": np.zeros(2)}), "checksum does not match"),
        (lambda _, arrays: reshape(arrays, "dense1.W", (2, 3)), "checksum does not match"),
        (lambda _, arrays: swap(arrays, "optimizer/adam.0", "optimizer/adam.1"), "checksum does"),
        (
            lambda _, arrays: arrays.update({"dense1.b": np.zeros(2, np.float16)}),
            "header is damaged",
        ),
        (lambda _, arrays: arrays.update({"dense1.b": np.zeros(2, bool)}), "header is damaged"),
    ],
)
def test_a_well_formed_file_of_other_content_is_refused(
    path: Path, change: Callable[[Any, Any], None], message: str
) -> None:
    changed(path, lambda *_: None)
    assert_same(load_checkpoint(path), a_checkpoint())
    changed(path, change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("data", [b"", b"short", b"\x89PNG\r\n\x1a\n" * 100])
def test_other_files_are_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="not a checkpoint of dptrain; name a run folder"):
        load_checkpoint(path)


def test_safetensors_of_others_are_refused(path: Path) -> None:
    path.write_bytes(safetensors.numpy.save({"W": np.zeros(3)}, {"format": "pt"}))
    with pytest.raises(CheckpointError, match="not a checkpoint of dptrain; name a run folder"):
        load_checkpoint(path)


def test_the_step_alone(path: Path) -> None:
    save_checkpoint(path, a_checkpoint(step=17))
    assert step_of(path) == 17
    path.write_bytes(path.read_bytes()[:-1])  # what comes after the header is not looked at
    assert step_of(path) == 17
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        step_of(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        step_of(path)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in [
        ("missing", "does not exist; name a run folder"),
        ("", "is not a file; name a run folder"),
        ("pipe", "is not a file; name a run folder"),
        ("n" * 300, "cannot be read: File name too long"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / name)
