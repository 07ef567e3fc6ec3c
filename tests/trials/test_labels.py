"""What targets mean: words, signs, whole floats, labels that do not count from 0."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dptrain
from dptrain.errors import DataError, DptrainError, ShapeError, UsageError
from dptrain.trained import load_run
from tests.own.nets import Net

X = np.random.default_rng(0).standard_normal((120, 4))
K = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
WORDS = np.array(["red", "blue", "green"])[K]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fitted(t: Any, units: int = 3, **settings: Any) -> dptrain.Result:
    net = dptrain.Network(4, [dptrain.Dense(units)])
    settings = {"epochs": 2, "workers": 1, "progress": False, "lr": 0.1, **settings}
    return dptrain.fit(net, (X, t), **settings)


def test_words_are_classes_as_in_a_table() -> None:
    found = fitted(WORDS)
    assert found.network.class_names == ("blue", "green", "red")
    names = np.array(found.network.class_names)
    numbers = fitted(np.unique(WORDS, return_inverse=True)[1])
    assert found.digest == numbers.digest
    answers = names[found.network.classify(X)]
    assert found.network.accuracy(X, WORDS) == np.mean(answers == WORDS)
    assert load_run(found.run, "last")[0].class_names == tuple(names)
    with pytest.raises(DataError, match=r"holds 'rad' in row 1 .* none of blue, green, red; did"):
        found.network.accuracy(X[:2], ["red", "rad"])


@pytest.mark.parametrize(
    "t", [WORDS.astype(object), WORDS.astype("S"), WORDS.tolist(), WORDS[:, None]]
)
def test_words_in_other_arrays(t: Any) -> None:
    assert fitted(t).digest == fitted(WORDS).digest


@pytest.mark.parametrize("t", [K.astype(object), K.astype(str), list(K), K[:, None]])
def test_numbers_in_other_arrays(t: Any) -> None:
    assert fitted(t).digest == fitted(K).digest


def test_test_data_have_the_same_words() -> None:
    found = fitted(WORDS, test_data=(X[:9], WORDS[:9]))
    assert found.epochs[-1].test_accuracy == found.network.accuracy(X[:9], WORDS[:9])
    with pytest.raises(DataError, match="t_test holds 'pink' in row 0"):
        fitted(WORDS, test_data=(X[:1], ["pink"]))


@pytest.mark.parametrize(("units", "loss"), [(2, None), (1, "hinge"), (1, "binary-cross-entropy")])
def test_signs_are_two_classes(units: int, loss: str | None) -> None:
    signs = np.where(K > 0, 1, -1)
    settings = {} if loss is None else {"loss": loss}
    found = fitted(signs, units, **settings)
    assert found.digest == fitted((signs + 1) // 2, units, **settings).digest
    assert found.network.class_names == ("-1", "1")
    assert found.network.accuracy(X, signs) == np.mean(2 * found.network.classify(X) - 1 == signs)


def test_signs_do_not_reach_ones_own_code_as_something_else() -> None:
    with pytest.raises(UsageError, match=r"as 0 and 1; give task='regression'"):
        dptrain.fit(Net(4, 5, 2), (X, np.where(K > 0, 1, -1)), epochs=1, progress=False)


@pytest.mark.parametrize(
    ("t", "units", "words"),
    [
        (K + 1, 3, "end the network with 4 units; no row is of class '0'; classes are"),
        (K.astype(float), 3, "end the network with 1 unit; .* give task='classification'"),
        ((K > 0) + 1, 1, "3 classes; .*; no row is of class '0'; classes are"),
        (K[:, None] * [1.0, 2.0], 3, "end the network with 2 units"),
    ],
)
def test_other_numbers_of_units_are_explained(t: NDArray[Any], units: int, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        fitted(t, units)


@pytest.mark.parametrize(
    ("t", "units", "words"),
    [
        (K + 1, 4, "no row is of class '0'; classes are numbered from 0"),
        (10 * K + 10, 31, "no row is of classes '0', '1', '2', '3', '4' and 23 more"),
        ((K > 0).astype(float), 1, "all 0 or 1 but floats, so numbers are predicted"),
        (np.where(K > 0, 1.0, -1.0), 1, "all -1 or 1 but floats"),
    ],
)
def test_what_was_assumed_is_told(t: NDArray[Any], units: int, words: str) -> None:
    with pytest.warns(RuntimeWarning, match=words):
        fitted(t, units)


def test_regression_that_is_wanted_is_not_doubted() -> None:
    fitted((K > 0).astype(float), 1, task="regression")
    fitted(K.astype(float), 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            X,
            r"as a pair, fit\(network, \(x, t\)\); the train data are an array of shape \(120, 4\)",
        ),
        ((X,), "the train data are a tuple"),
        ((X, np.ma.masked_equal(K, 1)), "t_train is a masked array"),
        ((np.ma.masked_greater(X, 1), K), "x_train is a masked array"),
        ((X, [*K[:-1], None]), r"t_train lacks a value in row 119"),
        ((X, [*WORDS[:-1].tolist(), float("nan")]), r"t_train lacks a value in row 119"),
        ((X, [*K[:-1].tolist(), "two"]), "t_train holds words as well as numbers"),
    ],
)
def test_mistakes(data: Any, words: str) -> None:
    net = dptrain.Network(4, [dptrain.Dense(3)])
    with pytest.raises(DptrainError, match=words):
        dptrain.fit(net, data, epochs=1, workers=1, progress=False)
