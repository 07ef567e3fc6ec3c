"""Kinks everywhere: right networks of the user's own pass, and wrong ones are found."""

from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.verdict import Verdict
from tests.gradcheck.chains import Absolute, Buffered, Chain, Clip, Leaky, Pairs, Relu, checked

COMPLEX = "the loss cannot be computed with complex numbers"


@pytest.mark.parametrize("seed", range(2))
def test_many_units_with_kinks_near_every_point(seed: int) -> None:
    found = checked(Chain((100, 30, 10), (Relu,), 0.01), seed)
    assert found.verdict is Verdict.PASS
    assert not any(COMPLEX in each for each in found.remarks)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("between", [(Relu,), (Leaky,), (Absolute,), (Clip,), (Pairs,)])
def test_differences_step_round_kinks(between: tuple[type, ...], seed: int) -> None:
    found = checked(Chain((12, 6, 4), (Buffered, *between), 0.3), seed)
    assert found.verdict is Verdict.PASS
    assert any(COMPLEX in each for each in found.remarks)


class Hinge(Chain):
    """The sum of what other classes come nearer than 1."""

    def loss(self, x: Any, t: Any) -> Any:
        z = self.predict(x)
        margins = z - z[np.arange(len(x)), t][:, None] + 1
        margins[np.arange(len(x)), t] = 0
        over = margins > 0
        self.y = over * 1.0
        self.y[np.arange(len(x)), t] = 1 - over.sum(axis=1)
        return np.where(over, margins, 0).sum() / len(x)


@pytest.mark.parametrize("between", [(Relu,), (Relu, Buffered)])
def test_a_hinge(between: tuple[type, ...]) -> None:
    assert checked(Hinge((10, 8, 3), between)).verdict is Verdict.PASS


class Maskless(Relu):
    def backward(self, dy: Any) -> Any:
        return dy


class FirstAlways(Pairs):
    def backward(self, dy: Any) -> Any:
        return np.stack([dy, 0 * dy], axis=2).reshape(len(dy), -1)


class Factor(Chain):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients | {"W1": gradients["W1"] * 1.01}


class Transposed(Chain):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients | {"W2": gradients["W2"].T.reshape(gradients["W2"].shape)}


class OneElement(Chain):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        gradients["W1"][3, 2] += 0.1
        return gradients


class Unpenalised(Chain):
    decay = 0.1

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients | {"W1": gradients["W1"] - self.decay * self.params["W1"]}


class Biasless(Chain):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients | {"b1": 0 * gradients["b1"]}


@pytest.mark.parametrize("opaque", [(), (Buffered,)])
@pytest.mark.parametrize(
    ("network", "between", "words"),
    [
        (Chain, Maskless, "W1, b1 are wrong, W2, b2 right"),
        (Chain, FirstAlways, "W1, b1 are wrong, W2, b2 right"),
        (Factor, Pairs, "W1 is 1.01 times what it should be"),
        (Transposed, Relu, "the gradient of W2 is"),
        (Unpenalised, Relu, "0.1 W1 is missing"),
        (Biasless, Relu, "b1 is 0 times what it should be"),
    ],
)
def test_what_is_wrong_is_found_and_named(
    network: type[Chain], between: type, words: str, opaque: tuple[type, ...]
) -> None:
    found = checked(network((10, 5, 4), (*opaque, between), 0.3))
    assert found.verdict is Verdict.FAIL
    assert words in found.failures[0].diagnoses[0].sentence


def test_one_wrong_element_is_named_by_the_complex_step() -> None:
    found = checked(OneElement((20, 8, 5), (Relu,), 0.2))
    assert found.verdict is Verdict.FAIL
    sentence = found.failures[0].diagnoses[0].sentence
    assert sentence == "one element is wrong, W1[3, 2], and everything else is right"


class Everywhere(Chain):
    """Off by a little in every element but the largest and smallest."""

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        w = gradients["W1"]
        order = np.abs(w).argsort(axis=None)
        middle = order[w.size // 2 : w.size // 2 + 3]
        w.reshape(-1)[middle] += 0.05 * np.abs(w).max()
        return gradients


def test_no_false_cause_is_named_where_no_element_is_known_to_be_wrong() -> None:
    found = checked(Everywhere((60, 20, 5), (Buffered, Relu), 0.1))
    assert found.verdict is Verdict.FAIL
    assert [each.kind for each in found.failures[0].diagnoses] == ["unlocated"]
    sentence = found.failures[0].diagnoses[0].sentence
    assert sentence.startswith("the gradient of W1 is wrong along random directions")
