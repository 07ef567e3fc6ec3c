"""The convolution layer: one matrix product for a shard, or for each piece of a large one."""

from itertools import pairwise

import numpy as np
from msgspec.structs import force_setattr

from dptrain.errors import UsageError
from dptrain.nn.calls import Call, call, product
from dptrain.nn.initializers import Initializer, Normal, Zeros, initializer
from dptrain.nn.layer import Array, Blocks, Layer, Operation, Parameter, Shape, Site
from dptrain.nn.patches import Patches
from dptrain.nn.windows import Extent, Fold, Windows, pair, windows

# Of the copied windows of one piece of a shard. It decides which rows are multiplied together, so
# that another value may change the last bits of a result.
PIECE_BYTES = 8 << 20


class Conv2D(Layer, frozen=True, tag="conv2d"):
    """``y[p, q, f] = b[f] + Σ_ijc x[s p + i, s q + j, c] W[i, j, c, f]``, with zero padding.

    Samples are images ``(H, W, C)``, or ``(H, W)`` with one channel; ``y`` has shape
    ``(OH, OW, filters)`` with ``OH = (H + 2 padding - KH) // stride + 1``. As everywhere in this
    field, it is the cross-correlation that is called convolution: the filter is not mirrored.

    Parameters: ``W`` of shape ``(KH, KW, C, filters)`` and ``b`` of shape ``(filters,)``. For the
    initializers, fan in is ``KH * KW * C`` and fan out is ``KH * KW * filters``.

    ``size``, ``stride`` and ``padding`` are one number, or a pair: vertical, horizontal.
    """

    filters: int
    size: Extent
    stride: Extent = 1
    padding: Extent = 0
    init: Initializer | str = Normal()

    def __post_init__(self) -> None:
        """Refuse what no images could fit; find the initializer that is given by name."""
        if type(self.filters) is not int or self.filters < 1:
            raise UsageError(f"a convolution needs at least 1 filter, not {self.filters!r}")
        pair("size", self.size, 1)
        pair("stride", self.stride, 1)
        pair("padding", self.padding, 0)
        force_setattr(self, "init", initializer(self.init))

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(OH, OW, filters)``."""
        return (*self.windows(input_shape).places, self.filters)

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:
        """Return ``W`` and ``b``."""
        over = self.windows(input_shape)
        channels = over.image[2]
        fans = (over.offsets * channels, over.offsets * self.filters)
        shape = (*over.size, channels, self.filters)
        return (
            Parameter("W", shape, initializer(self.init), fans, decays=True),
            Parameter("b", (self.filters,), Zeros(), fans, decays=False),
        )

    def bind(self, site: Site) -> Operation:
        """Return the matrix products of this layer."""
        return ConvolutionOperation(site, self)

    def windows(self, input_shape: Shape) -> Windows:
        """Return the windows over samples of a shape."""
        return windows(input_shape, self.size, self.stride, self.padding)


class ConvolutionOperation(Operation):
    """Computes shard by shard: of a block, only pieces of one shard are contiguous."""

    def __init__(self, site: Site, layer: Conv2D) -> None:
        self.input_gradients: Blocks = site.like(site.inputs) if site.passes_back else []
        self.blocks = [ConvolvedBlock(site, layer, i) for i in range(len(site.inputs))]
        self.outputs = [block.y for block in self.blocks]
        self.forward_calls = [each for block in self.blocks for each in block.forward_calls()]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Return the calls of every block."""
        calls: list[Call] = []
        for block, dy in zip(self.blocks, gradients, strict=True):
            calls += block.weight_calls(dy)
        for block, dy, dx in zip(self.blocks, gradients, self.input_gradients, strict=False):
            calls += block.input_calls(dy, dx)
        return calls, self.input_gradients


class ConvolvedBlock:
    """The matrix products of one block.

    ``W`` and ``b``, neighbours in the flat vector, are one matrix, and the patches end in ones: so
    the biases and their gradients cost no passes of their own, which would take half as long again
    as the products where there are few channels.

    Attributes:
        y: the output.
        gradients: of ``[W, b]``, of every shard.
    """

    def __init__(self, site: Site, layer: Conv2D, index: int) -> None:
        x = site.inputs[index]
        shards, rows = x.shape[:2]
        self._over = over = layer.windows(x.shape[2:])
        self._workspace = site.workspace
        self._x = x.reshape(shards, rows, *over.image)
        self.y = self._workspace.empty((shards, rows, *over.places, layer.filters), x.dtype)
        self._weights = site.span.reshape(-1, layer.filters)
        self.gradients = site.span_gradients[index].reshape(shards, *self._weights.shape)
        self._pieces = pieces(rows, over.count * len(self._weights) * x.itemsize)
        self._largest = max(each.stop - each.start for each in self._pieces)
        # A shard in one piece keeps its patches for the backward pass; where there are several,
        # they use the same memory, and are made twice: a tenth of the time, and a bound on memory.
        self._kept = len(self._pieces) == 1
        self._patches = [
            Patches(over, self._largest, x.dtype, self._workspace)
            for _ in range(shards if self._kept else 1)
        ]

    def _places(self) -> list[tuple[int, slice]]:
        return [(shard, rows) for shard in range(len(self._x)) for rows in self._pieces]

    def _patches_of(self, shard: int, rows: slice) -> tuple[Array, list[Call]]:
        patches = self._patches[shard if self._kept else 0]
        x = self._x[shard, rows]
        return patches.matrix(len(x))[np.newaxis], patches.calls(x)

    def forward_calls(self) -> list[Call]:
        """``y = [patches, 1] [W, b]``."""
        found: list[Call] = []
        for shard, rows in self._places():
            patches, fill = self._patches_of(shard, rows)
            found += [*fill, product(patches, self._weights, _matrix(self.y[shard, rows]))]
        return found

    def weight_calls(self, gradients: Array) -> list[Call]:
        """``[dW, db] = [patches, 1]ᵀ dy``, added up over the pieces of each shard."""
        part = self._workspace.empty((1, *self._weights.shape), gradients.dtype)
        found: list[Call] = []
        for shard, rows in self._places():
            dy = _matrix(gradients[shard, rows])
            total = self.gradients[shard : shard + 1]
            patches, fill = self._patches_of(shard, rows)
            found += [] if self._kept else fill
            found.append(product(patches.transpose(0, 2, 1), dy, part if rows.start else total))
            found += [call(np.add, total, part, total)] if rows.start else []
        return found

    def input_calls(self, gradients: Array, dx: Array) -> list[Call]:
        """``dy Wᵀ`` is what every window would change in each pixel; their sum is ``dx``."""
        over = self._over
        channels = over.image[2]
        # a window's values stand together, pixel by pixel
        fold = Fold(over.reads().T.reshape(-1), over.pixels)
        dtype = gradients.dtype
        values = fold.values_for(self._largest, channels, dtype, self._workspace)
        scratch = self._workspace.empty((self._largest, over.pixels, channels), dtype)
        pixels = dx.reshape(*dx.shape[:2], over.pixels, channels)
        transposed = self._weights[:-1].T
        found: list[Call] = []
        for shard, rows in self._places():
            dy = gradients[shard, rows].reshape(-1, over.count, gradients.shape[-1])
            n = len(dy)
            into = values[:n, :-1].reshape(n, over.count, over.elements)
            found.append(call(np.matmul, dy, transposed, into))
            found += fold.calls(values[:n], pixels[shard, rows], scratch[:n])
        return found


def pieces(rows: int, row_bytes: int) -> list[slice]:
    """Return the rows of a shard in pieces of about `PIECE_BYTES` at most, as equal as can be."""
    count = min(rows, -(-rows * row_bytes // PIECE_BYTES))
    bounds = [rows * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def _matrix(pixels: Array) -> Array:
    """Return ``(1, pixels, features)`` of ``(samples, height, width, features)``."""
    return pixels.reshape(1, -1, pixels.shape[-1])
