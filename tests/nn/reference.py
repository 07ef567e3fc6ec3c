"""Networks a second time, written as plainly as possible: whole batches, no buffers, any dtype.

With complex parameters the derivative comes without differences: for a real-analytic f,
``Im f(w + ih) / h`` is f'(w) up to h², and nothing cancels (Squire and Trapp 1998).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Chain, Residual
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.network import AnyLayer

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
    return _FUNCTIONS[type(layer)](x), parameters


def _in_a_row(layers: Sequence[AnyLayer], parameters: Array, x: Array) -> tuple[Array, Array]:
    for layer in layers:
        x, parameters = _applied(layer, parameters, x)
    return x, parameters


def _standardised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    distance = x - x.mean(axis=axes, keepdims=True)
    variance = (distance * distance).mean(axis=axes, keepdims=True)
    return np.asarray(distance / np.sqrt(variance + epsilon))


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
    """Return how far the input nearest to the kink of any ReLU is from it."""
    found = activations(layers, parameters, x)
    inputs = [y for layer, y in zip(layers, found, strict=False) if isinstance(layer, ReLU)]
    return min((float(np.abs(y).min()) for y in inputs), default=np.inf)
