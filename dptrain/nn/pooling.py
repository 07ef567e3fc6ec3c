"""Pooling layers: the largest value, or the mean, of every window, feature by feature.

They are elementwise from one shard to the next, so that a block is computed as one array.
"""

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np

from dptrain.nn.calls import Call, call
from dptrain.nn.layer import Array, Blocks, Layer, Operation, Shape, Site
from dptrain.nn.windows import Extent, Fold, Windows, pair, windows


# The stride is left out of a description that does not give it: TOML has no null.
class Pooling(Layer, frozen=True, omit_defaults=True):
    """One value for every window and feature: ``(H, W, C)`` becomes ``(OH, OW, C)``.

    ``OH = (H - KH) // stride + 1``; rows and columns beyond the last window are not read. A sample
    ``(H, W)`` has one channel, and becomes ``(OH, OW, 1)``. ``size`` and ``stride`` are one number,
    or a pair: vertical, horizontal. The stride is the size unless it is given.
    """

    size: Extent
    stride: Extent | None = None

    def __post_init__(self) -> None:
        """Refuse what no images could fit."""
        pair("size", self.size, 1)
        if self.stride is not None:
            pair("stride", self.stride, 1)

    def windows(self, input_shape: Shape) -> Windows:
        """Return the windows over samples of a shape."""
        return windows(input_shape, self.size, self.stride or self.size)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(OH, OW, C)``."""
        over = self.windows(input_shape)
        return (*over.places, over.image[2])


class MaxPool2D(Pooling, frozen=True, tag="maxpool2d"):
    """The largest value of each window.

    The gradient goes to the first of equal maxima, the window read row by row.
    """

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return PoolingOperation(site, self, MaxPooledBlock)


class AvgPool2D(Pooling, frozen=True, tag="avgpool2d"):
    """The mean of each window."""

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return PoolingOperation(site, self, AveragedBlock)


class PooledBlock(ABC):
    """One block, with its shards and rows on one axis.

    Attributes:
        x: the input, ``(samples, pixels, C)``.
        y: the output, ``(samples, windows, C)``.
    """

    def __init__(self, site: Site, over: Windows, x: Array) -> None:
        self.over = over
        self.workspace = site.workspace
        channels = over.image[2]
        self.x = x.reshape(-1, over.pixels, channels)
        self.output = self.workspace.empty((*x.shape[:2], *over.places, channels), x.dtype)
        self.y = self.output.reshape(-1, over.count, channels)

    @abstractmethod
    def forward_calls(self) -> list[Call]:
        """Return the calls that compute ``y`` from ``x``."""

    @abstractmethod
    def backward_calls(self, dy: Array, dx: Array) -> list[Call]:
        """Return the calls that compute ``dx``, in the shapes of ``y`` and ``x``."""

    def fold_calls(self, fold: Fold, values: Array, dx: Array) -> list[Call]:
        """Return the calls that add up the windows' values in ``dx``."""
        scratch = self.workspace.empty(dx.shape, dx.dtype)
        return fold.calls(values, dx, scratch)


class MaxPooledBlock(PooledBlock):
    """Finds the first maximum of a window where the maxima so far rise for the last time.

    There is one array for each offset in the window: of the maxima of the values there and before.
    Only the last, whose maxima are the output, keeps the values themselves.
    """

    def __init__(self, site: Site, over: Windows, x: Array) -> None:
        super().__init__(site, over, x)
        self._fold = Fold(over.reads().reshape(-1), over.pixels)
        samples, count, channels = self.y.shape
        self._values = self._fold.values_for(samples, channels, x.dtype, self.workspace)
        parts = self._values[:, :-1].reshape(samples, over.offsets, count, channels)
        self._parts = [parts[:, i] for i in range(over.offsets)]

    def forward_calls(self) -> list[Call]:
        """The last maximum is the output."""
        reads = np.append(self.over.reads(), 0)  # and anything where the zeros go
        found: list[Call] = [call(self.x.take, reads, 1, self._values, "clip")]
        *_, last = self._parts
        for before, here in pairwise(self._parts):
            found.append(call(np.maximum, before, here, out=self.y if here is last else here))
        if len(self._parts) == 1:
            found.append(call(np.copyto, self.y, last))
        return found

    def backward_calls(self, dy: Array, dx: Array) -> list[Call]:
        """From the last offset to the first, take the gradients that are still free.

        They go where the maxima are, which are then no longer needed.
        """
        here = self.workspace.empty(dy.shape, np.bool_)
        free = self.workspace.empty(dy.shape, np.bool_)
        found: list[Call] = [call(free.fill, True), call(self._values[:, -1].fill, 0)]
        for before, part in reversed(list(pairwise(self._parts))):
            found += [
                call(np.greater, part, before, here),
                call(np.logical_and, here, free, here),
                call(np.multiply, dy, here, part),
                call(np.greater, free, here, free),
            ]
        found.append(call(np.multiply, dy, free, self._parts[0]))
        return found + self.fold_calls(self._fold, self._values, dx)


class AveragedBlock(PooledBlock):
    """Adds up the offsets of the windows, in order."""

    def forward_calls(self) -> list[Call]:
        """The first offset goes into the output, the others are added to it."""
        scratch = self.workspace.empty(self.y.shape, self.y.dtype)
        first, *others = self.over.reads()
        found: list[Call] = [call(self.x.take, first, 1, self.y, "clip")]
        for reads in others:
            found.append(call(self.x.take, reads, 1, scratch, "clip"))
            found.append(call(np.add, self.y, scratch, self.y))
        return [*found, call(np.divide, self.y, self._divisor(), self.y)]

    def backward_calls(self, dy: Array, dx: Array) -> list[Call]:
        """Every pixel of a window has an equal share of its gradient."""
        samples, count, channels = self.y.shape
        fold = Fold(self.over.reads().reshape(-1), self.over.pixels, count)
        values = fold.values_for(samples, channels, dy.dtype, self.workspace)
        share = call(np.divide, dy, self._divisor(), values[:, :-1])
        return [share, *self.fold_calls(fold, values, dx)]

    def _divisor(self) -> Any:
        return self.y.dtype.type(self.over.offsets)


class PoolingOperation(Operation):
    """The calls of all blocks."""

    def __init__(self, site: Site, layer: Pooling, kind: type[PooledBlock]) -> None:
        self.input_gradients: Blocks = site.like(site.inputs) if site.passes_back else []
        self.blocks = [kind(site, layer.windows(x.shape[2:]), x) for x in site.inputs]
        self.outputs = [block.output for block in self.blocks]
        self.forward_calls = [each for block in self.blocks for each in block.forward_calls()]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Return the calls that route or share out the gradients."""
        calls: list[Call] = []
        for block, dy, dx in zip(self.blocks, gradients, self.input_gradients, strict=False):
            calls += block.backward_calls(dy.reshape(block.y.shape), dx.reshape(block.x.shape))
        return calls, self.input_gradients
