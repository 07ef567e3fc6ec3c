"""``log(y + 1e-7)`` in a loss, beside what makes rows no matter of their own."""

from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.calls import check
from dptrain.gradcheck.verdict import Verdict
from tests.gradcheck.chains import BatchNorm, Buffered, Chain, Dropout, Relu, checked

WORDS = "the loss has log(y + {}), and the gradient is that of log(y): the difference is known"


class Decayed(Chain):
    decay = 0.1


class Coarse(Chain):
    epsilon = 1e-5


class Odd(Chain):
    epsilon = 1.2345e-7


@pytest.mark.parametrize(
    ("network", "between", "epsilon"),
    [
        (Chain, (Relu,), "1e-07"),
        (Chain, (Buffered, Relu), "1e-07"),
        (Coarse, (Relu,), "1e-05"),
        (Odd, (Relu,), "1.2345e-07"),
        (Chain, (BatchNorm, Relu), "1e-07"),
        (Chain, (Relu, Dropout), "1e-07"),
        (Decayed, (BatchNorm, Relu, Dropout), "1e-07"),
    ],
)
def test_it_is_accounted_for_and_told(
    network: type[Chain], between: tuple[type, ...], epsilon: str
) -> None:
    found = checked(network((6, 5, 3), between))
    assert found.verdict is Verdict.PASS
    assert any(WORDS.format(epsilon) in each for each in found.remarks)


def test_a_row_whose_loss_is_less_than_the_penalty() -> None:
    """``-log(y + ε)`` is as low as ``-ε``, so that such a row tells of no smaller penalty."""
    network = Decayed((6, 5, 3), (Relu,))
    network.layers[-1].b[...] = (40, 0, 0)
    x, t = np.random.default_rng(0).standard_normal((60, 6)), np.zeros(60, int)
    t[::7], t[3::7] = 1, 2
    assert network.loss(x[1:2], t[1:2]) < network.penalty()
    found = check(network, (x, t), workers=(), check_seed=1)
    assert found.verdict is not Verdict.FAIL


class Logistic:
    """One output, and the cross-entropy of targets 0 and 1."""

    epsilon = 1e-7

    def __init__(self) -> None:
        self.params = {"w": np.random.default_rng(0).standard_normal(6), "b": np.zeros(1)}

    def predict(self, x: Any) -> Any:
        return 1 / (1 + np.exp(-(x @ self.params["w"] + self.params["b"])))

    def loss(self, x: Any, t: Any) -> Any:
        y, e, t = self.predict(x), self.epsilon, t.reshape(-1)
        return -np.mean(t * np.log(y + e) + (1 - t) * np.log(1 - y + e))

    def gradient(self, x: Any, t: Any) -> Any:
        d = (self.predict(x) - t.reshape(-1)) / len(x)
        return {"w": x.T @ d, "b": d.sum(keepdims=True)}


def test_a_single_output() -> None:
    random = np.random.default_rng(0)
    data = random.standard_normal((60, 6)), random.integers(0, 2, 60).astype(float)
    found = check(Logistic(), data, workers=(), check_seed=1)
    assert found.verdict is Verdict.PASS
    assert WORDS.format("1e-07") in found.remarks[0]


class Shrunk(Chain):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients | {"b1": gradients["b1"] * (1 - 1e-6)}


def test_a_wrong_tensor_beside_it_is_found() -> None:
    found = checked(Shrunk((6, 5, 3), (Relu,)))
    assert found.verdict is Verdict.FAIL
    assert found.failures[0].diagnoses[0].sentence.startswith("b1 is 1 - 1e-06 times")
