"""Which columns of a CSV file are learnt from, and what its whole numbers stand for."""

from pathlib import Path

import numpy as np
import pytest

from dptrain.data.dataset import Dataset, open_dataset
from dptrain.data.prepared import prepare, prepare_arrays
from dptrain.data.source import ReadChoices, read_source
from dptrain.data.targets import Task
from dptrain.errors import DataError, UsageError

HOUSES = "id,rooms,town,price,area\na1,3,Ulm,250000,71\na2,4,Bonn,310000,95.5\na3,2,,99000,40\n"


@pytest.fixture
def houses(tmp_path: Path) -> str:
    path = tmp_path / "houses.csv"
    path.write_text(HOUSES)
    return str(path)


def opened(houses: str, task: Task | None) -> Dataset:
    folder = prepare(
        houses, ReadChoices(label="price", columns=["area", "rooms"], task=task), dtype="float64"
    )
    return open_dataset(folder, validation=0, test=0, seed=0)


def test_columns_are_taken_in_the_order_given_and_others_not_looked_at(houses: str) -> None:
    data = read_source(houses, "price", ["area", "rooms"])
    assert data.x_train.tolist() == [[71, 3], [95.5, 4], [40, 2]]
    assert data.t_train.tolist() == [250000, 310000, 99000]
    assert read_source(houses, "rooms", ["price"]).x_train.tolist() == [[250000], [310000], [99000]]


def test_a_column_of_words_says_what_to_do(houses: str) -> None:
    with pytest.raises(
        DataError, match=r"line 2, column 'town': 'Ulm' is not a number;.*--columns"
    ):
        read_source(houses, "price")
    Path(houses).write_text(HOUSES.replace("Ulm", "1").replace("Bonn", "2"))
    with pytest.raises(DataError, match=r"line 4, column 'town': empty;.*--columns"):
        read_source(houses, "price", ["town"])


@pytest.mark.parametrize(
    ("label", "columns", "words"),
    [
        ("price", ["aera"], "has no column 'aera'; did you mean 'area'"),
        ("price", ["area", "price"], "columns='price' is the label"),
        (None, ["area"], "columns='area' is the label; leave it out, or name another"),
    ],
)
def test_columns_that_cannot_be_used(
    label: str | None, columns: list[str], words: str, houses: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_source(houses, label, columns)


def test_columns_need_a_header_and_a_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2,3\n4,5,6\n")
    with pytest.raises(DataError, match="columns='x' names a column, but the file has no header"):
        read_source(str(tmp_path / "a.csv"), None, ["x"])
    with pytest.raises(UsageError, match=r"columns=.*is for a CSV, but.*'mnist'"):
        read_source("mnist", None, ["x"])


def test_whole_numbers_are_predicted_where_the_task_is_regression(houses: str) -> None:
    with pytest.raises(DataError, match=r"labels up to 310000.*--task regression"):
        opened(houses, None)
    found = opened(houses, "regression")
    assert (found.classes, found.target_shape) == (0, (1,))
    np.testing.assert_array_equal(found.train.targets, [[250000.0], [310000.0], [99000.0]])


def test_the_task_and_the_columns_belong_to_the_digest(houses: str) -> None:
    path = Path(houses)
    path.write_text("a,b,y\n1,2,0\n2,3,1\n3,5,1\n")
    ways: list[tuple[list[str] | None, Task | None]] = [
        (["a", "b"], None),
        (["b", "a"], None),
        (["a"], None),
        (["a"], "regression"),
        (None, "classification"),
    ]
    folders = {
        prepare(houses, ReadChoices(label="y", columns=columns, task=task), dtype="float32")
        for columns, task in ways
    }
    assert len(folders) == len(ways)
    assert prepare(houses, dtype="float32") in folders, "a and b are what it learns from anyway"


def test_words_are_no_numbers_to_predict(houses: str) -> None:
    Path(houses).write_text("a,kind\n1,cat\n2,dog\n")
    with pytest.raises(DataError, match=r"task='regression' needs numbers.*'cat'"):
        prepare(houses, ReadChoices(task="regression"), dtype="float32")


def test_floats_that_are_whole_are_classes_where_the_task_is_classification(
    tmp_path: Path,
) -> None:
    x = np.zeros((3, 1))
    folder = prepare_arrays(
        tmp_path / "a",
        x_train=x,
        t_train=np.array([0.0, 2, 1]),
        dtype="float64",
        task="classification",
    )
    assert open_dataset(folder, validation=0, test=0, seed=0).classes == 3
    with pytest.raises(DataError, match=r"t_train holds 0\.5 in row 1 .*--task regression"):
        prepare_arrays(
            tmp_path / "b",
            x_train=x,
            t_train=np.array([0, 0.5, 1]),
            dtype="float64",
            task="classification",
        )
