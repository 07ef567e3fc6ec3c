"""What networks are drawn from is right: a fault there would be blamed on the checker.

Each layer and loss against central differences in float64, away from kinks.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.gradcheck.own.draw import network
from tests.gradcheck.own.images import Convolution, LoopConvolution, MaxPool
from tests.gradcheck.own.layers import (
    Abs,
    Affine,
    Array,
    BatchNorm,
    Clip,
    Dropout,
    Layer,
    LeakyRelu,
    Moded,
    Relu,
    Sigmoid,
    Single,
    Softplus,
    Tanh,
    TopK,
)
from tests.gradcheck.own.losses import (
    BinaryCrossEntropy,
    Hinge,
    Loss,
    SoftmaxCrossEntropy,
    SquaredError,
)
from tests.gradcheck.own.networks import Penalty

RANDOM = np.random.default_rng(3)
ROWS, IMAGES = RANDOM.standard_normal((6, 4)), RANDOM.standard_normal((3, 2, 5, 6))


def differences(f: Callable[[], Array], x: Array) -> Array:
    """Return the derivatives of ``f`` by the elements of an array that it reads."""
    found = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        kept, sides = x[place], []
        for h in (1e-5, -1e-5):
            x[place] = kept + h
            sides.append(f())
        x[place] = kept
        found[place] = (sides[0] - sides[1]) / 2e-5
    return found


def weights(*shape: int) -> Array:
    return np.random.default_rng(5).standard_normal(shape)


LAYERS: dict[str, tuple[Callable[[], Layer], Array]] = {
    **{kind.__name__: (kind, ROWS) for kind in (Relu, LeakyRelu, Abs, Clip, TopK)},
    **{kind.__name__: (kind, ROWS) for kind in (Sigmoid, Tanh, Softplus)},
    "affine": (lambda: Affine(weights(4, 3), weights(3)), ROWS),
    "affine of images": (lambda: Affine(weights(60, 3), weights(3)), IMAGES),
    "dropout": (lambda: Dropout(False), ROWS),
    "inverted dropout": (lambda: Dropout(True), ROWS),
    "batch norm": (lambda: BatchNorm(weights(4), weights(4), made_late=True), ROWS),
    "convolution": (lambda: Convolution(weights(3, 2, 3, 3), weights(3), 0), IMAGES),
    "padded convolution": (lambda: Convolution(weights(3, 2, 3, 3), weights(3), 1), IMAGES),
    "loops": (lambda: LoopConvolution(weights(3, 2, 3, 3), weights(3), 1), IMAGES),
    "pool": (MaxPool, IMAGES),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_has_the_derivatives_of_its_outputs(name: str, training: bool) -> None:
    make, given = LAYERS[name]
    layer, x = make(), given.copy()
    if isinstance(layer, BatchNorm):
        layer.forward(x)

    def outputs() -> Array:
        np.random.seed(1)
        return layer.forward(x, training) if isinstance(layer, Moded) else layer.forward(x)

    dy = np.random.default_rng(7).standard_normal(outputs().shape)

    def along() -> Any:
        return np.sum(dy * outputs())

    along()
    dx = layer.backward(dy.copy())
    found = {name: getattr(layer, f"d{name}") for name in layer.parameters}
    np.testing.assert_allclose(dx, differences(along, x), rtol=1e-7, atol=1e-7)
    for parameter, each in found.items():
        wanted = differences(along, getattr(layer, parameter))
        np.testing.assert_allclose(each, wanted, rtol=1e-7, atol=1e-7)


LABELS, NUMBERS = np.arange(6) % 4, np.random.default_rng(9).standard_normal((6, 4))
LOSSES: dict[str, tuple[Callable[[], Loss], Array, Array]] = {
    "softmax": (lambda: SoftmaxCrossEntropy(0.0), ROWS, LABELS),
    "softmax of one-hot rows": (lambda: SoftmaxCrossEntropy(0.0), ROWS, np.eye(4)[LABELS]),
    "hinge": (Hinge, ROWS, LABELS),
    "squares": (SquaredError, ROWS, NUMBERS),
    "two classes": (lambda: BinaryCrossEntropy(0.0), ROWS[:, :1], LABELS[:, None] % 2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_has_the_derivatives_of_its_value(name: str) -> None:
    make, given, t = LOSSES[name]
    loss, x = make(), given.copy()
    wanted = differences(lambda: loss.forward(x, t), x)
    loss.forward(x, t)
    np.testing.assert_allclose(loss.backward(), wanted, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("kind", [SoftmaxCrossEntropy, BinaryCrossEntropy])
def test_an_epsilon_is_in_the_loss_alone(kind: Any) -> None:
    x, t = ROWS[:, :1], LABELS[:, None] % 2
    if kind is SoftmaxCrossEntropy:
        x, t = ROWS, LABELS
    exact, other = kind(0.0), kind(0.01)
    assert 0.001 < exact.forward(x, t) - other.forward(x, t) < 0.2
    np.testing.assert_array_equal(exact.backward(), other.backward())


@pytest.mark.parametrize("squares", [True, False])
def test_a_penalty_has_the_derivatives_of_its_value(squares: bool) -> None:
    params = {"W1": weights(3, 2), "b1": weights(2)}
    penalty = Penalty(0.3, squares, ("W1",))
    wanted = differences(lambda: penalty.value(params), params["W1"])
    np.testing.assert_allclose(penalty.slope(params["W1"]), wanted, rtol=1e-7)
    assert not differences(lambda: penalty.value(params), params["b1"]).any()


def test_float32_goes_on_as_float32() -> None:
    layer = Single()
    assert layer.forward(ROWS).dtype == np.float32
    assert layer.backward(ROWS) is ROWS


def test_a_seed_names_one_network() -> None:
    for seed in range(20):
        first, second = network(seed), network(seed)
        assert first.traits == second.traits
        for a, b in zip(first.network.params.values(), second.network.params.values(), strict=True):
            np.testing.assert_array_equal(a, b)
