"""The .npz reader: the known arrays, nothing unpickled, every damage a DataError."""

import contextlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.data.npz import read_npz
from dptrain.errors import DataError
from tests.data.damage import damaged

X = np.arange(12.0).reshape(4, 3)
T = np.array([0, 1, 1, 0])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("with_test", [True, False])
def test_arrays_come_back_as_they_were_saved(save: Any, with_test: bool, tmp_path: Path) -> None:
    test = {"x_test": X[:2].astype(">f4"), "t_test": T[:2]} if with_test else {}
    save(tmp_path / "a.npz", x_train=np.asfortranarray(X), t_train=T, **test)
    found = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.x_train, X, strict=True)
    np.testing.assert_array_equal(found.t_train, T, strict=True)
    if with_test:
        np.testing.assert_array_equal(found.x_test, test["x_test"], strict=True)
        np.testing.assert_array_equal(found.t_test, test["t_test"], strict=True)
    else:
        assert found.x_test is None
        assert found.t_test is None


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"x_train": X}, r"no array 't_train', only \['x_train'\]"),
        ({"x_train": X, "t_trian": T}, "unknown array 't_trian'.*did you mean 't_train'"),
        ({"x_train": X, "t_train": T, "x_test": X}, "one of x_test and t_test"),
        ({"x_train": X, "t_train": T, "extra": T}, "unknown array 'extra'"),
        ({"x_train": X.astype(object), "t_train": T}, "'x_train'.*Python objects"),
        ({}, "no array 'x_train'"),
    ],
)
def test_wrong_contents_are_named(
    arrays: dict[str, NDArray[Any]], problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(DataError, match=problem) as caught:
        read_npz(path)
    assert str(path) in str(caught.value)


def packed(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def header_of(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


OPEN_BRACKET = header_of((2, 2)).replace(b")", b"(")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not an intact .npz"),
        (b"not a zip", "not an intact .npz"),
        (packed(x_train=npy(X), t_train=npy(T))[:-30], "not an intact .npz"),
        (packed(x_train=b"no array", t_train=npy(T)), "'x_train' cannot be read"),
        (packed(x_train=npy(X)[:-1], t_train=npy(T)), "'x_train'.*truncated"),
        (packed(x_train=npy(X) + b"1", t_train=npy(T)), "'x_train'.*more bytes follow"),
        (packed(x_train=header_of((2**40, 2**20)), t_train=npy(T)), "'x_train'.*truncated"),
        (packed(x_train=header_of((0, 2**70)), t_train=npy(T)), "'x_train' cannot be read"),
        # Longer than zipfile reads at once, so that the header comes before the checksum.
        (packed(x_train=OPEN_BRACKET + bytes(10**6), t_train=npy(T)), "'x_train' cannot be read"),
        (packed(x_train=npy(X)[:6] + b"\3" + npy(X)[7:], t_train=npy(T)), "unknown .npy version"),
    ],
)
def test_damage_is_named_with_the_file(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        read_npz(path)
    assert str(path) in str(caught.value)


def test_a_changed_value_fails_the_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x_train=X, t_train=T)
    content = path.read_bytes()
    at = content.index(X[3].tobytes())
    path.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    with pytest.raises(DataError, match="CRC"):
        read_npz(path)


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_npz(tmp_path)


@settings(max_examples=200)
@given(data=st.data())
def test_any_damage_raises_data_error_or_nothing(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(data.draw(damaged(packed(x_train=npy(X), t_train=npy(T)))))
    with contextlib.suppress(DataError):
        read_npz(path)
