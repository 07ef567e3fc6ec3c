"""Wrong layers and losses, to predict what each kind of bug would do to a gradient.

Each takes the place of one layer of the reference, or of the loss. What a mutant computes, the
reference's own tape differentiates, unless the bug is in the derivative: then the pull is replaced.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.bounded import Bounded
from dptrain.gradcheck.reference.dropout_mutants import dropout_mutants
from dptrain.gradcheck.reference.layers import Shards, Weights, forward, window_pixels
from dptrain.gradcheck.reference.mutant import Forward, Mutant
from dptrain.gradcheck.reference.normalisation_mutants import (
    batch_norm_mutants,
    constant_statistics,
)
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import Node
from dptrain.gradcheck.reference.windows import windows_of
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense
from dptrain.nn.dropout import Dropout
from dptrain.nn.layer import Activation, Layer
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU

Array = NDArray[Any]


def mutants(layer: Layer, ranks: Sequence[tuple[int, int]]) -> Iterator[Mutant]:
    """Yield the bugs that a layer could have.

    Args:
        layer: of the network.
        ranks: each rank's range of shards.
    """
    if isinstance(layer, ReLU | LeakyReLU):
        yield Mutant("relu-mask", "the derivative at 0 is that of positive inputs", _open_at_zero)
        yield Mutant("relu-mask", "the derivative is that of positive inputs everywhere", _straight)
    if isinstance(layer, Activation) and not isinstance(layer, Identity):
        yield Mutant("activation-derivative", "the derivative is missing", _straight)
        yield Mutant("activation-derivative", "the derivative is taken at the output", _at_output)
        yield Mutant("sign", "the derivative has the wrong sign", _negated)
        for other in (Sigmoid(), Tanh(), ReLU(), Identity()):
            if type(other) is not type(layer):
                sentence = f"it is computed as {other.kind}: the network was not built anew"
                yield Mutant("network-not-rebuilt", sentence, _another(other))
    if isinstance(layer, Dense):
        yield Mutant("bias-missing", "the bias gradient is missing", _without_bias)
        yield Mutant("bias-axis", "the bias gradient is not summed over the rows", _bias_of_one_row)
        yield Mutant("bias-axis", "the bias gradient is summed over the units", _bias_over_units)
        yield Mutant("sign", "the input's gradient has the wrong sign", _input_negated)
        yield Mutant("transposed", "the weight gradient is transposed", _weights_transposed)
    if isinstance(layer, Conv2D):
        yield Mutant(
            "conv-flip", "the input's gradient is made with the mirrored filter", _mirrored
        )
        yield Mutant("padding-offset", "the padding is off by one", _off_by_one(1))
        yield Mutant("padding-offset", "the padding is off by one", _off_by_one(-1))
        yield Mutant("padding-offset", "the way back is off by one", _back_off_by_one)
    if isinstance(layer, AvgPool2D):
        yield Mutant("missing-mean", "the mean is missing in the backward pass", _unaveraged)
    if isinstance(layer, MaxPool2D):
        yield Mutant("pooling-ties", "equal maxima each get the whole gradient", _to_all_ties)
    if isinstance(layer, LayerNorm) or (isinstance(layer, BatchNorm) and layer.sync):
        yield Mutant(
            "activation-derivative", "the statistics are taken as constants", constant_statistics
        )
    if isinstance(layer, BatchNorm) and layer.sync:
        yield from batch_norm_mutants(ranks)
    if isinstance(layer, Dropout) and layer.rate:
        yield from dropout_mutants(ranks)


def _pulled(
    layer: Layer,
    x: Shards,
    weights: Weights,
    setting: Setting,
    change: Callable[[Node, Bounded], Bounded],
) -> Shards:
    """Return the right values with another derivative: ``change`` of the input and the gradient."""
    y = forward(layer, x, weights, setting)
    return [_with_pull(right, each, change) for right, each in zip(y, x, strict=True)]


def _with_pull(value: Node, parent: Node, change: Callable[[Node, Bounded], Bounded]) -> Node:
    return Node(value.bounded, (parent,), lambda g: [change(parent, g)])


def _another(other: Layer) -> Forward:
    def run(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
        return forward(other, x, weights, setting)

    return run


def _straight(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    return _pulled(layer, x, weights, setting, lambda _, g: g)


def _negated(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    return _scaled_gradient(forward(layer, x, weights, setting), -1.0)


def _at_output(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    found = []
    for each, right in zip(x, forward(layer, x, weights, setting), strict=True):
        (again,) = forward(layer, [right], weights, setting)
        found.append(Node(right.bounded, (each,), again.pull))
    return found


def _open_at_zero(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    negative = layer.negative_slope if isinstance(layer, LeakyReLU) else 0.0
    return _pulled(
        layer,
        x,
        weights,
        setting,
        lambda each, g: g * g.exactly(np.where(each.value >= 0, 1.0, negative)),
    )


def _scaled_gradient(y: Shards, factor: float) -> Shards:
    return [Node(each.bounded, (each,), lambda g: [g * g.exactly(factor)]) for each in y]


def _without_bias(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    w, b = weights
    return forward(layer, x, [w, [each.constant(each.value) for each in b]], setting)


def _bias_of_one_row(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    w, b = weights
    biases = []
    for each, rows in zip(b, x, strict=True):
        biases.append(_scaled_gradient([each], 1 / len(rows.value))[0])
    return forward(layer, x, [w, biases], setting)


def _bias_over_units(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    w, b = weights
    biases = [
        _with_pull(each, each, lambda _, g: g * g.exactly(0.0) + g.sum(0, keepdims=True))
        for each in b
    ]
    return forward(layer, x, [w, biases], setting)


def _unaveraged(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    assert isinstance(layer, AvgPool2D)
    size = windows_of(layer, x[0].shape[1:]).size
    return _scaled_gradient(forward(layer, x, weights, setting), float(math.prod(size)))


def _back_off_by_one(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    """The gradient of the weights is right, that of the input is of windows one pixel off."""
    w, b = weights
    right = forward(layer, [each.constant(each.value) for each in x], weights, setting)
    constant = [[each.constant(each.value) for each in own] for own in (w, b)]
    wrong = _off_by_one(-1)(layer, x, constant, setting)
    return [
        Node(y.bounded, (y, other), lambda g: [g, g]) for y, other in zip(right, wrong, strict=True)
    ]


def _input_negated(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    return forward(layer, _scaled_gradient(x, -1.0), weights, setting)


def _weights_transposed(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    w, b = weights
    turned = [
        Node(
            each.bounded,
            (each,),
            lambda g: [g.transposed.reshape(*g.shape)],
        )
        for each in w
    ]
    return forward(layer, x, [turned, b], setting)


def _mirrored(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    """The gradient of the input comes through mirrored filters, that of the weights is right."""
    w, b = weights
    right = forward(layer, [each.constant(each.value) for each in x], weights, setting)
    mirrored = [each.constant(each.value[::-1, ::-1]) for each in w]
    wrong = forward(layer, x, [mirrored, [each.constant(each.value) for each in b]], setting)
    return [
        Node(y.bounded, (y, other), lambda g: [g, g]) for y, other in zip(right, wrong, strict=True)
    ]


def _off_by_one(shift: int) -> Forward:
    """As many windows as there should be, with padding before that is off by one."""

    def moved(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
        assert isinstance(layer, Conv2D)
        over = windows_of(layer, x[0].shape[1:])
        before = tuple(max(0, p + shift) for p in over.padding)
        index = shifted_windows(over.image[:2], over.size, over.stride, before, over.places)
        found = []
        for each, w, b in zip(x, *weights, strict=True):
            rows, channels = len(each.value), over.image[2]
            patches = each.reshape(rows, -1, channels).gathered(index)
            flat = patches.reshape(rows * len(index), -1)
            y = flat @ w.reshape(-1, layer.filters) + b
            found.append(y.reshape(rows, *over.places, layer.filters))
        return found

    return moved


def shifted_windows(
    image: tuple[int, ...],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    before: tuple[int, ...],
    places: tuple[int, ...],
) -> Array:
    """Return ``(windows, elements)`` as `window_pixels`, whatever the padding leaves room for."""
    (height, width), found = image, []
    for p in range(places[0]):
        for q in range(places[1]):
            top, left = p * stride[0] - before[0], q * stride[1] - before[1]
            cells = [(top + i, left + j) for i in range(size[0]) for j in range(size[1])]
            found.append(
                [r * width + c if 0 <= r < height and 0 <= c < width else -1 for r, c in cells]
            )
    return np.array(found)


def _to_all_ties(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    assert isinstance(layer, MaxPool2D)
    found = []
    for each in x:
        over = windows_of(layer, each.shape[1:])
        index = window_pixels(over.image[:2], over.size, over.stride, (0, 0))
        rows, channels = len(each.value), over.image[2]
        windows = each.reshape(rows, -1, channels).gathered(index).swapped()
        largest = windows.value.max(axis=-1, keepdims=True)
        ties = (windows.value == largest).astype(float)
        value = windows.bounded.like(largest[..., 0], np.zeros(largest.shape[:-1]))
        node = Node(value, (windows,), _to_ties(ties))
        found.append(node.reshape(rows, *over.places, channels))
    return found


def _to_ties(ties: Array) -> Callable[[Bounded], Sequence[Bounded]]:
    return lambda g: [g.reshape(*g.shape, 1) * g.exactly(ties)]
