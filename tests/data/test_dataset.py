"""Splits: disjoint, complete, fixed by the seed; rows gathered without allocation."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.data.dataset import Split, open_dataset
from dptrain.data.prepared import prepare_arrays
from dptrain.errors import DataError, UsageError


def numbered(folder: Path, rows: int, test_rows: int = 0) -> Path:
    """Prepare a data set whose row r has the input r and the target 2 r."""
    x = np.arange(rows, dtype=np.float64)
    test: dict[str, Any] = {}
    if test_rows:
        test = {"x_test": np.arange(test_rows) * 1.0, "t_test": np.arange(test_rows) * 2.0}
    return prepare_arrays(folder, x_train=x, t_train=2 * x, dtype="float64", **test)


def rows_of(split: Split) -> NDArray[np.intp]:
    return np.arange(len(split.inputs)) if split.index is None else split.index


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("ten") / "a", 10)


@pytest.fixture(scope="module")
def ten_and_four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("ten-and-four") / "a", 10, 4)


@given(
    rows=st.integers(5, 60),
    validation=st.floats(0, 0.6),
    test=st.floats(0, 0.5),
    seed=st.integers(0, 2**64 - 1),
)
def test_splits_are_disjoint_and_complete(
    rows: int, validation: float, test: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"numbered-{rows}"
    if not folder.exists():
        numbered(folder, rows)
    dataset = open_dataset(folder, validation=validation, test=test, seed=seed)
    splits = (dataset.train, dataset.validation, dataset.test)
    for split in splits:
        assert (np.diff(rows_of(split)) > 0).all(), "ascending"
        assert len(split) == len(rows_of(split))
    together = np.concatenate([rows_of(split) for split in splits])
    np.testing.assert_array_equal(np.sort(together), np.arange(rows))
    assert len(dataset.test) == (max(1, round(test * rows)) if test else 0)
    remaining = rows - len(dataset.test)
    assert len(dataset.validation) == (max(1, round(validation * remaining)) if validation else 0)
    again = open_dataset(folder, validation=validation, test=test, seed=seed)
    for split, same in zip(splits, (again.train, again.validation, again.test), strict=True):
        np.testing.assert_array_equal(rows_of(split), rows_of(same))


def test_the_held_out_rows_never_change(ten: Path) -> None:
    dataset = open_dataset(ten, validation=0.25, test=0.2, seed=7)
    assert rows_of(dataset.test).tolist() == [2, 4]
    assert rows_of(dataset.validation).tolist() == [0, 3]


def test_another_seed_holds_out_other_rows(ten: Path) -> None:
    chosen = {
        tuple(rows_of(open_dataset(ten, validation=0, test=0.5, seed=seed).test))
        for seed in range(20)
    }
    assert len(chosen) > 10


def test_a_test_part_of_the_data_set_is_kept(ten_and_four: Path) -> None:
    dataset = open_dataset(ten_and_four, validation=0.2, test=0.5, seed=0)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [8, 2, 4]
    assert dataset.test.index is None
    np.testing.assert_array_equal(dataset.test.targets[:, 0], [0, 2, 4, 6])


def test_nothing_held_out(ten: Path) -> None:
    dataset = open_dataset(ten, validation=0, test=0, seed=0)
    assert dataset.train.index is None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (10, 0, 0)


@given(st.integers(1, 6), st.integers(0, 99))
def test_fewer_rows_are_some_of_those_left_for_training(ten: Path, count: int, seed: int) -> None:
    held_out = {"validation": 0.25, "test": 0.2, "seed": seed}
    whole = open_dataset(ten, **held_out)  # type: ignore[arg-type]
    fewer = open_dataset(ten, **held_out, train_rows=count)  # type: ignore[arg-type]
    chosen = rows_of(fewer.train)
    assert len(chosen) == len(fewer.train) == count
    assert (np.diff(chosen) > 0).all()
    assert set(chosen) <= set(rows_of(whole.train))
    for kept, same in ((fewer.validation, whole.validation), (fewer.test, whole.test)):
        np.testing.assert_array_equal(rows_of(kept), rows_of(same))
    more = open_dataset(ten, **held_out, train_rows=6)  # type: ignore[arg-type]
    assert set(chosen) <= set(rows_of(more.train))


def test_the_rows_chosen_never_change(ten: Path) -> None:
    chosen = open_dataset(ten, validation=0, test=0, seed=7, train_rows=4).train
    assert rows_of(chosen).tolist() == [0, 2, 7, 9]
    others = {
        tuple(rows_of(open_dataset(ten, validation=0, test=0, seed=seed, train_rows=4).train))
        for seed in range(20)
    }
    assert len(others) > 10


def test_more_rows_than_there_are(ten: Path) -> None:
    with pytest.raises(UsageError, match=r"train_rows=9 is more than the 8 training rows.*rows 8"):
        open_dataset(ten, validation=0.2, test=0, seed=0, train_rows=9)


@pytest.mark.parametrize(
    ("validation", "test", "problem"),
    [
        (1.0, 0, "validation=1.0 must be a fraction"),
        (-0.1, 0, "validation=-0.1 must be"),
        (float("nan"), 0, "validation=nan must be"),
        (0, 1.5, "test=1.5 must be"),
        (0.99, 0, "validation=0.99 of 10 rows leaves none"),
        (0, 0.96, "test=0.96 of 10 rows leaves none"),
        (0.5, 0.9, "validation=0.5 of 1 rows leaves none"),
    ],
)
def test_fractions_that_cannot_be(ten: Path, validation: float, test: float, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        open_dataset(ten, validation=validation, test=test, seed=0)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no intact prepared data set"):
        open_dataset(tmp_path / "none", validation=0, test=0, seed=0)


def test_the_rows_are_mapped_and_cannot_be_written(ten: Path) -> None:
    inputs = open_dataset(ten, validation=0, test=0, seed=0).train.inputs
    assert type(inputs) is np.ndarray
    assert isinstance(inputs.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        inputs[0] = 1


@given(data=st.data(), indexed=st.booleans())
def test_gather_equals_fancy_indexing(data: st.DataObject, indexed: bool) -> None:
    values = np.arange(60, dtype=np.float32).reshape(10, 3, 2)
    labels = np.arange(10) * 3
    index = np.array([1, 2, 5, 8]) if indexed else None
    split = Split(values, labels, index)
    order = np.array(data.draw(st.lists(st.integers(0, len(split) - 1))), np.intp)
    x, t = np.empty((len(order), 3, 2), np.float32), np.empty(len(order), np.int64)
    split.gather(order, x, t)
    np.testing.assert_array_equal(x, values[rows_of(split)][order], strict=True)
    np.testing.assert_array_equal(t, labels[rows_of(split)][order], strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grey_values_are_divided_by_255_on_the_way_out(dtype: type) -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(64, 4)
    split = Split(grey, np.zeros(64, np.int64))
    x, _ = split.take(np.arange(63, -1, -1), dtype)
    np.testing.assert_array_equal(x[::-1], grey.astype(dtype) / dtype(255), strict=True)


def test_gather_allocates_nothing(mnist_folder: Path) -> None:
    split = open_dataset(mnist_folder, validation=0, test=0, seed=0).train
    order = np.arange(0, 60000, 100)
    x, t = np.empty((600, 28, 28), np.float32), np.empty(600, np.int64)
    grey = np.empty(x.shape, np.uint8)
    split.gather(order, x, t, grey)
    tracemalloc.start()
    split.gather(order, x, t, grey)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000, "an index of 600 rows alone is 4800 bytes"
