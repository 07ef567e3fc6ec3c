"""Convolution and pooling as users write them: by matrices of windows, or by loops."""

import numpy as np

from tests.gradcheck.own.layers import Array, Layer


def windows(x: Array, height: int, width: int, stride: int) -> Array:
    """Return ``(n, channels, down, across, height, width)``, a view."""
    every = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(2, 3))
    return every[:, :, ::stride, ::stride]


class Convolution(Layer):
    """Of images ``(n, channels, rows, columns)``; ``W`` is ``(filters, channels, 3, 3)``."""

    parameters = ("W", "b")
    size = 3

    def __init__(self, W: Array, b: Array, pad: int) -> None:
        self.W, self.b, self.pad = W, b, pad

    def forward(self, x: Array) -> Array:
        ends = (self.pad, self.pad)
        self.padded = np.pad(x, ((0, 0), (0, 0), ends, ends))
        col = windows(self.padded, self.size, self.size, 1)
        n, _, down, across, _, _ = col.shape
        self.col = col.transpose(0, 2, 3, 1, 4, 5).reshape(n * down * across, -1)
        out = np.dot(self.col, self.W.reshape(len(self.W), -1).T) + self.b
        return out.reshape(n, down, across, -1).transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> Array:
        n, filters, down, across = dy.shape
        flat = dy.transpose(0, 2, 3, 1).reshape(-1, filters)
        self.db = flat.sum(axis=0)
        self.dW = np.dot(flat.T, self.col).reshape(self.W.shape)
        dcol = np.dot(flat, self.W.reshape(filters, -1))
        size, channels = self.size, self.padded.shape[1]
        dcol = dcol.reshape(n, down, across, channels, size, size).transpose(0, 3, 4, 5, 1, 2)
        return self.uncut(self.back(dcol))

    def back(self, dcol: Array) -> Array:
        """Add up what stands in windows, ``(n, channels, 3, 3, down, across)``."""
        found = np.zeros(self.padded.shape)
        down, across = dcol.shape[4:]
        for i in range(self.size):
            for j in range(self.size):
                found[:, :, i : i + down, j : j + across] += dcol[:, :, i, j]
        return found

    def uncut(self, found: Array) -> Array:
        """Take the padding away again."""
        rows, columns = found.shape[2:]
        return found[:, :, self.pad : rows - self.pad, self.pad : columns - self.pad]


class LoopConvolution(Convolution):
    """The same, position by position."""

    def forward(self, x: Array) -> Array:
        ends = (self.pad, self.pad)
        self.padded = np.pad(x, ((0, 0), (0, 0), ends, ends))
        n, _, rows, columns = self.padded.shape
        down, across, size = rows - self.size + 1, columns - self.size + 1, self.size
        kind = np.result_type(self.padded, self.W)
        out = np.zeros((n, len(self.W), down, across), kind)
        for i in range(down):
            for j in range(across):
                cut = self.padded[:, :, i : i + size, j : j + size]
                out[:, :, i, j] = np.tensordot(cut, self.W, ((1, 2, 3), (1, 2, 3))) + self.b
        return out

    def backward(self, dy: Array) -> Array:
        self.dW, self.db = np.zeros(self.W.shape), dy.sum(axis=(0, 2, 3))
        found, size = np.zeros(self.padded.shape), self.size
        for i in range(dy.shape[2]):
            for j in range(dy.shape[3]):
                cut = self.padded[:, :, i : i + size, j : j + size]
                self.dW += np.tensordot(dy[:, :, i, j], cut, (0, 0))
                back = np.tensordot(dy[:, :, i, j], self.W, (1, 0))
                found[:, :, i : i + size, j : j + size] += back
        return self.uncut(found)


class MaxPool(Layer):
    """Of windows of 2x2 that do not overlap; of equal values the first is taken."""

    size = 2

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        every = windows(x, self.size, self.size, self.size)
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
