"""Parameter files: what is saved is what is loaded, by NumPy and pickle as well."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import dptrain
from dptrain.errors import DataError, RunFolderError, UsageError
from dptrain.weights.params import load_params, save_params
from tests.data.pickles import values
from tests.data.test_pickled import ARRAYS, assert_same


@settings(max_examples=25)  # each waits for the disk four times
@given(ARRAYS)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, arrays: Any) -> None:
    folder = tmp_path_factory.mktemp("params")
    for suffix in (".npz", ".pkl"):
        save_params(folder / f"a{suffix}", arrays)
        assert_same(load_params(folder / f"a{suffix}"), arrays)
    shutil.rmtree(folder)


def test_other_readers_find_the_same(tmp_path: Path) -> None:
    save_params(tmp_path / "a.npz", values())
    save_params(tmp_path / "a.PKL", values())
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        for name, array in values().items():
            np.testing.assert_array_equal(arrays[name], array)
    loaded = pickle.loads((tmp_path / "a.PKL").read_bytes())  # noqa: S301 - written by this test
    assert_same(loaded, values())
    assert_same(load_params(tmp_path / "a.PKL"), values())


def test_python_lists_and_the_exported_names(tmp_path: Path) -> None:
    dptrain.save_params(str(tmp_path / "a.pkl"), {"W1": [[1.0, 2.0]], "b1": [0, 1]})
    found = dptrain.load_params(str(tmp_path / "a.pkl"))
    assert_same(found, {"W1": np.array([[1.0, 2.0]]), "b1": np.array([0, 1])})


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "no arrays to save"),
        ({"W1": np.array([{}], object)}, "W1 is object"),
        ({"W1": np.array(["a"])}, "W1 is <U1"),
        ({"W1": np.zeros(2, np.longdouble)}, "must hold numbers"),
        ({"W1": np.zeros((0, 2))}, r"shape \(0, 2\)"),
        ({"../W1": np.ones(1)}, r"'\.\./W1' is not a name"),
        ({"": np.ones(1)}, "'' is not a name"),
    ],
)
def test_what_is_not_saved(params: Any, words: str, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        save_params(tmp_path / f"a{suffix}", params)
    assert not list(tmp_path.iterdir())


def test_names_of_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.bin: parameters are in files called \.npz, \.pkl"):
        save_params(tmp_path / "a.bin", {"W1": [1.0]})
    with pytest.raises(UsageError, match=r"\.npz, \.pkl"):
        load_params(tmp_path / "a.json")
    with pytest.raises(RunFolderError, match="make the folder first"):
        save_params(tmp_path / "none" / "a.pkl", {"W1": [1.0]})


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_missing_and_damaged_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(DataError, match="cannot be read: No such file") as caught:
        load_params(path)
    assert str(path) in str(caught.value)
    save_params(path, values())
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"not an intact|cut short") as caught:
        load_params(path)
    assert str(path) in str(caught.value)


def test_an_npz_of_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", name=np.array(["a"]))
    with pytest.raises(DataError, match="array 'name' is <U1; only numbers"):
        load_params(tmp_path / "a.npz")
