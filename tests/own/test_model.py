"""What is asked of a network of the user's own, and what is said where it lacks something."""

from typing import Any

import numpy as np
import pytest

from dptrain.errors import OwnCodeError, UsageError
from dptrain.own.functions import Function
from dptrain.own.model import OwnModel
from tests.own.nets import Net

X = np.random.default_rng(0).standard_normal((6, 20))
T = np.eye(3)[np.arange(6) % 3]


def net(**changes: Any) -> Net:
    found = Net()
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_weights_go_into_the_arrays_that_the_layers_hold() -> None:
    subject = Net()
    model = OwnModel(subject, "Net")
    wanted = [np.full_like(array, i, np.float32) for i, array in enumerate(model.params.values())]
    model.load(wanted)
    assert subject.layers["Affine1"].W is subject.params["W1"]
    assert (subject.layers["Affine2"].W == 2).all()
    assert subject.params["W1"].dtype == np.float64


def test_an_array_put_in_anothers_place_is_noticed() -> None:
    subject = Net()
    model = OwnModel(subject, "Net")
    subject.params["b1"] = subject.params["b1"] + 1
    with pytest.raises(UsageError, match=r"Net has put another array into params\['b1'\]"):
        model.load(list(model.params.values()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gradient": None}, r"Net has no gradient\(x, t\)"),
        ({"loss": None, "gradient": None}, r"no gradient\(x, t\) and no loss\(x, t\)"),
        ({"params": None}, "Net.params is None"),
        ({"params": {}}, "needs a dict of arrays"),
        ({"params": {1: np.zeros(2)}}, "has the key 1"),
        ({"params": {"W": [1.0]}}, r"params\['W'\] is list \[1.0\]"),
        ({"params": {"W": np.zeros(2, int)}}, r"params\['W'\] is int64 \(2,\)"),
        ({"params": {"W": np.zeros((0, 2))}}, r"params\['W'\]"),
        ({"params": {"W": np.array([1.0, np.nan])}}, r"params\['W'\] holds an infinity or NaN"),
        ({"params": {"W": np.broadcast_to(1.0, (2,))}}, "cannot be written to"),
    ],
)
def test_what_is_missing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        OwnModel(net(**changes), "Net")


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        ("backward", r"; let gradient\(x, t\) call backward, and return a dict"),
        ("numerical_gradient", "; numerical_gradient computes the loss twice for every weight"),
        (
            "other",
            r"; if loss\(x, t\) returns both the loss and a dict of gradients, let loss_and_",
        ),
    ],
)
def test_networks_in_other_forms(other: str, hint: str) -> None:
    subject = net(gradient=None, **{other: lambda *_: {}})
    with pytest.raises(UsageError, match=rf"has no gradient\(x, t\); .*{hint}"):
        OwnModel(subject, "Net")
    with pytest.raises(UsageError, match=r"and \.loss\(x, t\)$"):
        OwnModel(net(loss=None, **{other: lambda *_: {}}), "Net")


def test_a_loss_that_returns_the_gradients_too() -> None:
    subject = Net()
    both = net(loss=lambda x, t: (subject.loss(x, t), subject.gradient(x, t)))
    with pytest.raises(UsageError, match=r"loss\(x, t\) returned a loss and a dict; that is what "):
        OwnModel(both, "Net").loss(X, T, 0)
    called_so = net(loss=None, loss_and_gradient=both.loss)
    assert OwnModel(called_so, "Net").loss(X, T, 0) == subject.loss(X, T)


def test_parameters_that_are_the_same_memory() -> None:
    w = np.zeros((4, 4))
    with pytest.raises(UsageError, match=r"params\['a'\] and params\['b'\] are the same memory"):
        OwnModel(net(params={"a": w, "b": w.T}), "Net")


def gradients(**changes: Any) -> dict[str, Any]:
    return dict(Net().gradient(X, T), **changes)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1, 2], r"Net.gradient\(x, t\) returned list \[1, 2\]; it must return a dict"),
        ({"W1": 1, "b1": 1}, "has no gradient of 'W2', 'b2'"),
        (gradients(dx=X), "has 'dx', which params has not"),
        (gradients(b1=np.zeros(6)), r"\['b1'\] is float64 \(6,\), but params\['b1'\] has .*\(7,\)"),
        (gradients(W1=0.0), r"\['W1'\] is float64 \(\), but"),
        (gradients(b2=np.zeros(3, complex)), "complex128"),
    ],
)
def test_gradients_that_cannot_be_used(returned: Any, message: str) -> None:
    model = OwnModel(net(gradient=lambda *_: returned), "Net")
    with pytest.raises(UsageError, match=message):
        model.loss_and_gradient(X, T, 0)


@pytest.mark.parametrize("returned", [np.zeros(6), "many", None, 1j])
def test_a_loss_that_is_not_one_number(returned: Any) -> None:
    with pytest.raises(UsageError, match=r"Net.loss\(x, t\) returned .* must return one number"):
        OwnModel(net(loss=lambda *_: returned), "Net").loss(X, T, 0)


def test_an_exception_is_told_with_the_traceback_of_that_code_alone() -> None:
    def gradient(x: Any, t: Any) -> Any:
        return x @ np.zeros((3, 3))

    model = OwnModel(net(gradient=gradient), "Net")
    with pytest.raises(OwnCodeError) as caught:
        model.loss_and_gradient(X, T, 0)
    assert caught.value.what.startswith(
        "Net.gradient(x: float64 (6, 20), t: float64 (6, 3)) raised"
    )
    assert "return x @ np.zeros((3, 3))" in caught.value.traceback
    assert "dptrain/own" not in caught.value.traceback
    assert caught.value.exit_code == 1


def test_a_function_with_its_parameters() -> None:
    subject = Net()

    def loss_and_gradient(params: Any, x: Any, t: Any) -> Any:
        assert params is subject.params
        return subject.loss(x, t), subject.gradient(x, t)

    model = OwnModel(Function(loss_and_gradient, subject.params), "f")
    loss, found = model.loss_and_gradient(X, T, 0)
    assert loss == model.loss(X, T, 0) == subject.loss(X, T)
    assert (found["W1"] == subject.gradient(X, T)["W1"]).all()
    assert not model.scores
    with pytest.raises(UsageError, match="no predict"):
        model.outputs(X, 0)
    with pytest.raises(UsageError, match="it must return a loss and a dict"):
        OwnModel(Function(lambda *_: 1.0, subject.params), "f").loss(X, T, 0)  # type: ignore[arg-type]


def test_correct_rows_by_scores_by_class_numbers_and_by_accuracy() -> None:
    labels = np.arange(6) % 3
    scores = np.eye(3)[[0, 1, 2, 0, 0, 0]]

    def correct(**changes: Any) -> int:
        return OwnModel(net(**changes), "Net").correct(X, T, labels, 3, 0)

    assert correct(predict=lambda _: scores) == 4
    assert correct(predict=lambda _: scores.argmax(axis=1)) == 4
    assert correct(predict=None, accuracy=lambda *_: 0.5) == 3
    assert correct(predict=lambda _: scores[:, :1], accuracy=lambda *_: 1.0) == 6
    with pytest.raises(UsageError, match=r"returned float64 \(6, 1\) for 6 rows of 3 classes"):
        correct(predict=lambda _: scores[:, :1])
    with pytest.raises(UsageError, match="something for each row"):
        correct(predict=lambda _: scores[:5])
