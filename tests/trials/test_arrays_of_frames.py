"""Data frames given to ``fit``: their names go with the run, and order what comes later."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain.cli.__main__ import main
from dptrain.errors import DataError, UsageError
from dptrain.trained import load_run
from tests.trials.test_table_matching import Frame

NAMES = ["height", "weight", "age"]
X = np.random.default_rng(0).standard_normal((90, 3))
K = (X[:, 0] > 0).astype(int) + (X[:, 2] > 0)
KINDS = ["ox", "cat", "ape"]  # not in the order of the alphabet
TURNED = [2, 0, 1]

STRAIGHT, OTHER = Frame(NAMES, X), Frame([NAMES[i] for i in TURNED], X[:, TURNED])
ONE_HOT = Frame(KINDS, np.eye(3)[K])
ONE_HOT_TURNED = Frame([KINDS[i] for i in TURNED], np.eye(3)[K][:, TURNED])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fitted(x: Any, t: Any, network: Any = None, **settings: Any) -> dptrain.Result:
    network = network or dptrain.Network(3, [dptrain.Dense(3)])
    settings = {"epochs": 20, "lr": 0.1, "workers": 1, "progress": False, **settings}
    return dptrain.fit(network, (x, t), **settings)


def test_what_comes_later_is_ordered_by_the_names() -> None:
    found = fitted(STRAIGHT, K, out="run")
    assert found.digest == fitted(X, K).digest
    for network in (found.network, load_run("run")[0]):
        np.testing.assert_array_equal(network.predict(OTHER), network.predict(X))
        assert network.evaluate(OTHER, K).plain() == network.evaluate(X, K).plain()
    with pytest.raises(DataError, match=r"no column 'height'.*; did you mean 'Height'"):
        found.network.classify(Frame(["Height", "weight", "age"], X))


def test_so_are_test_data() -> None:
    right = fitted(STRAIGHT, K, test_data=(X, K)).epochs[-1]
    assert fitted(STRAIGHT, K, test_data=(OTHER, K)).epochs[-1].test_accuracy == right.test_accuracy
    with pytest.raises(DataError, match="no column 'age'"):
        fitted(STRAIGHT, K, test_data=(Frame(["height", "weight", "years"], X), K))


def test_one_hot_columns_name_the_classes() -> None:
    right = fitted(X, np.eye(3)[K], test_data=(X, np.eye(3)[K]))
    found = fitted(STRAIGHT, ONE_HOT, test_data=(OTHER, ONE_HOT_TURNED))
    assert found.epochs[-1].test_accuracy == right.epochs[-1].test_accuracy
    network = found.network
    assert network.class_names == ("ox", "cat", "ape")
    assert network.accuracy(X, ONE_HOT_TURNED) == network.accuracy(X, K)
    assert network.accuracy(X, np.array(KINDS)[K]) == network.accuracy(X, K)


def test_columns_of_numbers_to_predict_are_ordered_too() -> None:
    t = X @ np.array([[1.0, 2.0], [0.5, 0.0], [0.0, 3.0]])
    network = dptrain.Network(3, [dptrain.Dense(2)])
    turned = Frame(["b", "a"], t[:, ::-1])
    right = fitted(X, t, network, test_data=(X, t), lr=0.01)
    found = fitted(STRAIGHT, Frame(["a", "b"], t), network, test_data=(OTHER, turned), lr=0.01)
    assert found.network.class_names == ()
    assert found.epochs[-1].test_loss == right.epochs[-1].test_loss


def test_tables_are_read_by_the_names_of_the_frame(capfd: pytest.CaptureFixture[str]) -> None:
    words = np.array(KINDS)[K]
    fitted(STRAIGHT, words, out="run")
    columns = words.tolist(), *X[:, TURNED].T.tolist()
    rows = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    Path("later.csv").write_text("\n".join(["label,age,height,weight", *rows]))
    assert main(["evaluate", "run", "--dataset", "later.csv"]) == 0
    accuracy = load_run("run")[0].accuracy(X, words)
    assert f"{accuracy:.2%} correct" in capfd.readouterr().out


def test_a_run_goes_on_with_a_frame_and_with_its_numbers() -> None:
    whole = fitted(STRAIGHT, K, epochs=4)
    fitted(STRAIGHT, K, epochs=2, out="run")
    assert fitted(STRAIGHT, K, epochs=3, resume="run").epochs[-1].epoch == 3
    assert fitted(X, K, epochs=4, resume="run").digest == whole.digest


def test_weights_do_not_begin_with_columns_in_another_order() -> None:
    begun = fitted(STRAIGHT, K)
    with pytest.raises(UsageError, match="give the frame with columns height,weight,age"):
        fitted(OTHER, K, begun.network)


def test_two_columns_of_a_name_are_refused() -> None:
    with pytest.raises(DataError, match="several columns 'age'; rename one"):
        fitted(Frame(["age", "weight", "age"], X), K)


def test_names_that_are_no_text_are_positions() -> None:
    found = fitted(Frame([0, 1, 2], X), K)  # type: ignore[list-item]
    assert found.network.experiment.columns is None
    np.testing.assert_array_equal(found.network.classify(STRAIGHT), found.network.classify(X))


class NAType:
    """As pandas' NA: neither true nor false."""

    def __ne__(self, other: object) -> Any:
        return self

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("words", [False, True])
def test_a_missing_value_is_named_by_its_row(words: bool) -> None:
    t = (np.array(KINDS)[K] if words else K).astype(object)
    t[7] = NAType()
    with pytest.raises(DataError, match="t_train lacks a value in row 7"):
        fitted(X, t)
    x = X.astype(object)
    x[5, 1] = NAType()
    with pytest.raises(DataError, match="x_train lacks a value in row 5"):
        fitted(x, K)


class Row:
    """A row of a data frame: values by the names of the columns, which are its index."""

    def __init__(self, index: list[Any], values: Any) -> None:
        self.index, self.values = index, np.asarray(values)

    def __getitem__(self, names: list[Any]) -> "Row":
        return Row(names, self.values[[self.index.index(name) for name in names]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.values


def test_a_row_of_a_frame_is_ordered_by_its_names() -> None:
    network = fitted(STRAIGHT, K).network
    row = Row([NAMES[i] for i in TURNED], X[0, TURNED])
    np.testing.assert_array_equal(network.predict(row), network.predict(X[0]))
    with pytest.raises(DataError, match="no column 'age'"):
        network.predict(Row(["height", "weight", "years"], X[0]))


def test_rows_of_the_same_names_in_another_order_are_refused() -> None:
    rows = list(range(90))
    straight, turned = Row(rows, K), Row(rows[::-1], K[::-1])
    frame = Frame(NAMES, X)
    frame.index = rows  # type: ignore[attr-defined]
    network = fitted(frame, straight).network
    assert network.accuracy(frame, straight) == network.accuracy(X, K)
    for judged in (network.accuracy, network.evaluate, fitted):
        with pytest.raises(DataError, match="the same index in another order, so that their rows"):
            judged(frame, turned)
    with pytest.raises(DataError, match=r"give t\.loc\[x\.index\]"):
        fitted(frame, straight, test_data=(frame, turned))
    fitted(frame, Row(list(range(100, 190)), K))  # as after reset_index on one of them


def test_one_hot_columns_may_lack_classes() -> None:
    network = fitted(STRAIGHT, ONE_HOT).network
    some = K != 0
    columns = Frame(KINDS[:0:-1], np.eye(3)[K][some][:, :0:-1])
    assert network.accuracy(X[some], columns) == network.accuracy(X[some], K[some])


@pytest.mark.parametrize(
    "settings", [{"columns": ["age"]}, {"label": "age"}, {"transpose": True}, {"dataset": "iris"}]
)
def test_what_is_for_files_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"is for a data set that is named, .* fit has the arrays"):
        fitted(STRAIGHT, K, **settings)
