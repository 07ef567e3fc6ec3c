"""Arrays in memory, prepared in a folder that the caller names."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.data.dataset import Dataset, open_dataset
from dptrain.data.prepared import prepare_arrays
from dptrain.errors import DataError, UsageError

X = np.random.default_rng(1).random((6, 2, 2))
T = np.array([0, 1, 1, 0, 2, 0])


def opened(folder: Path) -> Dataset:
    return open_dataset(folder, validation=0, test=0, seed=0)


def test_the_same_folder_as_of_a_file(tmp_path: Path) -> None:
    folder = prepare_arrays(
        tmp_path / "new" / "data", x_train=X, t_train=np.eye(3)[T], dtype="float64"
    )
    assert folder == tmp_path / "new" / "data"
    dataset = opened(folder)
    np.testing.assert_array_equal(dataset.train.inputs, X, strict=True)
    np.testing.assert_array_equal(dataset.train.targets, T, strict=True)
    assert len(dataset.test) == 0
    assert (dataset.name, dataset.classes, dataset.sample_shape) == ("arrays", 3, (2, 2))
    assert [path.name for path in folder.parent.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "values", [np.asfortranarray(X), X[::-1][::-1], X.astype(">f8"), np.repeat(X, 2, axis=0)[::2]]
)
def test_any_layout_of_memory(values: NDArray[Any], tmp_path: Path) -> None:
    dataset = opened(prepare_arrays(tmp_path / "a", x_train=values, t_train=T, dtype="float64"))
    np.testing.assert_array_equal(dataset.train.inputs, X, strict=True)


def test_regression_with_a_test_part(tmp_path: Path) -> None:
    y = X[:, 0, 0]
    folder = prepare_arrays(
        tmp_path / "a", x_train=y, t_train=y * 2, x_test=y[:2], t_test=y[:2], dtype="float32"
    )
    dataset = opened(folder)
    assert (dataset.classes, dataset.class_names) == (0, ())
    assert (dataset.sample_shape, dataset.target_shape) == ((1,), (1,))
    np.testing.assert_array_equal(
        dataset.train.targets, (y * 2).astype(np.float32)[:, np.newaxis], strict=True
    )
    assert len(dataset.test) == 2


def test_the_digest_is_of_the_contents(tmp_path: Path) -> None:
    def digest(x: NDArray[Any], t: NDArray[Any], name: str, **test: Any) -> str:
        folder = prepare_arrays(tmp_path / name, x_train=x, t_train=t, dtype="float64", **test)
        return opened(folder).digest

    changed = X.copy()
    changed[5, 1, 1] = np.nextafter(changed[5, 1, 1], 1)
    first = digest(X, T, "a")
    assert digest(np.asfortranarray(X), T.copy(), "b") == first
    others = [
        digest(changed, T, "c"),
        digest(X, T[::-1], "d"),
        digest(X.reshape(6, 4), T, "e"),
        digest(X, T, "f", x_test=X, t_test=T),
    ]
    assert len({first, *others}) == 5


def test_a_data_set_in_the_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    prepare_arrays(folder, x_train=X, t_train=T, x_test=X, t_test=T, dtype="float64")
    prepare_arrays(folder, x_train=X + 1, t_train=T, dtype="float64")
    dataset = opened(folder)
    np.testing.assert_array_equal(dataset.train.inputs, X + 1)
    assert len(dataset.test) == 0
    assert not (folder / "x_test.npy").exists()
    prepare_arrays(folder, x_train=X + 1, t_train=T, dtype="float32")
    assert opened(folder).dtype == np.float32


def test_an_empty_folder_may_be_there_already(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    prepare_arrays(tmp_path / "a", x_train=X, t_train=T, dtype="float64")
    assert len(opened(tmp_path / "a").train) == 6


@pytest.mark.parametrize(
    ("x", "t", "problem"),
    [
        (X.astype(object), T, "x_train has dtype object"),
        (X, T[:2], "6 rows, but t_train has 2"),
        (X, T - 1, "label -1 in row 0"),
        (np.where(np.isin(X, X[3, 1, 0]), np.inf, X), T, "inf in row 3, column 1, 0"),
    ],
)
def test_bad_arrays_are_named(
    x: NDArray[Any], t: NDArray[Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=problem):
        prepare_arrays(tmp_path / "a", x_train=x, t_train=t, dtype="float32")
    assert list(tmp_path.iterdir()) == []


def test_bad_places_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "a"):
        with pytest.raises(DataError, match=r"cannot be written there.*give another folder"):
            prepare_arrays(folder, x_train=X, t_train=T, dtype="float32")
    with pytest.raises(UsageError, match="dtype='int8'"):
        prepare_arrays(tmp_path, x_train=X, t_train=T, dtype="int8")  # type: ignore[arg-type]


def test_the_converted_inputs_are_never_whole_in_memory(tmp_path: Path) -> None:
    x = np.zeros((50_000, 100), np.uint8)
    tracemalloc.start()
    prepare_arrays(tmp_path / "a", x_train=x, t_train=x[:, 0], dtype="float64")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6, "the whole of it would be 40 MB"
