"""Networks as people write them that keep something from step to step, or behave otherwise in it.

This file is also named on command lines, so it imports nothing of the tests.
"""

from typing import Any

import numpy as np


class BatchNorm:
    """With running averages that are made in the first call, as in the notes."""

    def __init__(self, gamma: Any, beta: Any) -> None:
        self.gamma, self.beta = gamma, beta
        self.running_mean: Any = None
        self.running_var: Any = None

    def forward(self, x: Any, train_flg: bool) -> Any:
        if self.running_mean is None:
            self.running_mean, self.running_var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        if not train_flg:
            self.xn = (x - self.running_mean) / np.sqrt(self.running_var + 1e-6)
            return self.gamma * self.xn + self.beta
        mean, var = x.mean(axis=0), x.var(axis=0)
        self.std = np.sqrt(var + 1e-6)
        self.xn = (x - mean) / self.std
        self.running_mean = 0.9 * self.running_mean + 0.1 * mean
        self.running_var = 0.9 * self.running_var + 0.1 * var
        return self.gamma * self.xn + self.beta

    def backward(self, dy: Any) -> Any:
        self.dbeta, self.dgamma = dy.sum(axis=0), (self.xn * dy).sum(axis=0)
        dx = self.gamma * dy
        return (dx - dx.mean(axis=0) - self.xn * (dx * self.xn).mean(axis=0)) / self.std


class Base:
    """Dense, something, ReLU, dense; softmax and cross-entropy of one-hot rows."""

    def __init__(self, inputs: int = 20, hidden: int = 7, outputs: int = 3) -> None:
        draw = np.random.randn
        self.params: dict[str, Any] = {
            "W1": draw(inputs, hidden) * 0.3,
            "b1": np.zeros(hidden),
            "W2": draw(hidden, outputs) * 0.3,
            "b2": np.zeros(outputs),
        }

    def between(self, z: Any, train_flg: bool) -> Any:  # noqa: ARG002 - others heed it
        return z

    def behind(self, d: Any, gradients: dict[str, Any]) -> Any:  # noqa: ARG002 - others fill it
        return d

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        p, self.x = self.params, x
        self.z = self.between(x @ p["W1"] + p["b1"], train_flg)
        self.h = np.maximum(self.z, 0)
        return self.h @ p["W2"] + p["b2"]

    def loss(self, x: Any, t: Any, train_flg: bool = False) -> Any:
        y = self.predict(x, train_flg)
        y = y - y.max(axis=1, keepdims=True)
        log = y - np.log(np.exp(y).sum(axis=1, keepdims=True))
        self.d = (np.exp(log) - t) / len(x)
        return -np.sum(log * t) / len(x)

    def gradient(self, x: Any, t: Any) -> Any:
        self.loss(x, t, train_flg=True)
        found = {"W2": self.h.T @ self.d, "b2": self.d.sum(axis=0)}
        d = self.behind((self.d @ self.params["W2"].T) * (self.z > 0), found)
        found |= {"W1": self.x.T @ d, "b1": d.sum(axis=0)}
        return {name: found[name] for name in self.params}


class Normed(Base):
    """With batch normalisation."""

    def __init__(self, inputs: int = 20, hidden: int = 7, outputs: int = 3) -> None:
        super().__init__(inputs, hidden, outputs)
        self.params |= {"gamma1": np.ones(hidden), "beta1": np.zeros(hidden)}
        norm = BatchNorm(self.params["gamma1"], self.params["beta1"])
        self.layers = {"BatchNorm1": norm}

    def between(self, z: Any, train_flg: bool) -> Any:
        return self.layers["BatchNorm1"].forward(z, train_flg)

    def behind(self, d: Any, gradients: dict[str, Any]) -> Any:
        norm = self.layers["BatchNorm1"]
        d = norm.backward(d)
        gradients |= {"gamma1": norm.dgamma, "beta1": norm.dbeta}
        return d


class Centred(Base):
    """Takes off the inputs' mean, a running average that every row counts in by itself."""

    def __init__(self, inputs: int = 20, hidden: int = 7, outputs: int = 3) -> None:
        super().__init__(inputs, hidden, outputs)
        self.mean = np.zeros(inputs)
        self.steps = 0

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        return super().predict(x - self.mean, train_flg)

    def gradient(self, x: Any, t: Any) -> Any:
        found = super().gradient(x, t)
        self.mean *= 0.9  # in place
        self.mean += 0.1 * x.mean(axis=0)
        self.steps += 1
        return found


class Dropping(Base):
    """Drops units with a generator of its own, in training alone; an attribute tells it."""

    def __init__(self, inputs: int = 20, hidden: int = 7, outputs: int = 3) -> None:
        super().__init__(inputs, hidden, outputs)
        self.training = False
        self.random = np.random.default_rng()

    def between(self, z: Any, train_flg: bool) -> Any:  # noqa: ARG002 - the attribute tells
        self.mask = self.random.random(z.shape) > 0.3 if self.training else np.full(z.shape, 0.7)
        return z * self.mask

    def behind(self, d: Any, gradients: dict[str, Any]) -> Any:  # noqa: ARG002 - it has none
        return d * self.mask
