"""What random networks have shown: right ones that were doubted, or said to be wrong."""

from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.calls import check
from dptrain.gradcheck.oracles.logarithm import Labelled, lacking
from dptrain.gradcheck.oracles.projections import Slope
from dptrain.gradcheck.verdict import Verdict
from tests.gradcheck.own.layers import Abs, Affine, Array, BatchNorm, Dropout, Layer, Relu, Single
from tests.gradcheck.own.losses import SoftmaxCrossEntropy
from tests.gradcheck.own.networks import Plain

NUMBERS: dict[str, Any] = {"workers": (), "check_seed": 1, "shards": 1}


def data(count: int = 60) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    return random.standard_normal((count, 4)), np.arange(count) % 3


def affine(inputs: int, outputs: int, scale: float = 0.5) -> Affine:
    random = np.random.default_rng((inputs, outputs))
    return Affine(scale * random.standard_normal((inputs, outputs)), np.zeros(outputs))


def network(*layers: Layer, epsilon: float = 0.0) -> Plain:
    return Plain(layers, SoftmaxCrossEntropy(epsilon), named=False)


def norm() -> BatchNorm:
    return BatchNorm(np.ones(5), np.zeros(5), made_late=True)


@pytest.mark.parametrize("layers", [[norm(), Abs()], [norm(), Abs(), norm()]])
def test_a_bias_whose_gradient_is_0_but_for_rounding_is_not_doubted(layers: list[Layer]) -> None:
    found = check(network(affine(4, 5), *layers, affine(5, 3)), data(), **NUMBERS)
    assert found.verdict is Verdict.PASS


@pytest.mark.parametrize("inverted", [True, False])
def test_a_loss_that_saturates_with_any_mask_may_draw(inverted: bool) -> None:
    first, last = affine(4, 6), affine(6, 3)
    last.b[0] = 200  # all rows are surely of this class
    layers = first, Relu(), Dropout(inverted), last
    found = check(network(*layers, epsilon=1e-7), data(), **NUMBERS)
    assert found.verdict is not Verdict.FAIL


class Cancelling:
    """The gradient of ``b`` is a sum over rows that is 0 but for rounding."""

    def __init__(self, parts: tuple[float, ...]) -> None:
        self.parts = np.array(parts)
        self.params = {"W": np.full((4, 1), 0.5), "b": np.zeros(2)}

    def shares(self, x: Array) -> Array:
        return np.resize(self.parts, len(x)).astype(x.dtype)[:, None] * np.ones(2, x.dtype)

    def loss(self, x: Array, _t: Array) -> Array:
        return np.mean((x @ self.params["W"]) ** 2 + self.shares(x) @ self.params["b"][:, None])

    def gradient(self, x: Array, _t: Array) -> dict[str, Array]:
        dy = 2 * (x @ self.params["W"]) / len(x)
        return {"W": x.T @ dy, "b": (self.shares(x) / len(x)).sum(axis=0)}


@pytest.mark.parametrize("parts", [(0.1, 0.2, -0.3), (0.7, -0.4, -0.3)])
def test_a_sum_that_cancels_is_not_wrong_in_float32(parts: tuple[float, ...]) -> None:
    found = check(Cancelling(parts), data(27), batch_size=9, **NUMBERS)
    assert found.verdict is not Verdict.FAIL


class Flat:
    """Every row is beyond the margin."""

    def __init__(self) -> None:
        self.params = {"W": np.full((4, 2), 0.5), "b": np.zeros(2)}

    def loss(self, x: Array, _t: Array) -> Array:
        return np.mean(np.maximum(0.0, -1.0 - (x @ self.params["W"] + self.params["b"]) ** 2))

    def gradient(self, _x: Array, _t: Array) -> dict[str, Array]:
        return {name: np.zeros(each.shape) for name, each in self.params.items()}


def test_a_flat_loss_is_not_doubted() -> None:
    assert check(Flat(), data(), **NUMBERS).verdict is Verdict.PASS


@pytest.mark.parametrize("scale", [0.003, 0.01])
def test_what_an_absolute_value_takes_from_complex_numbers_is_no_error(scale: float) -> None:
    layers = affine(4, 5, scale), Abs(), Single(), affine(5, 3, scale)
    found = check(network(*layers), data(), batch_size=22, lr=0.1, **NUMBERS)
    assert found.verdict is not Verdict.FAIL


@pytest.mark.parametrize(
    ("estimates", "told"),
    [
        ((1.002e-7, 1.0e-7, 1.004e-7, 1.003e-7), 1e-7),
        ((1.2e-7, 0.9e-7, 1.004e-7, 1.003e-7), None),  # as far apart as chance would have it
        ((1.0e-7, 1.0e-7), None),
    ],
)
def test_uncertain_tensors_that_agree_tell_an_epsilon(
    estimates: tuple[float, ...], told: float | None
) -> None:
    count = len(estimates)
    slopes = [Slope(-e, 1.1e-7, d) for e, d in zip(estimates, np.eye(count), strict=True)]
    found = lacking(Labelled(3, np.ones(count), np.zeros(count)), np.zeros(count), slopes)
    assert (found and found.epsilon) == told


@pytest.mark.parametrize(("estimate", "told"), [(0.4e-7, 1e-7), (3e-7, None)])
def test_an_epsilon_that_other_rows_have_told_is_known(estimate: float, told: float | None) -> None:
    slopes = [Slope(-estimate, 1.1e-7, np.ones(1)), Slope(-0.2e-7, 1.1e-7, np.ones(1))]
    found = lacking(Labelled(3, np.ones(1), np.zeros(1)), np.zeros(1), slopes, known=1e-7)
    assert (found and found.epsilon) == told


class OneMinus:
    """Logistic regression whose loss has lost digits where ``1 - p`` is all but 0."""

    def __init__(self, scale: float, factor: float) -> None:
        self.params = {"w": scale * np.array([9.0, -8.0, 7.0, 6.0]), "b": np.zeros(1)}
        self.factor = factor

    def chance(self, x: Array) -> Array:
        return 1 / (1 + np.exp(-(x @ self.params["w"] + self.params["b"])))

    def loss(self, x: Array, t: Array) -> Any:
        p = self.chance(x)
        return -np.mean(np.log(np.where(t == 1, p, 1 - p)))

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        d = (self.chance(x) - t) / len(x)
        return {"w": self.factor * (x.T @ d), "b": d.sum(keepdims=True)}


@pytest.mark.parametrize(
    ("scale", "factor", "verdict"),
    [
        (0.4, 1.0, Verdict.PASS),
        (0.4, 1.001, Verdict.FAIL),
        (1.0, 1.0, Verdict.INCONCLUSIVE),
        (1.0, 1.001, Verdict.FAIL),
    ],
)
def test_digits_that_the_loss_has_lost_are_no_error(
    scale: float, factor: float, verdict: Verdict
) -> None:
    x, t = data()
    with np.errstate(all="ignore"):
        found = check(OneMinus(scale, factor), (x, t % 2), **NUMBERS)
    assert found.verdict is verdict
