"""Layers and losses as users write them: ``forward`` keeps what ``backward`` needs.

Gradients of a layer's parameters stay in it; losses are means over the rows.
"""

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
        self.dW, self.db = np.dot(self.x.T, dy), np.sum(dy, axis=0)
        return np.dot(dy, self.W.T).reshape(self.shape)


class Masked(Layer):
    """Multiplies the gradient by ``slope``, which the forward pass has computed."""

    slope: Array

    def backward(self, dy: Array) -> Array:
        return dy * self.slope


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


class Buffered(Layer):
    """Copies into an array of real numbers, as unrolled images are: no complex step."""

    def forward(self, x: Array) -> Array:
        buffer = np.zeros(x.shape)
        buffer[...] = x
        return buffer

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
        kept = (
            np.random.rand(*x.shape) > self.ratio if training else np.full(x.shape, 1 - self.ratio)
        )
        self.mask = kept * self.scale
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
        mean, var, keep = self.running_mean, self.running_var, self.momentum
        if training:
            mean, var = x.mean(axis=0), ((x - x.mean(axis=0)) ** 2).mean(axis=0)
            self.running_mean = keep * self.running_mean + (1 - keep) * mean
            self.running_var = keep * self.running_var + (1 - keep) * var
        self.x = x
        self.std = np.sqrt(var + self.epsilon)
        self.xn = (x - mean) / self.std
        return self.gamma * self.xn + self.beta

    def backward(self, dy: Array) -> Array:
        self.dbeta, self.dgamma = dy.sum(axis=0), (dy * self.xn).sum(axis=0)
        dxn = self.gamma * dy
        if not self.training:
            return dxn / self.std
        mean, along = dxn.mean(axis=0), (dxn * self.xn).mean(axis=0)
        return (dxn - mean - self.xn * along) / self.std


def windows(x: Array, size: int, stride: int) -> Array:
    """Return ``(n, channels, down, across, size, size)``, a view."""
    every = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    return every[:, :, ::stride, ::stride]


class Convolution(Layer):
    """Of images ``(n, channels, rows, columns)``; ``W`` is ``(filters, channels, 3, 3)``."""

    parameters = ("W", "b")
    size = 3

    def __init__(self, W: Array, b: Array, pad: int) -> None:
        self.W, self.b, self.pad = W, b, pad

    def forward(self, x: Array) -> Array:
        self.padded = np.pad(x, ((0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)))
        col = windows(self.padded, self.size, 1)
        n, _, down, across, _, _ = col.shape
        self.col = col.transpose(0, 2, 3, 1, 4, 5).reshape(n * down * across, -1)
        out = np.dot(self.col, self.W.reshape(len(self.W), -1).T) + self.b
        return out.reshape(n, down, across, -1).transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> Array:
        n, filters, down, across = dy.shape
        flat = dy.transpose(0, 2, 3, 1).reshape(-1, filters)
        self.db, self.dW = flat.sum(axis=0), np.dot(flat.T, self.col).reshape(self.W.shape)
        dcol = np.dot(flat, self.W.reshape(filters, -1))
        dcol = dcol.reshape(n, down, across, -1, self.size, self.size)
        found, (rows, columns) = np.zeros(self.padded.shape), self.padded.shape[2:]
        for i in range(self.size):
            for j in range(self.size):
                part = dcol[:, :, :, :, i, j].transpose(0, 3, 1, 2)
                found[:, :, i : i + down, j : j + across] += part
        return found[:, :, self.pad : rows - self.pad, self.pad : columns - self.pad]


class LoopConvolution(Convolution):
    """The same, position by position."""

    def forward(self, x: Array) -> Array:
        super().forward(x)
        n, _, rows, columns = self.padded.shape
        down, across, size = rows - self.size + 1, columns - self.size + 1, self.size
        out = np.zeros((n, len(self.W), down, across), np.result_type(self.padded, self.W))
        for i in range(down):
            for j in range(across):
                cut = self.padded[:, :, i : i + size, j : j + size]
                out[:, :, i, j] = np.tensordot(cut, self.W, ((1, 2, 3), (1, 2, 3))) + self.b
        return out


class MaxPool(Layer):
    """Of windows of 2x2 that do not overlap; of equal values the first is taken."""

    size = 2

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        every = windows(x, self.size, self.size)
        self.windows = every.reshape(*every.shape[:4], -1)
        self.taken = self.windows.argmax(axis=-1)
        return np.take_along_axis(self.windows, self.taken[..., None], axis=-1)[..., 0]

    def backward(self, dy: Array) -> Array:
        share = np.zeros((*dy.shape, self.size**2))
        np.put_along_axis(share, self.taken[..., None], 1.0, axis=-1)
        return self.spread(share * dy[..., None])

    def spread(self, dwindows: Array) -> Array:
        """Put ``(n, channels, down, across, 4)`` back to where the windows were."""
        n, channels, down, across, _ = dwindows.shape
        found, size = np.zeros(self.shape), self.size
        each = dwindows.reshape(n, channels, down, across, size, size).transpose(0, 1, 2, 4, 3, 5)
        found[:, :, : down * size, : across * size] = each.reshape(
            n, channels, down * size, across * size
        )
        return found


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

    def __init__(self, epsilon: float = 0.0) -> None:
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


class BinaryCrossEntropy(SoftmaxCrossEntropy):
    """Of one output behind a sigmoid."""

    def forward(self, y: Array, t: Array) -> Array:
        self.t = t.reshape(y.shape)
        self.p = 0.5 * (1 + np.tanh(y / 2))
        if self.epsilon:
            sure = np.where(self.t > 0.5, self.p, 1 - self.p)
            return -np.sum(np.log(sure + self.epsilon)) / len(y)
        side = np.where(self.t > 0.5, -y, y)
        return np.sum(np.maximum(side, 0) + np.log1p(np.exp(-np.abs(side)))) / len(y)


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
