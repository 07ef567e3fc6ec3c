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
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.gelu import GELU
from dptrain.nn.network import AnyLayer
from dptrain.nn.rectifiers import LeakyReLU, Softplus

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
        else:
            found.append(_FUNCTIONS[layer](found[-1]))
    return found


def _normal_distribution(x: Array) -> Array:
    """Return Φ(x): its value from `math`, and beside the real axis the first of Taylor's terms."""
    found = np.vectorize(lambda v: math.erfc(-v / math.sqrt(2)) / 2)(x.real)
    density = np.exp(-(x.real**2) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(found + 1j * density * x.imag if np.iscomplexobj(x) else found)


_FUNCTIONS: dict[AnyLayer, Any] = {
    Sigmoid(): lambda x: (1 + np.tanh(x / 2)) / 2,
    Tanh(): lambda x: np.sinh(x) / np.cosh(x),
    ReLU(): lambda x: x * (x.real > 0),
    Identity(): lambda x: x,
    Flatten(): lambda x: x.reshape(len(x), -1),
    LeakyReLU(): lambda x: x * np.where(x.real > 0, 1, 0.01),
    LeakyReLU(0.3): lambda x: x * np.where(x.real > 0, 1, 0.3),
    Softplus(): lambda x: np.log(1 + np.exp(x)),
    GELU(): lambda x: x * _normal_distribution(x),
    GELU("tanh"): lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
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
    """Return how far the input nearest to the kink of any ReLU, leaky or not, is from it."""
    found = activations(layers, parameters, x)
    kinked = (ReLU, LeakyReLU)
    inputs = [y for layer, y in zip(layers, found, strict=False) if isinstance(layer, kinked)]
    return min((float(np.abs(y).min()) for y in inputs), default=np.inf)
