"""Bugs in the backward passes of convolution and pooling."""

from typing import Any

import numpy as np

from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import Around, Array, wrap
from dptrain.nn.calls import Call, call
from dptrain.nn.convolution import ConvolvedBlock
from dptrain.nn.pooling import AveragedBlock, MaxPooledBlock
from dptrain.nn.windows import Fold, Windows


def _no_flip(patches: Patches) -> None:
    def input_calls(original: Around, self: ConvolvedBlock, *args: Any) -> list[Call]:
        honest = self._weights
        shape = (*self._over.size, -1, honest.shape[-1])
        mirrored = np.empty_like(honest)
        source = honest[:-1].reshape(shape)[::-1, ::-1]
        self._weights = mirrored
        calls = original(self, *args)
        self._weights = honest
        return [call(np.copyto, mirrored[:-1].reshape(shape), source), *calls]

    wrap(patches, ConvolvedBlock, "input_calls", input_calls)


def _padding_offset(patches: Patches) -> None:
    def reads(_: Around, self: Windows) -> Any:
        (height, width, _channels), (high, wide) = self.image, self.places
        i, j, y, x = np.ogrid[: self.size[0], : self.size[1], :high, :wide]
        above, left = (max(p - 1, 0) for p in self.padding)
        row, column = i + self.stride[0] * y - above, j + self.stride[1] * x - left
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return np.where(inside, row * width + column, -1).reshape(self.offsets, high * wide)

    wrap(patches, Windows, "reads", reads)


def _ties(patches: Patches) -> None:
    def backward(_: Around, self: MaxPooledBlock, dy: Array, dx: Array) -> list[Call]:
        reads = self.over.reads()
        fold = Fold(reads.reshape(-1), self.over.pixels)
        samples, count, channels = dy.shape
        values = fold.values_for(samples, channels, dy.dtype, self.workspace)

        def route() -> None:
            seen = self.x.take(reads.reshape(-1), 1).reshape(samples, -1, count, channels)
            largest = seen == seen.max(axis=1, keepdims=True)
            values[:, :-1] = (largest * dy[:, np.newaxis]).reshape(samples, -1, channels)

        return [route, *self.fold_calls(fold, values, dx)]

    wrap(patches, MaxPooledBlock, "backward_calls", backward)


def _no_mean(patches: Patches) -> None:
    def backward(original: Around, self: AveragedBlock, dy: Array, dx: Array) -> list[Call]:
        return [*original(self, dy, dx), call(np.multiply, dx, self._divisor(), dx)]

    wrap(patches, AveragedBlock, "backward_calls", backward)


def _images(name: str, kind: str, sentence: str, patch: Any) -> Bug:
    both = ("shared", "star")
    return Bug(name, kind, sentence, patch, place="all", habitat="images", exchange=both)


BUGS = (
    _images(
        "convolution-without-flip",
        "conv-flip",
        "The gradient of a convolution's input is made with the mirrored filter.",
        _no_flip,
    ),
    _images(
        "padding-offset",
        "padding-offset",
        "The way back through a convolution leaves one row of padding too few out.",
        _padding_offset,
    ),
    _images(
        "pooling-ties-twice",
        "pooling-ties",
        "All of several equal maxima of a window get its whole gradient.",
        _ties,
    ),
    _images(
        "average-without-mean",
        "missing-mean",
        "The gradient of an average is not divided by the size of the window.",
        _no_mean,
    ),
)
