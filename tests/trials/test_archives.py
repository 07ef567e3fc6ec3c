"""Archives and IDX files under the names that people give them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.data import open_dataset, prepare
from dptrain.data.npz import read_npz
from dptrain.data.source import ReadChoices, find_source, read_source
from dptrain.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPTRAIN_CACHE", str(tmp_path / "cache"))


X = np.arange(60, dtype=np.uint8).reshape(5, 3, 4)
T = np.array([0, 1, 1, 2, 0])


@pytest.mark.parametrize(
    ("x", "t"),
    [
        ("x_train", "y_train"),
        ("X_train", "y_train"),
        ("images", "labels"),
        ("arr_0", "arr_1"),
        ("X", "y"),
        ("train_images", "train_labels"),
        ("x", "t"),
        ("data", "target"),
    ],
)
def test_customary_names_are_read(x: str, t: str, tmp_path: Path) -> None:
    path = tmp_path / "k.npz"
    arrays: Any = {t: T, x: X}
    np.savez(path, **arrays)
    data = read_npz(path)
    np.testing.assert_array_equal(data.x_train, X)
    np.testing.assert_array_equal(data.t_train, T)
    assert data.x_test is None


def test_test_parts_have_them_too(tmp_path: Path) -> None:
    path = tmp_path / "k.npz"
    np.savez(path, test_labels=T[:2], train_labels=T, test_images=X[:2], train_images=X)
    data = read_npz(path)
    assert data.x_test is not None
    np.testing.assert_array_equal(data.x_test, X[:2])
    assert data.t_test is not None
    np.testing.assert_array_equal(data.t_test, T[:2])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("x_train", "y_trian"),
            r"np\.savez\('k\.npz', x_train=\.\.\., t_train=\.\.\.\) makes one",
        ),
        (("x", "images", "y"), "'x' and 'images' both are x_train; keep one"),
        (("x_train", "y_train", "val_images"), "unknown array 'val_images'"),
    ],
)
def test_other_names_are_told(names: tuple[str, ...], words: str, tmp_path: Path) -> None:
    arrays: Any = dict.fromkeys(names, X)
    np.savez(tmp_path / "k.npz", **arrays)
    with pytest.raises(DataError, match=words):
        read_npz(tmp_path / "k.npz")


def test_one_array_alone_is_not_trained_on(tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", X)
    with pytest.raises(DataError, match=r"np\.savez\('k\.npz', x_train=\.\.\., t_train=\.\.\.\)"):
        read_source(str(tmp_path / "k.npy"), None)


def test_words_in_an_archive_are_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "k.npz", x=X, y=np.array(["b", "a", "a", "c", "b"]))
    folder = prepare(str(tmp_path / "k.npz"), dtype="float32")
    dataset = open_dataset(folder, validation=0, test=0, seed=0)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.train.targets.tolist() == [1, 0, 0, 2, 1]


def write_idx(folder: Path, prefix: str, test: str = "test") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", slice(None)), (test, slice(2))):
        images = struct.pack(">IIII", 2051, *X[rows].shape) + X[rows].tobytes()
        labels = struct.pack(">II", 2049, len(T[rows])) + T[rows].astype(np.uint8).tobytes()
        (folder / f"{prefix}{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{prefix}{part}-labels-idx1-ubyte").write_bytes(labels)
    return folder


def test_a_name_may_stand_before_those_of_mnist(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "downloads", "emnist-letters-")
    data = read_source(str(folder), None)
    np.testing.assert_array_equal(data.x_train, X)
    assert data.x_test is not None
    assert len(data.x_test) == 2
    assert find_source(str(folder)).name == "emnist-letters"
    write_idx(folder, "emnist-digits-")
    with pytest.raises(DataError, match="several data sets: emnist-digits, emnist-letters; name"):
        read_source(str(folder), None)
    one = folder / "emnist-letters-train-images-idx3-ubyte"
    assert find_source(str(one)).name == "emnist-letters"
    np.testing.assert_array_equal(read_source(str(one), None).x_train, X)


def test_the_folder_above_raw_is_understood(tmp_path: Path) -> None:
    write_idx(tmp_path / "data" / "MNIST" / "raw", "", "t10k")
    for folder in (tmp_path / "data", tmp_path / "data" / "MNIST"):
        np.testing.assert_array_equal(read_source(str(folder), None).x_train, X)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (1, 3, 4)])
def test_images_are_turned(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "lying.npz"
    np.savez(path, x=X.reshape(5, *shape), t=T)
    folder = prepare(str(path), ReadChoices(transpose=True), dtype="float32")
    found = open_dataset(folder, validation=0, test=0, seed=0).train.inputs
    np.testing.assert_array_equal(found.reshape(5, 4, 3), X.transpose(0, 2, 1))
    assert prepare(str(path), dtype="float32") != folder


def test_flat_images_are_turned_as_well(tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", x=X.reshape(-1, 4), t=np.arange(15) % 2)
    folder = prepare(str(tmp_path / "flat.npz"), ReadChoices(transpose=True), dtype="float32")
    found = open_dataset(folder, validation=0, test=0, seed=0).train.inputs
    assert found[1].tolist() == [4, 6, 5, 7]
    np.savez(tmp_path / "flat.npz", x=X.reshape(-1, 6), t=np.arange(10) % 2)
    with pytest.raises(DataError, match=r"shape \(6,\) are not images .* leave out --transpose"):
        prepare(str(tmp_path / "flat.npz"), ReadChoices(transpose=True), dtype="float32")
