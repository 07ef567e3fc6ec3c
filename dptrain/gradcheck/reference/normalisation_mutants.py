"""Wrong batch norms and layer norms."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.bounded import Bounded
from dptrain.gradcheck.reference.layers import Shards, Weights, forward, moments, summed
from dptrain.gradcheck.reference.mutant import Forward, Mutant
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import Node
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.layer import Layer
from dptrain.nn.layernorm import LayerNorm

Array = NDArray[Any]


def batch_norm_mutants(ranks: Sequence[tuple[int, int]]) -> Iterator[Mutant]:
    """Yield the bugs that a synchronised batch norm could have."""

    def groups_of(count: int, kind: str) -> list[list[int]]:
        if kind == "shard":
            return [[s] for s in range(count)]
        found = [[s for s in range(low, high) if s < count] for low, high in ranks]
        return [each for each in found if each]

    def local(kind: str) -> Forward:
        def run(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
            return _normalised(layer, x, weights, groups_of(len(x), kind))

        return run

    def mean_of_means(kind: str) -> Forward:
        def run(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
            assert isinstance(layer, BatchNorm)
            groups = groups_of(len(x), kind)
            epsilon = x[0].constant(layer.epsilon)
            share = x[0].constant(1 / len(groups))
            found = [moments([x[s] for s in group], epsilon, {}, group)[:2] for group in groups]
            mean = summed([m for m, _ in found]) * share
            variance = summed([v for _, v in found]) * share
            deviation = (variance + epsilon).sqrt()
            return [
                g * ((each - mean) / deviation) + b
                for each, g, b in zip(x, weights[0], weights[1], strict=True)
            ]

        return run

    def equal_counts(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
        """Shards count alike in the means, and in the spread of their means, not in their own."""
        assert isinstance(layer, BatchNorm)
        axes = tuple(range(len(x[0].shape) - 1))
        total = sum(each.value[..., 0].size for each in x)
        share = total / len(x)
        means = [each.sum(axes) / each.constant(float(each.value[..., 0].size)) for each in x]
        mean = summed(means) / x[0].constant(float(len(x)))
        own = [((each - m) * (each - m)).sum(axes) for each, m in zip(x, means, strict=True)]
        spread = summed([(m - mean) * (m - mean) * mean.constant(share) for m in means]) + summed(
            own
        )
        deviation = (spread / mean.constant(float(total)) + mean.constant(layer.epsilon)).sqrt()
        return [
            g * ((each - mean) / deviation) + b
            for each, g, b in zip(x, weights[0], weights[1], strict=True)
        ]

    def local_backward(kind: str, *, of_all: bool) -> Forward:
        def run(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
            right = forward(layer, x, weights, setting)
            groups = groups_of(len(x), kind)
            mean, deviation = _pooled_moments(layer, x)
            normal = [(each.value - mean) / deviation for each in x]
            return _local_sums(
                x, right, weights, groups, normal=normal, deviation=deviation, of_all=of_all
            )

        return run

    def mode(*, running: bool) -> Forward:
        def run(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
            return forward(layer, x, weights, replace(setting, frozen=4 * (running,)))

        return run

    sentence = "it normalises by the minibatch's statistics, although it is frozen"
    yield Mutant("batchnorm-mode", sentence, mode(running=False))
    sentence = "it normalises by its running averages, as in an evaluation"
    yield Mutant("batchnorm-mode", sentence, mode(running=True))
    sentence = "all shards count alike in mean and variance, whatever their rows"
    yield Mutant("batchnorm-mean-of-means", sentence, equal_counts)
    yield Mutant("batchnorm-mean-of-means", sentence, _by_formula_of(equal_counts))
    sentence = "the sums of the backward pass count all shards alike"
    yield Mutant("batchnorm-mean-of-means", sentence, _equal_sums)
    for kind in ("rank", "shard"):
        sentence = f"the statistics are those of each {kind} by itself"
        yield Mutant("batchnorm-local", sentence, local(kind))
        sentence = f"mean and variance are means over the {kind}s, whatever their rows"
        yield Mutant("batchnorm-mean-of-means", sentence, mean_of_means(kind))
        sentence = f"the backward pass takes the sums of each {kind} by itself"
        for of_all in (False, True):
            run = local_backward(kind, of_all=of_all)
            yield Mutant("batchnorm-backward-local", sentence, run)


def _by_formula_of(wrong: Forward) -> Forward:
    """Return wrong values with the usual formula of the derivative, applied to what is wrong."""

    def run(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
        values = wrong(layer, x, weights, setting)
        pairs = list(zip(values, weights[0], weights[1], strict=True))
        normal = [(y.value - b.value) / g.value for y, g, b in pairs]
        flat = [each.reshape(-1, each.shape[-1]) for each in normal]
        rows = [each.value.reshape(-1, each.shape[-1]) for each in x]
        # the first two rows tell by what a distance was divided
        top, rest = np.concatenate(rows), np.concatenate(flat)
        spread = top.max(axis=0) - top.min(axis=0)
        deviation = spread / (rest.max(axis=0) - rest.min(axis=0))
        everything = [list(range(len(x)))]
        return _local_sums(
            x, values, weights, everything, normal=normal, deviation=deviation, of_all=True
        )

    return run


def _equal_sums(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:
    right = forward(layer, x, weights, setting)
    mean, deviation = _pooled_moments(layer, x)
    normal = [(each.value - mean) / deviation for each in x]
    counts = np.array([each.value[..., 0].size for each in x], float)
    shares = counts.sum() / (len(x) * counts)
    everything = [list(range(len(x)))]
    return _local_sums(
        x,
        right,
        weights,
        everything,
        normal=normal,
        deviation=deviation,
        shares=shares,
        of_all=True,
    )


def _normalised(
    layer: Layer, x: Shards, weights: Weights, groups: Sequence[Sequence[int]]
) -> Shards:
    assert isinstance(layer, BatchNorm)
    normal: dict[int, Node] = {}
    epsilon = x[0].constant(layer.epsilon)
    for group in groups:
        moments([x[s] for s in group], epsilon, normal, group)
    return [g * normal[s] + b for s, (g, b) in enumerate(zip(weights[0], weights[1], strict=True))]


def _local_sums(
    x: Shards,
    y: Shards,
    weights: Weights,
    groups: Sequence[Sequence[int]],
    *,
    normal: Sequence[Array],
    deviation: Array,
    of_all: bool,
    shares: Array | None = None,
) -> Shards:
    """``dx = γ/σ (dy - Σ dy / n - x̂ Σ dy x̂ / n)`` with sums over a group; n of the group or of all.

    ``shares`` weigh the shards in both sums.
    """
    count = sum(each.value[..., 0].size for each in x)
    found: dict[int, Node] = {}
    for group in groups:
        edges = np.cumsum([0, *(len(x[s].value) for s in group)])
        own = np.concatenate([normal[s] for s in group])
        ones = np.ones(len(x)) if shares is None else shares
        weigh = np.repeat(ones[list(group)], np.diff(edges)).reshape(-1, *[1] * (own.ndim - 1))
        axes = tuple(range(own.ndim - 1))
        n = count if of_all else own[..., 0].size
        gamma = weights[0][group[0]].value

        def pull(
            g: Bounded,
            own: Array = own,
            weigh: Array = weigh,
            edges: Array = edges,
            axes: tuple[int, ...] = axes,
            n: int = n,
            gamma: Array = gamma,
        ) -> Sequence[Bounded]:
            total = (weigh * g.value).sum(axis=axes)
            product = (weigh * g.value * own).sum(axis=axes)
            dx = gamma / deviation * (g.value - total / n - own * (product / n))
            parts = [slice(low, high) for low, high in pairwise(edges)]
            return [
                *(g.exactly(dx[each]) for each in parts),
                *(g.exactly((g.value[each] * own[each]).sum(axis=axes)) for each in parts),
                *(g.exactly(g.value[each].sum(axis=axes)) for each in parts),
            ]

        value = y[group[0]].bounded.exactly(np.concatenate([y[s].value for s in group]))
        parents = [each[s] for each in (x, weights[0], weights[1]) for s in group]
        joint = Node(value, parents, pull)
        for s, (low, high) in zip(group, pairwise(edges), strict=True):
            found[s] = _part(joint, int(low), int(high))
    return [found[s] for s in range(len(x))]


def _part(joint: Node, low: int, high: int) -> Node:
    def pull(g: Bounded) -> Sequence[Bounded]:
        whole = np.zeros(joint.shape)
        whole[low:high] = g.value
        return [g.exactly(whole)]

    return Node(joint.bounded[low:high], (joint,), pull)


def _pooled_moments(layer: Layer, x: Shards) -> tuple[Array, Array]:
    """Return mean and deviation over all rows."""
    assert isinstance(layer, BatchNorm)
    pooled = np.concatenate([each.value.reshape(-1, each.shape[-1]) for each in x])
    return pooled.mean(axis=0), np.sqrt(pooled.var(axis=0) + layer.epsilon)


def constant_statistics(layer: Layer, x: Shards, weights: Weights, setting: Setting) -> Shards:  # noqa: ARG001
    """Differentiate as if mean and deviation were given: ``dx = γ dy / σ``."""
    found = []
    for each, gamma, beta in zip(x, weights[0], weights[1], strict=True):
        if isinstance(layer, LayerNorm):
            mean = each.value.mean(axis=-1, keepdims=True)
            deviation = np.sqrt(each.value.var(axis=-1, keepdims=True) + layer.epsilon)
        else:
            mean, deviation = _pooled_moments(layer, x)
        found.append(gamma * ((each - each.constant(mean)) / each.constant(deviation)) + beta)
    return found
