"""What targets mean: words, signs, whole floats, labels that do not count from 0."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dptrain
from dptrain.errors import DataError, DptrainError, OwnCodeError, ShapeError, UsageError
from dptrain.evaluation.classification import Classification
from dptrain.trained import TrainedNetwork, load_run
from tests.own.nets import Net

X = np.random.default_rng(0).standard_normal((120, 4))
K = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
WORDS = np.array(["red", "blue", "green"])[K]
NUMBERS = np.unique(WORDS, return_inverse=True)[1]


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
    numbers = fitted(NUMBERS)
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
    with pytest.raises(UsageError, match=r"reach code of your own as 0 and 1; give task='regr"):
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
        ((K > 0) + 1.0, 1, "all 1 or 2 but floats, .* give task='classification'$"),
    ],
)
def test_what_was_assumed_is_told(t: NDArray[Any], units: int, words: str) -> None:
    with pytest.warns(RuntimeWarning, match=words):
        fitted(t, units)


@pytest.mark.parametrize("loss", ["softmax-cross-entropy", "hinge"])
def test_losses_of_classes_say_how_floats_are_such(loss: str) -> None:
    with pytest.raises(ShapeError, match=r"; use loss='sum-of-squares', or .* task='classificat"):
        fitted(K.astype(float), 3, loss=loss)
    assert fitted(K.astype(float), 3, loss=loss, task="classification").epochs[-1].test_accuracy


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


@pytest.fixture(scope="module")
def network() -> TrainedNetwork:
    net = dptrain.Network(4, [dptrain.Dense(3)])
    return dptrain.fit(net, (X, WORDS), epochs=2, workers=1, progress=False).network


@pytest.mark.parametrize(
    "t", [NUMBERS, NUMBERS.astype(float), NUMBERS.astype(np.uint64), np.eye(3)[NUMBERS], WORDS]
)
def test_labels_in_any_form_are_judged_alike(t: NDArray[Any], network: TrainedNetwork) -> None:
    right = float(np.mean(network.classify(X) == NUMBERS))
    assert network.accuracy(X, t) == right
    found = network.evaluate(X, t)
    assert isinstance(found, Classification)
    assert found.accuracy == right


@pytest.mark.parametrize(
    ("t", "words"),
    [
        (
            NUMBERS + 1,
            "t holds 3 in row .*, which is not a class number: they are 0 to 2, for bl",
        ),
        (NUMBERS + 0.5, r"t holds \d.5 in row 0"),
        (np.where(NUMBERS > 0, NUMBERS, np.nan), "t holds nan in row"),
        (np.eye(5)[NUMBERS], r"\(120, 5\) are no one-hot rows of the 3 classes blue, green, red"),
        (np.ones((120, 3)), "are no one-hot rows"),
        (NUMBERS[:1], "cannot be compared"),
    ],
)
def test_labels_that_are_no_classes(t: NDArray[Any], words: str, network: TrainedNetwork) -> None:
    for judged in (network.accuracy, network.evaluate):
        with pytest.raises(DptrainError, match=words):
            judged(X, t)


def test_numbers_that_are_names_are_names() -> None:
    found = fitted(np.array(["1.0", "2.0"])[(K > 0).astype(int)], 2).network
    assert found.class_names == ("1.0", "2.0")
    right = float(np.mean(found.classify(X) == (K > 0)))
    for t in ((K > 0) + 1, (K > 0) + 1.0, (K > 0).astype(int)):
        assert found.accuracy(X, t) == right
    assert found.accuracy(X, np.ones(120)) == np.mean(found.classify(X) == 0)


def test_numbers_are_predicted_and_judged_as_such() -> None:
    found = fitted(X[:, 0], 1).network
    for wrong in (lambda: found.classify(X), lambda: found.accuracy(X, X[:, 0])):
        with pytest.raises(UsageError, match="predicts numbers, not classes; use predict or eval"):
            wrong()
    for t, words in (
        (WORDS, "t has dtype <U5"),
        (X[:, 0] * np.inf, "t holds .* not a finite number"),
    ):
        with pytest.raises(DataError, match=words):
            found.evaluate(X, t)


@pytest.mark.parametrize(
    "x", [X + 1j, X.astype(str), X.astype(int).astype("datetime64[D]"), [[None] * 4]]
)
def test_inputs_to_predict_are_numbers(x: Any, network: TrainedNetwork) -> None:
    with pytest.raises(DataError, match=r"must hold numbers or booleans|lacks a value in row 0"):
        network.classify(x)


class OneHot:
    """Softmax regression that takes one-hot rows."""

    def __init__(self) -> None:
        self.params = {"W": np.random.default_rng(0).standard_normal((4, 3))}

    def predict(self, x: Any) -> Any:
        y = np.exp(x @ self.params["W"])
        return y / y.sum(axis=1, keepdims=True)

    def loss(self, x: Any, t: Any) -> Any:
        return -np.sum(t * np.log(self.predict(x))) / len(x)

    def gradient(self, x: Any, t: Any) -> Any:
        return {"W": x.T @ (self.predict(x) - t) / len(x)}


class Flat(OneHot):
    """The same, which takes class numbers."""

    def loss(self, x: Any, t: Any) -> Any:
        return -np.mean(np.log(self.predict(x)[np.arange(len(x)), t]))

    def gradient(self, x: Any, t: Any) -> Any:
        return super().gradient(x, np.eye(3)[t])


@pytest.mark.parametrize(
    ("kind", "given", "taken", "words"),
    [
        (
            OneHot,
            NUMBERS,
            np.eye(3)[NUMBERS],
            r"computes with one-hot rows, np.eye\(3\)\[t\] of class numbers t: give",
        ),
        (
            Flat,
            np.eye(3)[NUMBERS],
            NUMBERS,
            r"computes with class numbers, \(n,\): give these; on",
        ),
    ],
)
def test_code_that_takes_the_other_form_of_targets_is_told(
    kind: type[OneHot], given: NDArray[Any], taken: NDArray[Any], words: str
) -> None:
    # WORDS stands beside the code, whose globals are watched
    with pytest.raises(OwnCodeError, match=words) as caught:
        dptrain.fit(kind(), (X, given), steps=1, workers=1, progress=False)
    assert caught.value.traceback.count("Traceback") == 1  # and not those of earlier attempts
    dptrain.fit(kind(), (X, taken), steps=1, workers=1, progress=False)
