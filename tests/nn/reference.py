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
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.network import AnyLayer
from dptrain.nn.pooling import AvgPool2D, MaxPool2D

Array = NDArray[Any]
TINY = 1e-100


def activations(layers: Sequence[AnyLayer], parameters: Array, x: Array) -> list[Array]:
    """Return the batch ``(n, …)`` and what each layer makes of it."""
    found = [x]
    rest = parameters
    for layer in layers:
        if isinstance(layer, Dense):
            fan_in, units = found[-1].shape[1], layer.units
            weights, bias, rest = np.split(rest, [fan_in * units, (fan_in + 1) * units])
            found.append(np.einsum("ni,ij->nj", found[-1], weights.reshape(fan_in, units)) + bias)
        elif isinstance(layer, Conv2D):
            patches = windows(found[-1], layer.size, layer.stride, layer.padding)
            elements = math.prod(patches.shape[3:])
            weights, bias, rest = np.split(
                rest, [elements * layer.filters, (elements + 1) * layer.filters]
            )
            kernel = weights.reshape(*patches.shape[3:], layer.filters)
            found.append(np.einsum("nyxijc,ijcf->nyxf", patches, kernel) + bias)
        elif isinstance(layer, MaxPool2D | AvgPool2D):
            patches = windows(found[-1], layer.size, layer.stride or layer.size, 0)
            values = patches.reshape(*patches.shape[:3], -1, patches.shape[-1])
            found.append(_largest(values) if isinstance(layer, MaxPool2D) else values.mean(axis=3))
        else:
            found.append(_FUNCTIONS[type(layer)](found[-1]))
    return found


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


_FUNCTIONS: dict[type[AnyLayer], Any] = {
    Sigmoid: lambda x: (1 + np.tanh(x / 2)) / 2,
    Tanh: lambda x: np.sinh(x) / np.cosh(x),
    ReLU: lambda x: x * (x.real > 0),
    Identity: lambda x: x,
    Flatten: lambda x: x.reshape(len(x), -1),
}


def cross_entropies(y: Array, labels: Array) -> Array:
    """Return ``-log softmax(y)[label]`` of every row, for moderate numbers."""
    return np.asarray(np.log(np.exp(y).sum(axis=1)) - y[np.arange(len(y)), labels])


def squared_errors(y: Array, t: Array) -> Array:
    """Return ``½ Σ (y - t)²`` of every row; labels stand for one-hot rows."""
    goal = np.eye(y.shape[1])[t] if t.ndim == 1 else t
    return np.asarray(((y - goal) ** 2).sum(axis=1) / 2)


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
        if isinstance(layer, ReLU):
            nearest = min(nearest, float(np.abs(y).min()))
        elif isinstance(layer, MaxPool2D) and layer.size not in (1, (1, 1)):
            patches = windows(y, layer.size, layer.stride or layer.size, 0)
            values = np.sort(patches.reshape(*patches.shape[:3], -1, patches.shape[-1]), axis=3)
            nearest = min(nearest, float((values[:, :, :, -1] - values[:, :, :, -2]).min()))
    return nearest
