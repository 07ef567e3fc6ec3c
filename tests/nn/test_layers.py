"""Each layer by itself: what it computes, at its corners too, and where it puts it."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.activations import ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.initializers import He, Normal, Zeros
from dptrain.nn.layer import Site
from dptrain.nn.network import AnyLayer
from tests.nn import reference
from tests.nn.build import bound
from tests.nn.reference import ACTIVATIONS

Array = NDArray[Any]
DTYPES = ["float32", "float64"]


def applied(layer: AnyLayer, values: list[float], dtype: str) -> tuple[Array, Array]:
    """Return an activation's outputs, and the gradients of its inputs where those of all are 1."""
    x = np.array(values, dtype).reshape(1, 1, -1)
    operation = bound(layer, x)
    with np.errstate(over="ignore"):  # exp may overflow on the way to 0
        operation.forward()
    outputs = operation.outputs[0].copy()
    (dx,) = operation.backward([np.ones_like(x)])
    assert outputs.dtype == dx.dtype == x.dtype
    return outputs.ravel(), dx.ravel()


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_are_their_formulas(layer: AnyLayer, dtype: str) -> None:
    points = [-20.0, -3.0, -0.5, -1e-3, 1e-3, 0.5, 3.0, 20.0]
    y, dx = applied(layer, points, dtype)
    roundings = 8 * float(np.finfo(dtype).eps)
    x = np.array(points)
    values = reference.FUNCTIONS[layer](x)
    np.testing.assert_allclose(y, values, rtol=roundings, atol=1e-22)  # GELU's limit
    slopes = reference.slopes(layer, x)
    # 1 - y and 1 - y² cancel near y = 1: the rounding of y is what remains
    np.testing.assert_allclose(dx, slopes, rtol=roundings, atol=roundings)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("layer", "low", "high"), [(Sigmoid(), 0, 1), (Tanh(), -1, 1)], ids=["sigmoid", "tanh"]
)
def test_saturation_is_exact(layer: AnyLayer, low: float, high: float, dtype: str) -> None:
    large = float(np.finfo(dtype).max)
    y, dx = applied(layer, [-math.inf, -large, -1e4, 1e4, large, math.inf], dtype)
    assert y.tolist() == [low] * 3 + [high] * 3
    assert not dx.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_at_and_beside_its_kink(dtype: str) -> None:
    tiny = float(np.finfo(dtype).tiny)
    y, dx = applied(ReLU(), [-tiny, -0.0, 0.0, tiny], dtype)
    assert y.tolist() == [0, 0, 0, tiny]
    assert dx.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_nan_stays_nan(layer: AnyLayer) -> None:
    y, _ = applied(layer, [math.nan, 1.0], "float32")
    assert np.isnan(y).tolist() == [True, False]


@pytest.mark.parametrize("layer", [*ACTIVATIONS, Dense(5), Flatten()], ids=lambda x: x.kind)
def test_the_input_gradient_is_the_derivative(layer: AnyLayer) -> None:
    random = np.random.default_rng(0)
    x = [random.standard_normal((2, 3, 4)), random.standard_normal((3, 2, 4))]
    weights = random.standard_normal(4 * 5 + 5)
    operation = bound(layer, *x, weights=weights)
    operation.forward()
    weighting = [random.standard_normal(y.shape) for y in operation.outputs]
    found = operation.backward([w.copy() for w in weighting])
    for block, weight, dx in zip(x, weighting, found, strict=True):
        assert dx.shape == block.shape
        for place in np.ndindex(block.shape):
            moved = block.astype(complex)
            moved[place] += reference.TINY * 1j
            y = reference.activations([layer], weights, moved.reshape(-1, 4))[-1]
            slope = (y * weight.reshape(y.shape)).sum().imag / reference.TINY
            assert dx[place] == pytest.approx(slope, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_gradients_are_of_each_shard_alone(dtype: str) -> None:
    random = np.random.default_rng(1)
    x = [random.standard_normal((2, 3, 4)).astype(dtype), np.ones((1, 2, 4), dtype)]
    operation: Any = bound(Dense(5), *x, weights=random.standard_normal(25).astype(dtype))
    operation.forward()
    dy = [random.standard_normal(y.shape).astype(dtype) for y in operation.outputs]
    operation.backward(dy)
    roundings = 20 * float(np.finfo(dtype).eps)
    for block in range(2):
        for shard in range(len(x[block])):
            rows = list(zip(x[block][shard], dy[block][shard], strict=True))
            exact = np.sum([np.outer(*row) for row in rows], axis=0, dtype="float64")
            found = operation.weight_gradients[block][shard]
            np.testing.assert_allclose(found, exact, atol=roundings)
            exact = np.sum([d for _, d in rows], axis=0, dtype="float64")
            found = operation.bias_gradients[block][shard]
            np.testing.assert_allclose(found, exact, atol=roundings)


def test_flatten_lays_out_the_last_axis_fastest() -> None:
    x = np.arange(2 * 3 * 2 * 4.0).reshape(2, 3, 2, 4)
    operation = bound(Flatten(), x)
    operation.forward()
    assert operation.outputs[0].shape == (2, 3, 8)
    assert operation.outputs[0][1, 0].tolist() == [24, 25, 26, 27, 28, 29, 30, 31]
    assert Flatten().output_shape((2, 4)) == (8,)
    assert Flatten().output_shape((7,)) == (7,)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_an_activation_goes_where_its_input_stands_if_it_may(layer: AnyLayer) -> None:
    for overwrites in (False, True):
        x = np.linspace(-1, 1, 12).reshape(1, 3, 4)
        before = x.copy()
        operation = layer.bind(Site([x], [], [], overwrites=overwrites, passes_back=True))
        operation.forward()
        inside = np.shares_memory(operation.outputs[0], x)
        assert inside is (overwrites or layer.kind == "identity")
        if not overwrites:
            np.testing.assert_array_equal(x, before)
        expected = reference.activations([layer], np.empty(0), before[0])[-1]
        np.testing.assert_allclose(operation.outputs[0][0], expected, rtol=1e-14)


@pytest.mark.parametrize("layer", [*ACTIVATIONS, Flatten()], ids=lambda x: x.kind)
def test_only_dense_layers_have_parameters(layer: AnyLayer) -> None:
    assert layer.parameters((4,)) == ()
    assert layer.output_shape((4,)) == (4,)
    assert layer.kind.replace("-", "") == type(layer).__name__.lower()


def test_parameters_of_a_dense_layer() -> None:
    weights, biases = Dense(5, He()).parameters((3,))
    assert weights == ("W", (3, 5), He(), (3, 5), True, None)
    assert biases == ("b", (5,), Zeros(), (3, 5), False, None)
    assert Dense(5).init == Normal(0.01)
    assert Dense(5).output_shape((3,)) == (5,)


def test_dense_layers_take_flat_samples() -> None:
    with pytest.raises(ShapeError, match=r"samples of shape \(28, 28\); put a Flatten layer"):
        Dense(5).output_shape((28, 28))


@pytest.mark.parametrize("units", [0, -3, 2.5, True, "7", None])
def test_units_are_at_least_one(units: Any) -> None:
    with pytest.raises(UsageError, match="at least 1 unit, not ") as caught:
        Dense(units)
    assert repr(units) in str(caught.value)


def test_descriptions_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Dense(5).units = 6  # type: ignore[misc]
    assert {Dense(5), Dense(5), ReLU(), ReLU()} == {Dense(5), ReLU()}
