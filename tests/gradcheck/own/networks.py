"""Networks as users write them, all with ``params``, ``gradient(x, t)`` and ``loss(x, t)``."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.gradcheck.own.layers import Array, Layer, Loss, Moded


class Penalty(NamedTuple):
    """``amount`` times the sum of squares, or of absolute values, of some parameters."""

    amount: float
    squares: bool
    names: tuple[str, ...]

    def value(self, params: dict[str, Array]) -> Array:
        size = np.square if self.squares else np.abs
        return sum(self.amount * np.sum(size(params[name])) for name in self.names)

    def slope(self, W: Array) -> Array:
        return self.amount * (2 * W if self.squares else np.sign(W))


class Net:
    """Layers that hold the arrays of ``params`` themselves, or are given them before each use.

    Attributes:
        layers: in their order; their parameters are called ``W1``, ``b1``, ``gamma2`` …
        value: the loss that belongs to the last gradient.
    """

    def __init__(self, layers: Sequence[Layer], loss: Loss, named: bool = False) -> None:
        self.layers = list(layers)
        self.last = loss
        self.named = named
        self.params: dict[str, Array] = {}
        self.places: dict[str, tuple[Layer, str]] = {}
        number = 0
        for layer in self.layers:
            number += bool(layer.parameters)
            for name in layer.parameters:
                self.places[f"{name}{number}"] = layer, name
                self.params[f"{name}{number}"] = getattr(layer, name)
        self.penalty: Penalty | None = None
        self.value: Array = 0.0

    def run(self, x: Array, training: bool) -> Array:
        if self.named:
            for key, (layer, name) in self.places.items():
                setattr(layer, name, self.params[key])
        for layer in self.layers:
            x = layer.forward(x, training) if isinstance(layer, Moded) else layer.forward(x)
        return x

    def total(self, x: Array, t: Array, training: bool) -> Array:
        loss = self.last.forward(self.run(x, training), t)
        return loss + self.penalty.value(self.params) if self.penalty else loss

    def gradients(self, x: Array, t: Array, training: bool) -> dict[str, Array]:
        self.value = self.total(x, t, training)
        dy = self.last.backward()
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return {key: self.finished(key) for key in self.params}

    def finished(self, key: str) -> Array:
        layer, name = self.places[key]
        found = getattr(layer, f"d{name}")
        if self.penalty and key in self.penalty.names:
            found = found + self.penalty.slope(self.params[key])
        return found


class Plain(Net):
    """Trains whenever a loss is computed."""

    def predict(self, x: Array) -> Array:
        return self.run(x, False)

    def loss(self, x: Array, t: Array) -> Array:
        return self.total(x, t, True)

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        return self.gradients(x, t, True)


class WithKeyword(Net):
    """Is told by a keyword, as the notes' networks are."""

    def predict(self, x: Array, train_flg: bool = False) -> Array:
        return self.run(x, train_flg)

    def loss(self, x: Array, t: Array, train_flg: bool = False) -> Array:
        return self.total(x, t, train_flg)

    def accuracy(self, x: Array, t: Array) -> Array:
        labels = t.argmax(axis=1) if t.ndim == 2 else t
        return np.mean(self.predict(x).argmax(axis=1) == labels)

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        return self.gradients(x, t, True)


class WithAttribute(Net):
    """Is told by an attribute."""

    training: bool

    def predict(self, x: Array) -> Array:
        return self.run(x, self.training)

    def loss(self, x: Array, t: Array) -> Array:
        return self.total(x, t, self.training)

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        return self.gradients(x, t, self.training)


class TwoLayers:
    """Written by hand: two matrices with ``"relu"``, ``"tanh"`` or ``"sigmoid"`` between them."""

    def __init__(self, params: dict[str, Array], activation: str, loss: Loss) -> None:
        self.params = params
        self.activation = activation
        self.last = loss
        self.value: Array = 0.0

    def hidden(self, x: Array) -> Array:
        z = x.reshape(len(x), -1) @ self.params["W1"] + self.params["b1"]
        if self.activation == "relu":
            return np.maximum(z, 0)
        return np.tanh(z) if self.activation == "tanh" else 0.5 * (1 + np.tanh(z / 2))

    def slope(self, h: Array) -> Array:
        if self.activation == "relu":
            return h > 0
        return 1 - h**2 if self.activation == "tanh" else h * (1 - h)

    def predict(self, x: Array) -> Array:
        return self.hidden(x) @ self.params["W2"] + self.params["b2"]

    def loss(self, x: Array, t: Array) -> Array:
        return self.last.forward(self.predict(x), t)

    def gradients(self, x: Array, t: Array, _training: bool) -> dict[str, Array]:
        h = self.hidden(x)
        self.value = self.last.forward(h @ self.params["W2"] + self.params["b2"], t)
        dy = self.last.backward()
        dz = dy @ self.params["W2"].T * self.slope(h)
        dW1 = x.reshape(len(x), -1).T @ dz
        return {"W1": dW1, "b1": dz.sum(axis=0), "W2": h.T @ dy, "b2": dy.sum(axis=0)}

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        return self.gradients(x, t, True)


class AsFunction:
    """``loss_and_gradient(params, x, t)`` of a network whose layers are given their arrays."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def __call__(self, params: dict[str, Array], x: Array, t: Array) -> tuple[Any, Any]:
        self.network.params = params
        gradients = self.network.gradient(x, t)
        return self.network.value, gradients
