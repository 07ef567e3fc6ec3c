"""Networks as people write them, layer upon layer, with what makes a gradient hard to check."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dptrain.gradcheck.calls import check
from dptrain.gradcheck.report import Report
from tests.own.nets import Affine, Dropout, Relu

__all__ = ["Affine", "Chain", "Dropout", "Relu"]


class Leaky:
    def forward(self, x: Any) -> Any:
        self.factor = np.where(x > 0, 1.0, 0.1)
        return x * self.factor

    def backward(self, dy: Any) -> Any:
        return dy * self.factor


class Absolute:
    def forward(self, x: Any) -> Any:
        self.sign = np.sign(x.real)
        return np.abs(x)

    def backward(self, dy: Any) -> Any:
        return dy * self.sign


class Clip:
    def forward(self, x: Any) -> Any:
        self.inside = (x > -0.5) & (x < 0.5)
        return np.clip(x, -0.5, 0.5)

    def backward(self, dy: Any) -> Any:
        return dy * self.inside


class Pairs:
    """The larger of each two neighbours."""

    def forward(self, x: Any) -> Any:
        pairs = x.reshape(len(x), -1, 2)
        self.first = pairs[:, :, 0] >= pairs[:, :, 1]
        return np.where(self.first, pairs[:, :, 0], pairs[:, :, 1])

    def backward(self, dy: Any) -> Any:
        return np.stack([dy * self.first, dy * ~self.first], axis=2).reshape(len(dy), -1)


class Buffered:
    """Copies into an array of real numbers, as unrolled images are: no complex step."""

    def forward(self, x: Any) -> Any:
        buffer = np.zeros(x.shape)
        buffer[...] = x
        return buffer

    def backward(self, dy: Any) -> Any:
        return dy


class Single:
    """Computes in float32 on the way."""

    def forward(self, x: Any) -> Any:
        return x.astype(np.float32)

    def backward(self, dy: Any) -> Any:
        return dy


class BatchNorm:
    def __init__(self, gamma: Any, beta: Any) -> None:
        self.gamma, self.beta = gamma, beta

    def forward(self, x: Any) -> Any:
        centred = x - x.mean(axis=0)
        self.std = np.sqrt((centred**2).mean(axis=0) + 1e-6)
        self.normal = centred / self.std
        return self.gamma * self.normal + self.beta

    def backward(self, dy: Any) -> Any:
        self.dgamma, self.dbeta = (dy * self.normal).sum(axis=0), dy.sum(axis=0)
        d = dy * self.gamma
        return (d - d.mean(axis=0) - self.normal * (d * self.normal).mean(axis=0)) / self.std


class Chain:
    """Dense layers with others between them, softmax, ``-log(y + ε)`` and perhaps a penalty.

    Subclasses make it wrong, in ``changed`` or with layers of their own.
    """

    epsilon = 1e-7
    decay = 0.0
    dtype: Any = float

    def __init__(
        self, widths: Sequence[int], between: Sequence[type] = (Relu,), spread: float = 0.5
    ) -> None:
        random = np.random.default_rng(3)
        self.params: dict[str, Any] = {}
        self.layers: list[Any] = []
        for i, (n, m) in enumerate(pairwise(widths), 1):
            halved = i < len(widths) - 1 and any(issubclass(kind, Pairs) for kind in between)
            out = 2 * m if halved else m
            self._hold(f"W{i}", random.standard_normal((n, out)) * spread)
            self._hold(f"b{i}", np.zeros(out))
            self.layers.append(Affine(self.params[f"W{i}"], self.params[f"b{i}"]))
            for kind in between if i < len(widths) - 1 else ():
                if kind is BatchNorm:
                    self._hold(f"gamma{i}", np.ones(out))
                    self._hold(f"beta{i}", np.zeros(out))
                    self.layers.append(kind(self.params[f"gamma{i}"], self.params[f"beta{i}"]))
                else:
                    self.layers.append(kind())

    def _hold(self, name: str, values: Any) -> None:
        self.params[name] = values.astype(self.dtype)

    def predict(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def loss(self, x: Any, t: Any) -> Any:
        power = np.exp(self.predict(x))
        self.y = power / power.sum(axis=1, keepdims=True)
        own = self.y[np.arange(len(x)), t]
        return -np.log(own + self.epsilon).mean() + self.penalty()

    def penalty(self) -> Any:
        weights = [w for name, w in self.params.items() if name.startswith("W")]
        return self.decay / 2 * sum(np.sum(w**2) for w in weights)

    def gradient(self, x: Any, t: Any) -> Any:
        self.loss(x, t)
        d = self.y.copy()
        d[np.arange(len(x)), t] -= 1
        d /= len(x)
        for layer in reversed(self.layers):
            d = layer.backward(d)
        found: list[Any] = []
        for layer in self.layers:
            if isinstance(layer, Affine):
                found += [layer.dW + self.decay * layer.W, layer.db]
            elif isinstance(layer, BatchNorm):
                found += [layer.dgamma, layer.dbeta]
        return self.changed(dict(zip(self.params, found, strict=True)))

    def changed(self, gradients: dict[str, Any]) -> dict[str, Any]:
        return gradients


def rows(inputs: int = 6, classes: int = 3) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.standard_normal((60, inputs)), random.integers(0, classes, 60)


def checked(network: Chain, seed: int = 1) -> Report:
    """Return the report of a check in this process alone."""
    inputs = len(network.params["W1"])
    classes = len(network.layers[-1].b)
    return check(network, rows(inputs, classes), workers=(), check_seed=seed)
