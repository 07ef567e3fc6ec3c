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
from dptrain.gradcheck.reference.layers import Shards, Weights, forward, summed
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import Node
from dptrain.gradcheck.reference.windows import windows_of
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.convolution import Conv2D
from dptrain.nn.cross_entropy import SoftmaxCrossEntropy
from dptrain.nn.dense import Dense
from dptrain.nn.layer import Activation, Layer
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.loss import Loss
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU

Array = NDArray[Any]
Forward = Callable[[Any, Shards, Weights, Setting], Shards]
Ranges = Sequence[tuple[int, int]]

SLOPE, SUMS = "activation-derivative", "batchnorm-backward-local"
MEANS = "batchnorm-mean-of-means"


def instead(value: Node, derivative: Node) -> Node:
    """Return a value with the derivative of something else of the same shape."""
    return Node(value.bounded, (derivative,), lambda g: [g])


def mistakes_of(layer: Layer, ranks: Ranges) -> Iterator[Mistake[Forward]]:
    """Yield what may be wrong with a layer, other than dropout; sentences are about the layer.

    Args:
        layer: of the network.
        ranks: each rank's range of shards.
    """
    for kinds, rows in ROWS.items():
        if isinstance(layer, kinds):
            yield from rows
    if isinstance(layer, Activation) and not isinstance(layer, Identity):
        for other in (Sigmoid(), Tanh(), ReLU(), Identity()):
            if type(other) is not type(layer):
                sentence = f"it is computed as {other.kind}: the network was not built anew"
                yield Mistake("network-not-rebuilt", sentence, _another(other))
    if isinstance(layer, LayerNorm) or (isinstance(layer, BatchNorm) and layer.sync):
        sentence = "the statistics are taken as constants"
        yield Mistake(SLOPE, sentence, _constant_statistics)
    if isinstance(layer, BatchNorm) and layer.sync:
        yield from _of_batch_norm(ranks)


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
    moved = [instead(b, a) for a, b in zip(x, y, strict=True)]
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


def _off_by_one(shift: int) -> Forward:
    """Return as many windows as there should be, with padding before that is off by one."""

    def run(layer: Conv2D, x: Shards, weights: Weights, _: Setting) -> Shards:
        over = windows_of(layer, x[0].shape[1:])
        height, width, channels = over.image
        sides = zip(over.places, over.stride, over.padding, over.size, strict=True)
        top, left = (
            np.arange(count)[:, np.newaxis] * stride - max(0, padding + shift) + np.arange(size)
            for count, stride, padding, size in sides
        )
        r, c = top[:, np.newaxis, :, np.newaxis], left[np.newaxis, :, np.newaxis, :]
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        index = np.where(inside, r * width + c, -1).reshape(math.prod(over.places), -1)
        found = []
        for each, w, b in zip(x, *weights, strict=True):
            pixels = each.reshape(len(each.value), -1, channels).gathered(index)
            flat = pixels.reshape(len(each.value) * len(index), -1)
            y = flat @ w.reshape(-1, layer.filters) + b
            found.append(y.reshape(len(each.value), *over.places, layer.filters))
        return found

    return run


def _to_all_ties(layer: MaxPool2D, x: Shards, weights: Weights, setting: Setting) -> Shards:
    found = []
    for each, y in zip(x, forward(layer, x, weights, setting), strict=True):
        # a window's maximum once more: the sum of what is as large as it, without the others
        over = windows_of(layer, each.shape[1:])
        pixels = each.reshape(len(each.value), -1, over.image[2])
        image = np.arange(over.image[0] * over.image[1]).reshape(over.image[:2])
        cut = np.lib.stride_tricks.sliding_window_view(image, over.size)
        index = cut[:: over.stride[0], :: over.stride[1]].reshape(-1, math.prod(over.size))
        windows = pixels.gathered(index)
        largest = windows.value.max(axis=2, keepdims=True)
        ties = multiplied(windows, windows.value == largest).sum(2)
        found.append(instead(y, ties.reshape(*y.shape)))
    return found


ROWS: dict[Any, list[Mistake[Forward]]] = {
    ReLU | LeakyReLU: [
        Mistake(
            "relu-mask", "the derivative at 0 is that of positive inputs", backwards(_open_at_zero)
        ),
        Mistake(
            "relu-mask",
            "the derivative is that of positive inputs everywhere",
            backwards(lambda x, _, __: x),
        ),
    ],
    Activation: [
        Mistake(SLOPE, "the derivative is missing", backwards(lambda x, _, __: x)),
        Mistake(SLOPE, "the derivative is taken at the output", _at_output),
        Mistake(
            "sign",
            "the derivative has the wrong sign",
            backwards(lambda _, y, __: multiplied(y, -1)),
        ),
    ],
    Dense: [
        Mistake("bias-missing", "the bias gradient is missing", _with_bias(lambda b, _: _fixed(b))),
        Mistake(
            "bias-axis",
            "the bias gradient is not summed over the rows",
            _with_bias(lambda b, rows: multiplied(b, 1 / rows)),
        ),
        Mistake(
            "bias-axis",
            "the bias gradient is summed over the units",
            _with_bias(lambda b, _: b.sum(0, keepdims=True) + b.constant(np.zeros(b.shape))),
        ),
    ],
    Conv2D: [
        Mistake(
            "conv-flip",
            "the input's gradient is made with the mirrored filter",
            _input_through(forward, slice(None, None, -1)),
        ),
        Mistake("padding-offset", "the way back is off by one", _input_through(_off_by_one(-1))),
    ],
    AvgPool2D: [
        Mistake(
            "missing-mean",
            "the mean is missing in the backward pass",
            backwards(
                lambda x, y, layer: multiplied(y, math.prod(windows_of(layer, x.shape[1:]).size))
            ),
        ),
    ],
    MaxPool2D: [
        Mistake("pooling-ties", "equal maxima each get the whole gradient", _to_all_ties),
    ],
}


def _of_batch_norm(ranks: Ranges) -> Iterator[Mistake[Forward]]:
    """Yield what may be wrong with a batch norm over the rows of all ranks."""
    for running, what in (
        (False, "the minibatch's statistics, although it is frozen"),
        (True, "its running averages, as in an evaluation"),
    ):
        sentence = f"it normalises by {what}"
        yield Mistake("batchnorm-mode", sentence, _in_mode(running=running))
    sentence = "all shards count alike in mean and variance, whatever their rows"
    yield Mistake(MEANS, sentence, _normal(lambda x: [_counted_alike(x)] * len(x)))
    yield Mistake(MEANS, sentence, _normal(lambda x: _by_formula(x, *_counted_alike(x), [1.0])))
    sentence = "the sums of the backward pass count all shards alike"
    yield Mistake(MEANS, sentence, _normal(lambda x: _by_formula(x, *_moments(x), _shares(x))))
    for whose in ("rank", "shard"):
        of = ranks if whose == "rank" else None
        sentence = f"the statistics are those of each {whose} by itself"
        yield Mistake("batchnorm-local", sentence, _normal(_of_each(of)))
        sentence = f"mean and variance are means over the {whose}s, whatever their rows"
        yield Mistake(MEANS, sentence, _normal(_means_over(of)))
        sentence = f"the backward pass takes the sums of each {whose} by itself"
        yield Mistake(SUMS, sentence, _normal(_sums_of_each(of, divided_by_all=False)))
        yield Mistake(SUMS, sentence, _normal(_sums_of_each(of, divided_by_all=True)))


Moments = tuple[Node, Node]


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


def _groups(x: Shards, ranks: Ranges | None) -> list[list[int]]:
    """Return the shards of each rank that has some, or each by itself."""
    ranges = ranks if ranks is not None else [(s, s + 1) for s in range(len(x))]
    found = [list(range(low, min(high, len(x)))) for low, high in ranges]
    return [each for each in found if each]


def _of_each(ranks: Ranges | None) -> Callable[[Shards], list[Moments]]:
    def statistics(x: Shards) -> list[Moments]:
        groups = _groups(x, ranks)
        return [each for own in groups for each in [_moments([x[s] for s in own])] * len(own)]

    return statistics


def _means_over(ranks: Ranges | None) -> Callable[[Shards], list[Moments]]:
    def statistics(x: Shards) -> list[Moments]:
        own = [_moments([x[s] for s in group]) for group in _groups(x, ranks)]
        mean, variance = (multiplied(summed(list(each)), 1 / len(own)) for each in zip(*own))  # noqa: B905
        return [(mean, variance)] * len(x)

    return statistics


def _counted_alike(x: Shards) -> Moments:
    """Return moments in which shards count alike: in means, and in the spread of their means."""
    means = [_moments([each])[0] for each in x]
    mean = multiplied(summed(means), 1 / len(x))
    own = summed([_sum([each], m) for each, m in zip(x, means, strict=True)])
    between = summed([(m - mean) * (m - mean) for m in means])
    return mean, multiplied(own, 1 / _count(x)) + multiplied(between, 1 / len(x))


def _shares(x: Shards) -> list[float]:
    """Return how often each shard counts where all count alike."""
    return [_count(x) / (len(x) * _count([each])) for each in x]


def _by_formula(x: Shards, mean: Node, variance: Node, shares: list[float]) -> list[Moments]:
    """Return moments that are differentiated as the usual formula is: sums over all rows.

    ``shares`` weigh each shard's gradients in these sums; if it is one, all alike.
    """
    sums = _sum(x), _sum(x, _fixed(mean))
    weigh = [each / _count(x) for each in shares] * (len(x) // len(shares))
    return [
        (instead(mean, multiplied(sums[0], share)), instead(variance, multiplied(sums[1], share)))
        for share in weigh
    ]


def _sums_of_each(
    ranks: Ranges | None, *, divided_by_all: bool
) -> Callable[[Shards], list[Moments]]:
    def statistics(x: Shards) -> list[Moments]:
        mean, variance = _moments(x)
        found = []
        for group in _groups(x, ranks):
            own = [x[s] for s in group]
            share = 1 / _count(x if divided_by_all else own)
            sums = multiplied(_sum(own), share), multiplied(_sum(own, _fixed(mean)), share)
            found += [(instead(mean, sums[0]), instead(variance, sums[1]))] * len(group)
        return found

    return statistics


def _constant_statistics(layer: Any, x: Shards, weights: Weights, _: Setting) -> Shards:
    """Differentiate as if mean and deviation were given: ``dx = γ dy / σ``."""
    found = []
    for each, gamma, beta in zip(x, weights[0], weights[1], strict=True):
        axes, own = (-1, each.value) if isinstance(layer, LayerNorm) else (0, _pooled(x))
        mean = each.constant(own.mean(axis=axes, keepdims=True))
        deviation = np.sqrt(own.var(axis=axes, keepdims=True) + layer.epsilon)
        found.append(gamma * ((each - mean) / each.constant(deviation)) + beta)
    return found


def _pooled(x: Shards) -> Array:
    return np.concatenate([each.value.reshape(-1, each.shape[-1]) for each in x])


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
