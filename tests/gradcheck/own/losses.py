"""Losses as users write them: means over the rows, with ``backward`` for what ``forward`` got."""

import numpy as np

from tests.gradcheck.own.layers import Array


class Loss:
    """``targets`` are one-hot rows or class numbers, or numbers of the outputs' shape."""

    def forward(self, y: Array, t: Array) -> Array:
        raise NotImplementedError

    def backward(self) -> Array:
        raise NotImplementedError


def one_hot(t: Array, y: Array) -> Array:
    return t if t.shape == y.shape else np.eye(y.shape[1])[t]


class SoftmaxCrossEntropy(Loss):
    """Where ``epsilon`` is not 0 it stands in the logarithm, and the gradient leaves it out."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon

    def forward(self, y: Array, t: Array) -> Array:
        self.t = one_hot(t, y)
        y = y - y.max(axis=1, keepdims=True)
        power = np.exp(y)
        total = power.sum(axis=1, keepdims=True)
        self.p = power / total
        log = np.log(self.p + self.epsilon) if self.epsilon else y - np.log(total)
        return -np.sum(self.t * log) / len(y)

    def backward(self) -> Array:
        return (self.p - self.t) / len(self.t)


class SquaredError(Loss):
    """Half of the sum of squares of a row."""

    def forward(self, y: Array, t: Array) -> Array:
        self.difference = y - t.reshape(y.shape)
        return 0.5 * np.sum(self.difference**2) / len(y)

    def backward(self) -> Array:
        return self.difference / len(self.difference)


class BinaryCrossEntropy(Loss):
    """Of one output behind a sigmoid; ``epsilon`` as above."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon

    def forward(self, y: Array, t: Array) -> Array:
        self.t = t.reshape(y.shape)
        self.p = 0.5 * (1 + np.tanh(y / 2))
        if self.epsilon:
            sure = np.where(self.t > 0.5, self.p, 1 - self.p)
            return -np.sum(np.log(sure + self.epsilon)) / len(y)
        side = np.where(self.t > 0.5, -y, y)
        return np.sum(np.maximum(side, 0) + np.log1p(np.exp(-np.abs(side)))) / len(y)

    def backward(self) -> Array:
        return (self.p - self.t) / len(self.t)


class Hinge(Loss):
    """Of several classes, summed: ``Σ max(0, y_j - y_t + 1)``."""

    def forward(self, y: Array, t: Array) -> Array:
        self.t = one_hot(t, y)
        right = np.sum(y * self.t, axis=1, keepdims=True)
        margins = (y - right + 1) * (1 - self.t)
        self.over = (margins > 0) * 1.0
        return np.sum(margins * self.over) / len(y)

    def backward(self) -> Array:
        counts = self.over.sum(axis=1, keepdims=True)
        return (self.over - counts * self.t) / len(self.t)
