"""The rectifiers at many points, at their corners, and beside PyTorch's."""

import math
from typing import Any

import numpy as np
import pytest
from msgspec.structs import asdict, astuple
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.experiment.models import SUITABLE_INIT
from dptrain.nn.activations import ReLU
from dptrain.nn.gelu import GELU, LIMIT
from dptrain.nn.layer import Site
from dptrain.nn.network import AnyLayer, layers_from
from dptrain.nn.rectifiers import LeakyReLU, Softplus
from tests.nn.reference import ACTIVATIONS, FUNCTIONS
from tests.nn.reference import slopes as reference_slopes

Array = NDArray[Any]
DTYPES = ["float32", "float64"]
# Identity and functions that saturate go with other initial weights; ReLU is exact.
RECTIFIERS = [each for each in ACTIVATIONS if SUITABLE_INIT[each.kind] == "he" and each != ReLU()]


def applied(layer: AnyLayer, x: Array) -> tuple[Array, Array]:
    """Return the values and slopes of an activation at ``x`` of shape ``(n,)``."""
    block = x.reshape(1, 1, -1)
    operation = layer.bind(Site([block], [], [], overwrites=False, passes_back=True))
    operation.forward()  # a warning would fail the test
    (slopes,) = operation.backward([np.ones_like(block)])
    return operation.outputs[0].ravel(), slopes.ravel()


def points(dtype: str) -> Array:
    """Return 6,000 points from -10 to 10, many of them near 0."""
    small = np.logspace(-12, 1, 1500)
    return np.concatenate([np.linspace(-10, 10, 3000), small, -small]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", RECTIFIERS, ids=str)
def test_values_and_slopes_are_accurate_to_a_few_roundings(layer: AnyLayer, dtype: str) -> None:
    x = points(dtype)
    values, slopes = applied(layer, x)
    exact, exact_slopes = FUNCTIONS[layer](x.astype(float)), reference_slopes(layer, x)
    eps = float(np.finfo(dtype).eps)
    # also relative to values that are tiny: the arguments of exp, here and in the formulas, are
    # as large as 87 and rounded
    np.testing.assert_allclose(values, exact, rtol=200 * eps)
    np.testing.assert_allclose(values, exact, rtol=6 * eps, atol=eps)
    np.testing.assert_allclose(slopes, exact_slopes, rtol=6 * eps, atol=2 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", RECTIFIERS, ids=str)
def test_far_out_they_are_straight_lines(layer: AnyLayer, dtype: str) -> None:
    large = float(np.finfo(dtype).max)
    x = np.array([-large, -1e4, 1e4, large, math.inf], dtype)
    values, slopes = applied(layer, x)
    slope = x.dtype.type(layer.negative_slope) if isinstance(layer, LeakyReLU) else 0
    np.testing.assert_allclose(values[:2], slope * x[:2], atol=1e-21)
    assert values[2:].tolist() == x[2:].tolist()
    np.testing.assert_allclose(slopes, [slope, slope, 1, 1, 1], atol=1e-20)


@pytest.mark.parametrize("dtype", DTYPES)
def test_at_zero(dtype: str) -> None:
    tiny = float(np.finfo(dtype).tiny)
    x = np.array([-tiny, -0.0, 0.0, tiny], dtype)
    for layer in RECTIFIERS:
        if isinstance(layer, LeakyReLU):
            continue
        values, slopes = applied(layer, x)
        at_zero = math.log(2) if isinstance(layer, Softplus) else 0
        eps = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(values, [at_zero] * 4, rtol=eps, atol=tiny)
        np.testing.assert_allclose(slopes, [0.5] * 4, rtol=eps)
    values, slopes = applied(LeakyReLU(0.25), x)
    assert values.tolist() == [-tiny / 4, 0, 0, tiny]
    assert slopes.tolist() == [0.25, 0.25, 0.25, 1]


def test_the_forms_of_gelu_differ_as_published() -> None:
    x = np.linspace(-LIMIT, LIMIT, 10_001)
    difference = np.abs(applied(GELU(), x)[0] - applied(GELU("tanh"), x)[0])
    assert 4e-4 < difference.max() < 5e-4


def test_leaky_relu_between_relu_and_identity() -> None:
    x = np.array([-2.0, 0.0, 3.0])
    assert applied(LeakyReLU(0.0), x)[0].tolist() == [0, 0, 3]
    assert applied(LeakyReLU(1.0), x)[0].tolist() == [-2, 0, 3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", RECTIFIERS, ids=str)
def test_values_and_slopes_are_those_of_pytorch(layer: AnyLayer, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    same = getattr(torch.nn, type(layer).__name__)(*astuple(layer))
    x = np.append(points(dtype), np.array([0.0, -1e4, 1e4], dtype))
    there = torch.tensor(x, requires_grad=True)
    y = same(there)
    y.sum().backward()
    values, slopes = applied(layer, x)
    # PyTorch computes 1 + erf and 1 + tanh, and multiplies what is left of them by up to x³; it
    # takes softplus above 20 as a straight line
    eps = float(np.finfo(dtype).eps)
    bounds: Any = {"rtol": 8 * eps, "atol": max(30 * eps, 3e-9 * isinstance(layer, Softplus))}
    np.testing.assert_allclose(values, y.detach().numpy(), **bounds)
    np.testing.assert_allclose(slopes, there.grad.numpy(), **bounds)


@pytest.mark.parametrize("slope", [-0.1, 1.5, math.nan])
def test_slopes_out_of_range(slope: float) -> None:
    with pytest.raises(UsageError, match=r"negative_slope=.* must be from 0 to 1"):
        LeakyReLU(slope)
    with pytest.raises(UsageError, match=r"negative_slope=.* must be from 0 to 1"):
        layers_from([{"layer": "leaky-relu", "negative_slope": slope}])


def test_unknown_forms() -> None:
    with pytest.raises(UsageError, match="approximate='erf' is unknown; give 'none' or 'tanh'"):
        GELU("erf")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="approximate"):
        layers_from([{"layer": "gelu", "approximate": "erf"}])


@pytest.mark.parametrize("layer", RECTIFIERS, ids=str)
def test_descriptions_are_plain_data(layer: AnyLayer) -> None:
    assert layers_from([{"layer": layer.kind, **asdict(layer)}]) == (layer,)
