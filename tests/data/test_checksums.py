"""Bits that a disk has lost are noticed before anything is trained on them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.data import checksums, prepared
from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare
from dptrain.errors import DamageWarning, DataError

X = np.random.default_rng(0).standard_normal((8, 3))
T = np.arange(8) % 3


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "small.npz"
    np.savez(path, x_train=X, t_train=T)
    return str(path)


def flip(path: Path) -> None:
    """Flip the last bit of the last byte, and leave the time of the last change as it was."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def inputs(folder: Path) -> NDArray[Any]:
    return np.array(open_dataset(folder, validation=0, test=0, seed=0).train.inputs)


def settled(folder: Path) -> Path:
    """Wait until the system tells another time than that of the files: it goes in steps."""
    newest = max(each.stat().st_ctime_ns for each in folder.iterdir())
    probe = folder / "probe"
    probe.touch()
    while probe.stat().st_mtime_ns <= newest:
        probe.touch()
    probe.unlink()
    return folder


def rot(path: Path) -> None:
    """Flip a bit so that nothing tells of it, as a disk does."""
    flip(path)
    folder = settled(path.parent)
    remembered = {each.name: checksums._identity(each) for each in folder.glob("*.npy")}
    (folder / "sound.json").write_text(json.dumps(remembered))


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are read, one by one as that happens."""
    found: list[str] = []
    compute = checksums._crc32

    def counted(path: Path) -> int:
        found.append(path.name)
        return compute(path)

    monkeypatch.setattr(checksums, "_crc32", counted)
    return found


def test_what_was_remembered_too_early_is_remembered_again(source: str) -> None:
    folder = prepare(source, dtype="float32")
    prepare(source, dtype="float32")
    record = folder / "sound.json"
    newest = max(each.stat().st_ctime_ns for each in folder.glob("*.npy"))
    os.utime(record, ns=(newest, newest))  # as in the same step of time
    settled(folder)
    prepare(source, dtype="float32")
    assert record.stat().st_mtime_ns > newest


@pytest.mark.parametrize("name", ["x_train.npy", "t_train.npy"])
def test_a_flipped_bit_is_told_and_mended(source: str, name: str) -> None:
    folder = prepare(source, dtype="float32")
    prepare(source, dtype="float32")
    right = inputs(folder)
    flip(folder / name)
    with pytest.warns(DamageWarning, match=f"{name}: its bytes are not.*dptrain verify"):
        assert prepare(source, dtype="float32") == folder
    np.testing.assert_array_equal(inputs(folder), right)
    prepare(source, dtype="float32")


def test_what_was_found_sound_is_read_once(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = settled(prepare(source, dtype="float32"))
    found = reads(monkeypatch)
    prepare(source, dtype="float32")
    assert found == ["x_train.npy", "t_train.npy"]
    prepare(source, dtype="float32")
    assert len(found) == 2
    prepare(source, dtype="float32", thorough=True)
    assert len(found) == 4
    os.utime(folder / "t_train.npy")
    prepare(source, dtype="float32")
    assert found[4:] == ["t_train.npy"]


def test_a_copy_is_read_anew(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine, with all that is remembered here."""
    folder = settled(prepare(source, dtype="float32"))
    prepare(source, dtype="float32")
    shutil.copytree(folder.parent, tmp_path / "copy")
    monkeypatch.setenv("DPTRAIN_CACHE", str(tmp_path / "copy"))
    found = reads(monkeypatch)
    prepare(source, dtype="float32")
    assert found == ["x_train.npy", "t_train.npy"]


def test_a_bit_that_nothing_tells_of_is_found_by_the_thorough(source: str) -> None:
    folder = settled(prepare(source, dtype="float32"))
    right = inputs(folder)
    prepare(source, dtype="float32")
    rot(folder / "x_train.npy")
    prepare(source, dtype="float32")
    assert not np.array_equal(inputs(folder), right)
    with pytest.warns(DamageWarning):
        prepare(source, dtype="float32", thorough=True)
    np.testing.assert_array_equal(inputs(folder), right)


def test_damage_is_not_forgotten_where_it_cannot_be_mended(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settled(prepare(source, dtype="float32"))
    prepare(source, dtype="float32")
    rot(folder / "x_train.npy")

    def full(*_: object, **__: object) -> None:
        raise DataError("no room")

    monkeypatch.setattr(prepared, "write_folder", full)
    for thorough in (True, False):
        with pytest.warns(DamageWarning), pytest.raises(DataError, match="no room"):
            prepare(source, dtype="float32", thorough=thorough)


def test_what_is_remembered_may_be_damaged_or_strange(source: str) -> None:
    folder = prepare(source, dtype="float32")
    prepare(source, dtype="float32")
    for text in ("", "{", '{"x_train.npy": [1, 2]}', "[]"):
        (folder / "sound.json").write_text(text)
        assert prepare(source, dtype="float32") == folder
