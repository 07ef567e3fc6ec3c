"""``params`` of float32, and code that computes in float32 on the way."""

from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.verdict import Verdict
from tests.gradcheck.chains import BatchNorm, Chain, Relu, Single, checked


class Narrow(Chain):
    dtype = np.float32

    def predict(self, x: Any) -> Any:
        return super().predict(x.astype(self.dtype))


@pytest.mark.parametrize("between", [(Relu,), (BatchNorm, Relu)])
def test_float64_copies_take_their_place(between: tuple[type, ...]) -> None:
    found = checked(Narrow((6, 5, 3), between))
    assert found.verdict is Verdict.PASS
    told = next(each for each in found.remarks if "params are float32 (W1, b1, " in each)
    assert "numbers are made with float64 copies" in told
    assert "analytic in float32 = in float64" in {each.name for each in found.comparisons}


class OffByLittle(Narrow):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients | {"W2": gradients["W2"] * 1.00001}


def test_an_error_that_float32_could_hide_is_found() -> None:
    found = checked(OffByLittle((6, 5, 3), (Relu,)))
    assert found.verdict is Verdict.FAIL
    assert found.failures[0].diagnoses[0].sentence == "W2 is 1 + 1e-05 times what it should be"


class Strict(Narrow):
    def predict(self, x: Any) -> Any:
        assert self.params["W1"].dtype == np.float32
        return super().predict(x)


@pytest.mark.parametrize("network", [Strict((6, 5, 3)), Chain((6, 5, 3), (Relu, Single))])
def test_what_float32_does_not_resolve_is_inconclusive(network: Chain) -> None:
    found = checked(network)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert any("the loss is rounded more than float64 would" in each for each in found.remarks)


def test_an_epsilon_that_float32_shows_only_coarsely_is_no_error() -> None:
    """Where rows are surely wrong, 1e-7 in the logarithm changes the gradient as a whole."""
    found = checked(Chain((6, 5, 3), (Relu, Single), 4.0), 3)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert any("the loss has log(y + 1e-07)" in each for each in found.remarks)


class Halved(Strict):
    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients | {"b2": gradients["b2"] / 2}


def test_a_large_error_fails_all_the_same() -> None:
    assert checked(Halved((6, 5, 3))).verdict is Verdict.FAIL
