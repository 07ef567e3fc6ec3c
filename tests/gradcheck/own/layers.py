"""Layers as users write them: ``forward`` keeps what ``backward`` needs, gradients stay in them."""

from typing import Any

import numpy as np

Array = Any


class Layer:
    """Has ``parameters``, names of its attributes; the gradient of ``W`` stands in ``dW``."""

    parameters: tuple[str, ...] = ()

    def forward(self, x: Array) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        raise NotImplementedError


class Affine(Layer):
    """``x W + b`` of rows of any shape."""

    parameters = ("W", "b")

    def __init__(self, W: Array, b: Array) -> None:
        self.W, self.b = W, b

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        self.x = x.reshape(len(x), -1)
        return np.dot(self.x, self.W) + self.b

    def backward(self, dy: Array) -> Array:
        self.dW = np.dot(self.x.T, dy)
        self.db = np.sum(dy, axis=0)
        return np.dot(dy, self.W.T).reshape(self.shape)


class Masked(Layer):
    """Multiplies the gradient by ``slope``, which the forward pass has computed."""

    def backward(self, dy: Array) -> Array:
        return dy * self.slope

    slope: Array


class Relu(Masked):
    def forward(self, x: Array) -> Array:
        self.slope = x > 0
        return np.where(self.slope, x, 0)


class LeakyRelu(Masked):
    leak = 0.1

    def forward(self, x: Array) -> Array:
        self.slope = np.where(x > 0, 1, self.leak)
        return x * self.slope


class Abs(Masked):
    def forward(self, x: Array) -> Array:
        self.slope = np.sign(x)
        return np.abs(x)


class Clip(Masked):
    limit = 1.0

    def forward(self, x: Array) -> Array:
        self.slope = (x > -self.limit) & (x < self.limit)
        return np.clip(x, -self.limit, self.limit)


class TopK(Masked):
    """Keeps the largest values of a row."""

    kept = 2

    def forward(self, x: Array) -> Array:
        self.slope = np.zeros(x.shape)
        np.put_along_axis(self.slope, np.argsort(x, axis=1)[:, -self.kept :], 1.0, axis=1)
        return x * self.slope


class Sigmoid(Layer):
    def forward(self, x: Array) -> Array:
        self.out = 0.5 * (1 + np.tanh(x / 2))
        return self.out

    def backward(self, dy: Array) -> Array:
        return dy * self.out * (1 - self.out)


class Tanh(Layer):
    def forward(self, x: Array) -> Array:
        self.out = np.tanh(x)
        return self.out

    def backward(self, dy: Array) -> Array:
        return dy * (1 - self.out**2)


class Softplus(Layer):
    def forward(self, x: Array) -> Array:
        self.x = x
        return np.logaddexp(0, x)

    def backward(self, dy: Array) -> Array:
        return dy * 0.5 * (1 + np.tanh(self.x / 2))


class Single(Layer):
    """Goes on in float32, as code does that was written for a GPU."""

    def forward(self, x: Array) -> Array:
        return x.astype(np.float32)

    def backward(self, dy: Array) -> Array:
        return dy


class Moded(Layer):
    """Does something else while it trains."""

    def forward(self, x: Array, training: bool = True) -> Array:
        raise NotImplementedError


class Dropout(Moded):
    """Scales when it predicts, as the notes' does, or while it trains."""

    ratio = 0.3

    def __init__(self, inverted: bool) -> None:
        self.scale = 1 / (1 - self.ratio) if inverted else 1.0

    def forward(self, x: Array, training: bool = True) -> Array:
        if not training:
            self.mask = np.full(x.shape, (1 - self.ratio) * self.scale)
            return x * self.mask
        self.mask = (np.random.rand(*x.shape) > self.ratio) * self.scale
        return x * self.mask

    def backward(self, dy: Array) -> Array:
        return dy * self.mask


class BatchNorm(Moded):
    """By the minibatch while it trains, otherwise by averages; each column of ``(n, d)``."""

    parameters = ("gamma", "beta")
    momentum = 0.9
    epsilon = 1e-6

    def __init__(self, gamma: Array, beta: Array, made_late: bool) -> None:
        self.gamma, self.beta = gamma, beta
        self.running_mean: Array = None if made_late else np.zeros(len(gamma))
        self.running_var: Array = None if made_late else np.zeros(len(gamma))

    def forward(self, x: Array, training: bool = True) -> Array:
        if self.running_mean is None:
            self.running_mean, self.running_var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        self.training = training
        if training:
            mean, var = x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).mean(axis=0)
            keep = self.momentum
            self.running_mean = keep * self.running_mean + (1 - keep) * mean
            self.running_var = keep * self.running_var + (1 - keep) * var
        else:
            mean, var = self.running_mean, self.running_var
        self.x = x
        self.std = np.sqrt(var + self.epsilon)
        self.xn = (x - mean) / self.std
        return self.gamma * self.xn + self.beta

    def backward(self, dy: Array) -> Array:
        self.dbeta = dy.sum(axis=0)
        self.dgamma = (dy * self.xn).sum(axis=0)
        dxn = self.gamma * dy
        if not self.training:
            return dxn / self.std
        mean, along = dxn.mean(axis=0), (dxn * self.xn).mean(axis=0)
        return (dxn - mean - self.xn * along) / self.std
