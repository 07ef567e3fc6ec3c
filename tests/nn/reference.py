"""Networks a second time, written as plainly as possible: whole batches, no buffers, any dtype.

With complex parameters the derivative comes without differences: for a real-analytic f,
``Im f(w + ih) / h`` is f'(w) up to h², and nothing cancels (Squire and Trapp 1998).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Chain, Residual
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.gelu import GELU
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.network import AnyLayer
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU, Softplus
from dptrain.nn.silu import SiLU

Array = NDArray[Any]
TINY = 1e-100


def activations(layers: Sequence[AnyLayer], parameters: Array, x: Array) -> list[Array]:
    """Return the batch ``(n, …)`` and what each layer makes of it, in training."""
    found = [x]
    rest = parameters
    for layer in layers:
        y, rest = _applied(layer, rest, found[-1])
        found.append(y)
    return found


def _applied(layer: AnyLayer, parameters: Array, x: Array) -> tuple[Array, Array]:
    """Return what a layer makes of a batch, and the parameters that it leaves."""
    if isinstance(layer, Dense):
        fan_in, units = x.shape[1], layer.units
        weights, bias, rest = np.split(parameters, [fan_in * units, (fan_in + 1) * units])
        return np.einsum("ni,ij->nj", x, weights.reshape(fan_in, units)) + bias, rest
    if isinstance(layer, Conv2D):
        patches = windows(x, layer.size, layer.stride, layer.padding)
        elements = math.prod(patches.shape[3:])
        weights, bias, rest = np.split(
            parameters, [elements * layer.filters, (elements + 1) * layer.filters]
        )
        kernel = weights.reshape(*patches.shape[3:], layer.filters)
        return np.einsum("nyxijc,ijcf->nyxf", patches, kernel) + bias, rest
    if isinstance(layer, MaxPool2D | AvgPool2D):
        patches = windows(x, layer.size, layer.stride or layer.size, 0)
        values = patches.reshape(*patches.shape[:3], -1, patches.shape[-1])
        is_max = isinstance(layer, MaxPool2D)
        return _largest(values) if is_max else values.mean(axis=3), parameters
    if isinstance(layer, BatchNorm):
        features = x.shape[-1]
        gamma, beta, _, _, rest = np.split(parameters, np.arange(1, 5) * features)
        axes = tuple(range(x.ndim - 1))
        assert layer.sync
        return gamma * _standardised(x, axes, layer.epsilon) + beta, rest
    if isinstance(layer, LayerNorm):
        gamma, beta, rest = np.split(parameters, np.arange(1, 3) * x.shape[-1])
        return gamma * _standardised(x, (-1,), layer.epsilon) + beta, rest
    if isinstance(layer, Chain):
        return _in_a_row(layer.layers, parameters, x)
    if isinstance(layer, Residual):
        f, rest = _in_a_row(layer.layers, parameters, x)
        g, rest = _in_a_row(layer.shortcut, rest, x)
        return f + g, rest
    if isinstance(layer, Flatten):
        return x.reshape(len(x), -1), parameters
    return FUNCTIONS[layer](x), parameters


def windows(x: Array, size: Any, stride: Any, padding: Any) -> Array:
    """Return ``(n, OH, OW, KH, KW, C)`` of images, copied one window after the other."""
    (high, wide), (down, right), (top, left) = (
        (each, each) if isinstance(each, int) else each for each in (size, stride, padding)
    )
    images = x.reshape(*x.shape, 1) if x.ndim == 3 else x
    images = np.pad(images, ((0, 0), (top, top), (left, left), (0, 0)))
    rows = range(0, images.shape[1] - high + 1, down)
    columns = range(0, images.shape[2] - wide + 1, right)
    found = [[images[:, y : y + high, x : x + wide] for x in columns] for y in rows]
    return np.moveaxis(np.array(found), 2, 0)


def _largest(values: Array) -> Array:
    """Return the values ``(n, OH, OW, C)`` whose real part is the first maximum on axis 3."""
    place = values.real.argmax(axis=3)
    return np.take_along_axis(values, place[:, :, :, np.newaxis], 3)[:, :, :, 0]


def _in_a_row(layers: Sequence[AnyLayer], parameters: Array, x: Array) -> tuple[Array, Array]:
    for layer in layers:
        x, parameters = _applied(layer, parameters, x)
    return x, parameters


def _standardised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    distance = x - x.mean(axis=axes, keepdims=True)
    variance = (distance * distance).mean(axis=axes, keepdims=True)
    return np.asarray(distance / np.sqrt(variance + epsilon))


def _normal_distribution(x: Array) -> Array:
    """Return Φ(x): its value from `math`, and beside the real axis the first of Taylor's terms."""
    found = np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2)(x.real)
    density = np.exp(-(x.real**2) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(found + 1j * density * x.imag if np.iscomplexobj(x) else found)


def _logistic(x: Array) -> Array:
    """Return ``1 / (1 + exp(-x))``, in a form that does not overflow."""
    positive = x.real > 0
    power = np.exp(np.where(positive, -x, x))
    return np.asarray(np.where(positive, 1, power) / (1 + power))


# Every activation, by its definition, for real and complex numbers. Other tests take from here
# which there are.
FUNCTIONS: dict[AnyLayer, Any] = {
    Sigmoid(): _logistic,
    Tanh(): lambda x: np.sinh(x) / np.cosh(x),
    ReLU(): lambda x: x * (x.real > 0),
    Identity(): lambda x: x,
    LeakyReLU(): lambda x: x * np.where(x.real > 0, 1, 0.01),
    LeakyReLU(0.3): lambda x: x * np.where(x.real > 0, 1, 0.3),
    Softplus(): lambda x: np.log1p(np.exp(x)),
    GELU(): lambda x: x * _normal_distribution(x),
    GELU("tanh"): lambda x: x * _logistic(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
    SiLU(): lambda x: x * _logistic(x),
}
ACTIVATIONS: list[AnyLayer] = list(FUNCTIONS)


def slopes(layer: AnyLayer, x: Array) -> Array:
    """Return an activation's derivative at real numbers of any shape, by complex steps."""
    return np.asarray(FUNCTIONS[layer](x.astype(float) + TINY * 1j).imag / TINY)


def gradient(layers: Sequence[AnyLayer], parameters: Array, x: Array, t: Array, rows: Any) -> Array:
    """Return the gradient of the mean of ``rows(y, t)`` over the batch, by complex steps."""
    found = np.empty(len(parameters))
    for i in range(len(parameters)):
        moved = parameters.astype(complex)
        moved[i] += TINY * 1j
        found[i] = rows(activations(layers, moved, x)[-1], t).mean().imag / TINY
    return found


def margin(layers: Sequence[AnyLayer], parameters: Array, x: Array) -> float:
    """Return how far the input nearest to the kink of any ReLU or maximum is from it."""
    nearest = np.inf
    for layer, y in zip(layers, activations(layers, parameters, x), strict=False):
        if isinstance(layer, ReLU | LeakyReLU):
            nearest = min(nearest, float(np.abs(y).min()))
        elif isinstance(layer, MaxPool2D) and layer.size not in (1, (1, 1)):
            patches = windows(y, layer.size, layer.stride or layer.size, 0)
            values = np.sort(patches.reshape(*patches.shape[:3], -1, patches.shape[-1]), axis=3)
            nearest = min(nearest, float((values[:, :, :, -1] - values[:, :, :, -2]).min()))
    return nearest
