"""The layers of the reference: formulas, shard by shard, and nothing of how it is done fast.

They share no code with `dptrain.nn` but the descriptions, so that both can be wrong only in
different ways. Every shard has weights of its own, equal in value, so that differentiating tells
each shard's part of the gradient.
"""

import math
from collections.abc import Sequence
from functools import cache, singledispatch
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference import elementwise as e
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import Node
from dptrain.nn.activations import ReLU
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Residual
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.dropout import Dropout
from dptrain.nn.layer import Activation, Layer
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.normalise import Normalise
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU
from dptrain.nn.row import Placed, place

Array = NDArray[Any]
Shards = list[Node]
Weights = Sequence[Sequence[Node]]  # by tensor, then by shard
Pair = tuple[int, int]
Windowed = Conv2D | MaxPool2D | AvgPool2D


def row_forward(
    row: Sequence[Placed], x: Shards, weights: Weights, setting: Setting, first: int = 0
) -> Shards:
    """Return what layers in a row make of the shards' rows.

    Args:
        row: layers, those of chains in their chain's place.
        x: what they are given.
        weights: of these layers.
        setting: of the whole network, whose tensors end with those of these layers.
        first: how many layers of the network come before them.
    """
    taken = 0
    frozen = setting.frozen[len(setting.frozen) - len(weights) :] if first else setting.frozen
    for i, (_, layer, _, parameters) in enumerate(row, first):
        own = slice(taken, taken + len(parameters))
        taken = own.stop
        here = setting.at(i, frozen=frozen[own])
        x = setting.swaps.get(here.place, forward)(layer, x, weights[own], here)
    return x


@singledispatch
def forward(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    """Return what a layer makes of the shards' rows."""
    raise NotImplementedError(layer.kind)


@forward.register
def _(layer: Dense, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    return [each @ w + b for each, w, b in zip(x, *weights, strict=True)]


@forward.register
def _(layer: Flatten, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    return [each.reshape(len(each.value), -1) for each in x]


@forward.register
def _(layer: Activation, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    if type(layer) not in e.SMOOTH:
        raise NotImplementedError(layer.kind)
    return [e.SMOOTH[type(layer)](layer, each) for each in x]


@forward.register
def _(layer: ReLU, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    return [_rectified(each, 0.0, setting) for each in x]


@forward.register
def _(layer: LeakyReLU, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    return [_rectified(each, layer.negative_slope, setting) for each in x]


def _rectified(x: Node, slope: float, setting: Setting) -> Node:
    found, positive = e.leaky_relu(x, slope)
    setting.branched(positive)
    return found


@forward.register
def _(layer: Normalise, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    return [(each - shift) / scale for each, shift, scale in zip(x, *weights, strict=True)]


@forward.register
def _(layer: Dropout, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    if not layer.rate or not setting.training:
        return x
    kept = [setting.uniform(s, each.shape) >= np.float32(layer.rate) for s, each in enumerate(x)]
    # the quotient is one more rounding than a product with the rounded factor, and covers it
    rest = 1 - layer.rate
    return [
        each * each.constant(mask.astype(float)) / each.constant(rest)
        for each, mask in zip(x, kept, strict=True)
    ]


@forward.register
def _(layer: LayerNorm, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    found = []
    for each, gamma, beta in zip(x, *weights, strict=True):
        count = each.constant(float(each.shape[-1]))
        centred = each - each.sum(-1, keepdims=True) / count
        variance = (centred * centred).sum(-1, keepdims=True) / count
        deviation = (variance + each.constant(layer.epsilon)).sqrt()
        found.append(gamma * (centred / deviation) + beta)
    return found


@forward.register
def _(layer: BatchNorm, x: Shards, weights: Weights, setting: Setting) -> Shards:
    gamma, beta, *_ = weights
    epsilon = x[0].constant(layer.epsilon)
    if all(setting.frozen) or not setting.training:
        return [
            g * ((each - m) / (v + epsilon).sqrt()) + b
            for each, g, b, m, v in zip(x, *weights, strict=True)
        ]
    groups = [list(range(len(x)))] if layer.sync else [[s] for s in range(len(x))]
    normal: list[Node] = []
    shares = []
    for group in groups:
        own = [x[s] for s in group]
        axes = tuple(range(len(own[0].shape) - 1))
        count = sum(each.value[..., 0].size for each in own)
        n = epsilon.constant(float(count))
        mean = summed([each.sum(axes) for each in own]) / n
        centred = [each - mean for each in own]
        variance = summed([(each * each).sum(axes) for each in centred]) / n
        deviation = (variance + epsilon).sqrt()
        normal += [each / deviation for each in centred]
        rows = sum(setting.sizes[s] for s in group)
        shares.append((rows / setting.rows, mean, variance, count))
    setting.statistics[setting.place] = shares
    return [g * each + b for each, g, b in zip(normal, gamma, beta, strict=True)]


def summed(terms: Sequence[Node]) -> Node:
    """Return the sum of at least one node."""
    total = terms[0]
    for each in terms[1:]:
        total = total + each
    return total


@forward.register
def _(layer: Residual, x: Shards, weights: Weights, setting: Setting) -> Shards:
    shape = x[0].shape[1:]
    rows = [place(layer.layers, shape), place(layer.shortcut, shape)]
    count = sum(len(each.parameters) for each in rows[0])
    parts = (slice(None, count), slice(count, None))
    ways = [
        row_forward(row, x, weights[own], setting.at(way, frozen=setting.frozen[own]))
        for way, (row, own) in enumerate(zip(rows, parts, strict=True))
    ]
    return [f + g for f, g in zip(*ways, strict=True)]


@forward.register
def _(layer: Conv2D, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    found = []
    for each, w, b in zip(x, *weights, strict=True):
        windows, shape = _windows(layer, each)
        patches = windows.reshape(math.prod(shape), math.prod(windows.shape[2:]))
        y = patches @ w.reshape(-1, layer.filters) + b
        found.append(y.reshape(*shape, layer.filters))
    return found


@forward.register
def _(layer: MaxPool2D, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    found = []
    for each in x:
        windows, shape = _windows(layer, each)
        largest, index = windows.swapped().largest()
        setting.branched(index)
        found.append(largest.reshape(*shape, -1))
    return found


@forward.register
def _(layer: AvgPool2D, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    found = []
    for each in x:
        windows, shape = _windows(layer, each)
        mean = windows.sum(2) / each.constant(float(windows.shape[2]))
        found.append(mean.reshape(*shape, -1))
    return found


def _windows(layer: Windowed, x: Node) -> tuple[Node, tuple[int, ...]]:
    """Return ``(rows, windows, elements, C)``, and the shape of the output but for its features."""
    over = windows_of(layer, x.shape[1:])
    rows = len(x.value)
    return x.reshape(rows, -1, over.image[2]).gathered(_pixels(over)), (rows, *over.places)


class Windows(NamedTuple):
    """Windows over an image, made of what a layer is told alone; pairs are (vertical, horizontal).

    Attributes:
        image: ``(H, W, C)``.
        size: of a window.
        stride: from one to the next.
        padding: zeros on every side.
        places: how many windows there are.
    """

    image: tuple[int, int, int]
    size: Pair
    stride: Pair
    padding: Pair
    places: Pair


def windows_of(layer: Windowed, shape: tuple[int, ...]) -> Windows:
    """Return the windows over samples ``(H, W)`` or ``(H, W, C)``."""
    height, width, channels = (*shape, 1)[:3]
    size, stride = _pair(layer.size), _pair(layer.size if layer.stride is None else layer.stride)
    padding = _pair(layer.padding) if isinstance(layer, Conv2D) else (0, 0)
    places = (
        (height + 2 * padding[0] - size[0]) // stride[0] + 1,
        (width + 2 * padding[1] - size[1]) // stride[1] + 1,
    )
    return Windows((height, width, channels), size, stride, padding, places)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


@cache
def _pixels(over: Windows) -> Array:
    """Return ``(windows, elements)``: which pixel each element of each window reads, -1 outside."""
    (height, width, _), (down, across), (above, left) = over.image, over.stride, over.padding
    found = []
    for p, q, i, j in np.ndindex(*over.places, *over.size):
        r, c = p * down + i - above, q * across + j - left
        found.append(r * width + c if 0 <= r < height and 0 <= c < width else -1)
    return np.array(found).reshape(math.prod(over.places), -1)
