"""Wrong layers and losses, to predict what each mistake would do to a gradient.

Each takes the place of one layer of the reference, or of the loss. What it computes, the
reference's own tape differentiates. Where only the derivative is wrong, the value of the right
computation is taken, and the derivative of another one: `instead`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.reference.layers import Shards, Weights, forward, summed, windows_of
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import Node
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.convolution import Conv2D
from dptrain.nn.cross_entropy import SoftmaxCrossEntropy
from dptrain.nn.dense import Dense
from dptrain.nn.layer import Activation, Layer
from dptrain.nn.loss import Loss
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU

Array = NDArray[Any]
Forward = Callable[[Any, Shards, Weights, Setting], Shards]
Ranges = Sequence[tuple[int, int]]
Moments = tuple[Node, Node]

SLOPE, MEANS = "activation-derivative", "batchnorm-mean-of-means"
SUMS = "batchnorm-backward-local"


def instead(value: Node, derivative: Node) -> Node:
    """Return a value with the derivative of something else of the same shape."""
    return Node(value.bounded, (derivative,), lambda g: [g])


def multiplied(x: Node, factor: Any) -> Node:
    """Return a node times numbers that nothing is differentiated by."""
    return x * x.constant(np.asarray(factor, float))


def backwards(derivative: Callable[[Node, Node, Any], Node]) -> Forward:
    """Return a layer whose values are right, and whose derivative is that of something else.

    Args:
        derivative: is given input, right output and layer.
    """

    def run(layer: Any, x: Shards, weights: Weights, setting: Setting) -> Shards:
        y = forward(layer, x, weights, setting)
        return [instead(b, derivative(a, b, layer)) for a, b in zip(x, y, strict=True)]

    return run


def _open_at_zero(x: Node, _: Node, layer: Any) -> Node:
    return multiplied(x, np.where(x.value >= 0, 1.0, getattr(layer, "negative_slope", 0.0)))


def _at_output(layer: Any, x: Shards, weights: Weights, setting: Setting) -> Shards:
    y = forward(layer, x, weights, setting)
    moved = list(map(instead, y, x))
    return list(map(instead, y, forward(layer, moved, weights, setting)))


def _another(other: Layer) -> Forward:
    return lambda _, x, weights, setting: forward(other, x, weights, setting)


def _with_bias(change: Callable[[Node, int], Node]) -> Forward:
    """Return a layer with another derivative by its bias, of which rows it is summed over."""

    def run(layer: Any, x: Shards, weights: Weights, setting: Setting) -> Shards:
        w, b = weights
        biases = [instead(own, change(own, len(a.value))) for own, a in zip(b, x, strict=True)]
        return forward(layer, x, [w, biases], setting)

    return run


def _input_through(wrong: Forward, mirror: slice = slice(None)) -> Forward:
    """Return a layer whose gradient of the weights is right, and of the input another's.

    Args:
        wrong: whose.
        mirror: how it reads the filters.
    """

    def run(layer: Any, x: Shards, weights: Weights, setting: Setting) -> Shards:
        w, b = weights
        own = forward(layer, [_fixed(each) for each in x], weights, setting)
        filters = [each.constant(each.value[mirror, mirror]) for each in w]
        passed = wrong(layer, x, [filters, [_fixed(each) for each in b]], setting)
        return [instead(a, a + c) for a, c in zip(own, passed, strict=True)]

    return run


def _fixed(x: Node) -> Node:
    return x.constant(x.value)


def _off_by_one(layer: Conv2D, x: Shards, weights: Weights, _: Setting) -> Shards:
    """Return as many windows as there should be, with one pixel less of padding before them."""
    over = windows_of(layer, x[0].shape[1:])
    height, width, channels = over.image
    sides = zip(over.places, over.stride, over.padding, over.size, strict=True)
    top, left = (
        np.arange(count)[:, np.newaxis] * stride - max(0, padding - 1) + np.arange(size)
        for count, stride, padding, size in sides
    )
    r, c = top[:, np.newaxis, :, np.newaxis], left[np.newaxis, :, np.newaxis, :]
    index = np.where((r < height) & (c < width) & (r >= 0) & (c >= 0), r * width + c, -1)
    index = index.reshape(math.prod(over.places), -1)
    found = []
    for each, w, b in zip(x, *weights, strict=True):
        rows = len(each.value)
        patches = each.reshape(rows, -1, channels).gathered(index).reshape(rows * len(index), -1)
        y = patches @ w.reshape(-1, layer.filters) + b
        found.append(y.reshape(rows, *over.places, layer.filters))
    return found


def _to_all_ties(x: Node, y: Node, layer: MaxPool2D) -> Node:
    """Return the sum of what is as large as the maximum of its window."""
    over = windows_of(layer, x.shape[1:])
    pixels = np.arange(math.prod(over.image[:2])).reshape(over.image[:2])
    cut = np.lib.stride_tricks.sliding_window_view(pixels, over.size)
    index = cut[:: over.stride[0], :: over.stride[1]].reshape(-1, math.prod(over.size))
    windows = x.reshape(len(x.value), -1, over.image[2]).gathered(index)
    largest = windows.value.max(axis=2, keepdims=True)
    return multiplied(windows, windows.value == largest).sum(2).reshape(*y.shape)


ROWS: dict[Any, list[Mistake[Forward]]] = {
    ReLU | LeakyReLU: [
        Mistake("relu-mask", "the derivative at 0 is that of positive inputs",
                backwards(_open_at_zero)),
        Mistake("relu-mask", "the derivative is that of positive inputs everywhere",
                backwards(lambda x, _, __: x)),
    ],
    Activation: [
        Mistake(SLOPE, "the derivative is missing", backwards(lambda x, _, __: x)),
        Mistake(SLOPE, "the derivative is taken at the output", _at_output),
        Mistake("sign", "the derivative has the wrong sign",
                backwards(lambda _, y, __: multiplied(y, -1))),
    ],
    Dense: [
        Mistake("bias-missing", "the bias gradient is missing", _with_bias(lambda b, _: _fixed(b))),
        Mistake("bias-axis", "the bias gradient is not summed over the rows",
                _with_bias(lambda b, rows: multiplied(b, 1 / rows))),
        Mistake("bias-axis", "the bias gradient is summed over the units",
                _with_bias(lambda b, _: b.sum(0, keepdims=True) + b.constant(np.zeros(b.shape)))),
    ],
    Conv2D: [
        Mistake("conv-flip", "the input's gradient is made with the mirrored filter",
                _input_through(forward, slice(None, None, -1))),
        Mistake("padding-offset", "the way back is off by one", _input_through(_off_by_one)),
    ],
    AvgPool2D: [
        Mistake("missing-mean", "the mean is missing in the backward pass", backwards(
            lambda x, y, layer: multiplied(y, math.prod(windows_of(layer, x.shape[1:]).size)))),
    ],
    MaxPool2D: [
        Mistake("pooling-ties", "equal maxima each get the whole gradient",
                backwards(_to_all_ties)),
    ],
}  # fmt: skip


def mistakes_of(layer: Layer, ranks: Ranges) -> Iterator[Mistake[Forward]]:
    """Yield what may be wrong with a layer, other than dropout; sentences are about the layer.

    Args:
        layer: of the network.
        ranks: each rank's range of shards.
    """
    for kinds, rows in ROWS.items():
        if isinstance(layer, kinds) and not isinstance(layer, Identity):
            yield from rows
    if isinstance(layer, Activation):
        for other in (Sigmoid(), Tanh(), ReLU(), Identity()):
            if type(other) is not type(layer):
                sentence = f"it is computed as {other.kind}: the network was not built anew"
                yield Mistake("network-not-rebuilt", sentence, _another(other))
    if isinstance(layer, BatchNorm) and layer.sync:
        yield from _of_batch_norm(ranks)


def _of_batch_norm(ranks: Ranges) -> Iterator[Mistake[Forward]]:
    """Yield what may be wrong with a batch norm over the rows of all ranks."""
    for running, what in (
        (False, "the minibatch's statistics, although it is frozen"),
        (True, "its running averages, as in an evaluation"),
    ):
        yield Mistake("batchnorm-mode", f"it normalises by {what}", _in_mode(running=running))
    fixed = _normal(lambda x: [(_fixed(m), _fixed(v)) for m, v in [_moments(x)] * len(x)])
    yield Mistake(SLOPE, "the statistics are taken as constants", fixed)
    everything = [(0, 10**9)]
    sentence = "all shards count alike in mean and variance, whatever their rows"
    alike = _normal(lambda x: _by_formula(x, _counted_alike(x), everything))
    yield Mistake(MEANS, sentence, alike)
    sentence = "the sums of the backward pass count all shards alike"
    alike = _normal(lambda x: _by_formula(x, _moments(x), everything, _as_many))
    yield Mistake(MEANS, sentence, alike)
    shards = [(s, s + 1) for s in range(ranks[-1][1])]
    for whose, some in (("rank", ranks), ("shard", shards)):
        yield from _of_groups(whose, some)


def _of_groups(whose: str, some: Ranges) -> Iterator[Mistake[Forward]]:
    """Yield what may be wrong with a batch norm whose statistics are those of each rank, say."""

    def local(x: Shards) -> list[Moments]:
        return [each for own in _cut(x, some) for each in [_moments(own)] * len(own)]

    def means(x: Shards) -> list[Moments]:
        own = [_moments(each) for each in _cut(x, some)]
        mean, variance = (
            multiplied(summed([moments[i] for moments in own]), 1 / len(own)) for i in (0, 1)
        )
        return [(mean, variance)] * len(x)

    sentence = f"the statistics are those of each {whose} by itself"
    yield Mistake("batchnorm-local", sentence, _normal(local))
    sentence = f"mean and variance are means over the {whose}s, whatever their rows"
    yield Mistake(MEANS, sentence, _normal(means))
    sentence = f"the backward pass takes the sums of each {whose} by itself"
    yield Mistake(SUMS, sentence, _normal(lambda x: _by_formula(x, _moments(x), some)))
    of_all = _normal(lambda x: _by_formula(x, _moments(x), some, count=lambda x, *_: _count(x)))
    yield Mistake(SUMS, sentence, of_all)


def _normal(statistics: Callable[[Shards], Sequence[Moments]]) -> Forward:
    """Return a batch norm with other means and variances, those of every shard."""

    def run(layer: BatchNorm, x: Shards, weights: Weights, _: Setting) -> Shards:
        epsilon = x[0].constant(layer.epsilon)
        parts = zip(x, statistics(x), weights[0], weights[1], strict=True)
        return [g * ((each - m) / (v + epsilon).sqrt()) + b for each, (m, v), g, b in parts]

    return run


def _in_mode(*, running: bool) -> Forward:
    return lambda layer, x, weights, setting: forward(
        layer, x, weights, replace(setting, frozen=4 * (running,))
    )


def _cut(x: Shards, some: Ranges) -> list[Shards]:
    """Return the shards of each range that has some."""
    return [own for low, high in some if (own := x[low:high])]


def _count(x: Shards) -> int:
    return sum(each.value[..., 0].size for each in x)


def _sum(x: Shards, centre: Node | None = None) -> Node:
    """Return the sum over rows and pixels; of the squared distances, where there is a centre."""
    axes = tuple(range(len(x[0].shape) - 1))
    if centre is not None:
        x = [(each - centre) * (each - centre) for each in x]
    return summed([each.sum(axes) for each in x])


def _moments(x: Shards) -> Moments:
    mean = multiplied(_sum(x), 1 / _count(x))
    return mean, multiplied(_sum(x, mean), 1 / _count(x))


def _counted_alike(x: Shards) -> Moments:
    """Return moments in which shards count alike: in means, and in the spread of their means."""
    means = [_moments([each])[0] for each in x]
    mean = multiplied(summed(means), 1 / len(x))
    own = summed([_sum([each], m) for each, m in zip(x, means, strict=True)])
    between = summed([(m - mean) * (m - mean) for m in means])
    return mean, multiplied(own, 1 / _count(x)) + multiplied(between, 1 / len(x))


def _as_many(x: Shards, _: Shards, each: Node) -> int:
    """Return n as if every shard had as many rows as one of them."""
    return len(x) * _count([each])


def _by_formula(
    x: Shards,
    moments: Moments,
    some: Ranges,
    count: Callable[[Shards, Shards, Node], int] = lambda _, own, __: _count(own),
) -> list[Moments]:
    """Return moments that are differentiated as the usual formula is, with sums of some shards.

    That is ``dx = γ/σ (dy - Σ dy / n - x̂ Σ dy x̂ / n)``.

    Args:
        x: rows of all shards.
        moments: mean and variance of all.
        some: over which shards sums are taken.
        count: returns n, of all shards, of those that are summed, and for one of these.
    """
    found = []
    for own in _cut(x, some):
        sums = _sum(own), _sum(own, _fixed(moments[0]))
        for each in own:
            parts = [multiplied(total, 1 / count(x, own, each)) for total in sums]
            found.append((instead(moments[0], parts[0]), instead(moments[1], parts[1])))
    return found


def mistakes_of_loss(loss: Loss) -> Iterator[Mistake[Any]]:
    """Yield what may be wrong with a loss; each changes what goes back into the outputs."""
    if isinstance(loss, SoftmaxCrossEntropy):
        for axes, what in (
            (None, "all outputs of a shard"),
            ((0,), "the rows of a shard"),
            ((), "the whole minibatch"),
        ):
            change = _softmax_over(axes)
            yield Mistake("softmax-axis", f"the softmax is over {what}", change)
        yield Mistake(SLOPE, "the labels are not subtracted", _softmax_over((1,), labelled=0.0))


def _softmax_over(axes: tuple[int, ...] | None, labelled: float = 1.0) -> Any:
    """Return a loss whose softmax is over some axes of a shard's outputs; if empty, over all."""

    def change(y: Shards, batch: Any) -> Shards:
        top = max(each.value.max() for each in y)
        powers = [np.exp(each.value - top) for each in y]
        whole = sum(each.sum() for each in powers)
        found = []
        for outputs, power, t in zip(y, powers, batch.targets, strict=True):
            wrong = power / (whole if axes == () else power.sum(axis=axes, keepdims=True))
            wrong[np.arange(len(t)), t] -= labelled
            found.append(_passingbackwards(outputs, wrong / sum(batch.sizes)))
        return found

    return change


def _passingbackwards(outputs: Node, gradient: Array) -> Node:
    return Node(outputs.bounded, (outputs,), lambda g: [g.exactly(gradient)])
