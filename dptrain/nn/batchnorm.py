"""Batch normalisation: over the whole minibatch by default, whoever computes which shards."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from dptrain.arithmetic.tree import additions
from dptrain.errors import UsageError
from dptrain.nn.calls import Call, call
from dptrain.nn.initializers import Ones, Zeros
from dptrain.nn.layer import Array, Blocks, Layer, Operation, Parameter, Shape, Site
from dptrain.nn.layernorm import flat_features


class BatchNorm(Layer, frozen=True, tag="batchnorm"):
    """``y = γ (x - mean) / sqrt(var + ε) + β``, for each feature (the last axis) by itself.

    Ioffe and Szegedy 2015, "Batch normalization", algorithms 1 and 2. In training, mean and
    (biased) variance are those of the minibatch, over its rows and, for images, their positions:
    of the whole global minibatch, forward and backward, so that any number of workers computes
    what one process does. With ``sync=False`` they are those of each shard ("ghost" batch norm,
    Hoffer et al. 2017). Outside of training they are the running averages.

    Parameters: ``gamma``, ``beta``, and the running averages ``mean`` and ``variance`` (unbiased),
    which keep ``momentum`` of themselves in a step; all have one element a feature. The variance of
    a single value says nothing: such a minibatch, or its shard, leaves the running variance alone.
    """

    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    epsilon: Annotated[float, Meta(gt=0)] = 1e-5
    sync: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if not 0 <= self.momentum < 1:
            raise UsageError(
                f"the momentum of a batch norm is what its running averages keep of themselves; "
                f"it must be at least 0 and less than 1, not {self.momentum}"
            )
        if not self.epsilon > 0:
            raise UsageError(f"a batch norm needs an epsilon above 0, not {self.epsilon}")

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:
        """Return ``gamma`` and ``beta``, and the running averages."""
        shape = input_shape[-1:]
        fans = (shape[0], shape[0])
        rate = 1 - self.momentum
        return (
            Parameter("gamma", shape, Ones(), fans, decays=False),
            Parameter("beta", shape, Zeros(), fans, decays=False),
            Parameter("mean", shape, Zeros(), fans, decays=False, average=rate),
            Parameter("variance", shape, Ones(), fans, decays=False, average=rate),
        )

    def tables(self, input_shape: Shape) -> tuple[int, ...]:
        """Two: means and squares on the way forward, two sums on the way back."""
        return (2 * input_shape[-1], 2 * input_shape[-1]) if self.sync else ()

    def bind(self, site: Site) -> Operation:
        """Return what a training pass does, or what all others do."""
        if site.context.training and not all(site.frozen):
            kind = Synchronised if self.sync else Ghost
            return kind(site, self.epsilon)
        for columns in self.tables(site.input_shape) if site.context.training else ():
            site.context.meeting.table(0, columns)  # whoever counts tables knows nothing of frozen
        return Fixed(site, self.epsilon)


class Fixed(Operation):
    """Normalises with the running averages, as a linear function of each feature."""

    def __init__(self, site: Site, epsilon: float) -> None:
        self.outputs = site.inputs if site.overwrites else site.like(site.inputs)
        gamma, beta, mean, variance = site.weights
        scale, shift = (site.workspace.empty(gamma.shape, gamma.dtype) for _ in range(2))
        self.scale = scale
        self.forward_calls = [
            call(np.add, variance, gamma.dtype.type(epsilon), scale),
            call(np.sqrt, scale, scale),
            call(np.divide, gamma, scale, scale),
            call(np.multiply, mean, scale, shift),
            call(np.subtract, beta, shift, shift),
        ]
        for x, y in zip(site.inputs, self.outputs, strict=True):
            self.forward_calls += [call(np.multiply, x, scale, y), call(np.add, y, shift, y)]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Multiply by the scale; only for a frozen layer, whose parameters need no gradients."""
        return [call(np.multiply, dy, self.scale, dy) for dy in gradients], gradients


class Normalising(Operation):
    """What both kinds of minibatch statistics have in common.

    Attributes:
        x: the inputs as blocks ``(shards, positions, features)``, as all blocks here are.
        normal: ``(x - mean) / sqrt(var + ε)``; at first, ``x`` minus the mean of its shard.
        moments: of every shard, blocks ``(shards, 2, features)``: its mean, and the sum of the
            squared distances from it.
    """

    def __init__(self, site: Site, epsilon: float) -> None:
        self.site = site
        self.epsilon = epsilon
        self.gamma, self.beta, _, self.variance_now = site.weights
        self.dgamma, self.dbeta, self.dmean, self.dvariance = site.gradients
        self.outputs = site.inputs if site.overwrites else site.like(site.inputs)
        self.x = [flat_features(each) for each in site.inputs]
        self.y = [flat_features(each) for each in self.outputs]
        self.normal = site.like(self.x)
        self.moments = per_shard(site, 2)
        self.forward_calls = [
            *(each for i in range(len(self.x)) for each in self._moments(i)),
            *self.statistics(),
            *(each for i in range(len(self.x)) for each in self._finish(i)),
        ]

    def _moments(self, i: int) -> list[Call]:
        x, y, normal = self.x[i], self.y[i], self.normal[i]
        mean, squares = self.moments[i][:, :1], self.moments[i][:, 1:]
        return [
            call(np.add.reduce, x, 1, None, mean, keepdims=True),
            call(np.divide, mean, x.dtype.type(x.shape[1]), mean),
            call(np.subtract, x, mean, normal),
            call(np.multiply, normal, normal, y),
            call(np.add.reduce, y, 1, None, squares, keepdims=True),
        ]

    def statistics(self) -> list[Call]:
        """Return the calls that turn moments into what `finish_normal` needs."""
        raise NotImplementedError

    def finish_normal(self, i: int) -> list[Call]:
        """Return the calls that finish ``normal`` of a block."""
        raise NotImplementedError

    def _finish(self, i: int) -> list[Call]:
        return [
            *self.finish_normal(i),
            call(np.multiply, self.normal[i], self.gamma, self.y[i]),
            call(np.add, self.y[i], self.beta, self.y[i]),
        ]

    def parameter_calls(self, i: int, dy: Array, product: Array) -> list[Call]:
        """``dβ = Σ dy`` and ``dγ = Σ dy x̂`` of each shard; leaves ``dy x̂`` in ``product``."""
        return [
            call(np.add.reduce, dy, 1, None, self.dbeta[i]),
            call(np.multiply, dy, self.normal[i], product),
            call(np.add.reduce, product, 1, None, self.dgamma[i]),
        ]


class Synchronised(Normalising):
    """Statistics of the whole minibatch: one meeting on the way forward, one on the way back.

    A rank tells the others its shards' means and squared distances from them, from which everybody
    computes the whole minibatch's in float64 (Chan, Golub and LeVeque 1979, "Updating formulae and
    a pairwise algorithm for computing sample variances", equation 2.1): means of squares alone
    would cancel, and sums about the whole mean would need one more meeting.
    """

    def __init__(self, site: Site, epsilon: float) -> None:
        context = site.context
        features = len(site.weights[0])
        shards = len(context.sizes)
        self.forward_table, self.meet_forward = context.meeting.table(shards, 2 * features)
        self.backward_table, self.meet_backward = context.meeting.table(shards, 2 * features)
        positions = int(np.prod(site.input_shape[:-1], dtype=np.int64))
        self.counts = np.array(context.sizes, np.float64)[:, None] * positions
        self.total = float(context.rows * positions)
        empty = site.workspace.empty
        # of every shard: its mean minus that of all; its squared distances from that of all
        self.shifts, self.spreads, self.sums = (
            empty((shards, features), np.float64) for _ in range(3)
        )
        self.variance = empty((features,), np.float64)
        self.inverse = empty((features,), site.weights[0].dtype)
        super().__init__(site, epsilon)

    def _own(self, i: int) -> slice:
        block = self.site.context.blocks[i]
        return slice(block.first, block.first + block.shards)

    def statistics(self) -> list[Call]:
        """Fill in the own rows, meet, and combine all rows."""
        k = len(self.gamma)
        table = self.forward_table
        calls: list[Call] = [
            call(np.copyto, table[self._own(i)].reshape(moments.shape), moments)
            for i, moments in enumerate(self.moments)
        ]
        return [*calls, self.meet_forward, *self._combine(table[:, :k], table[:, k:])]

    def _combine(self, means: Array, squares: Array) -> list[Call]:
        """``mean = Σ n_s mean_s / n``; ``var = Σ (squares_s + n_s (mean_s - mean)²) / n``."""
        shifts, spreads, sums, variance = self.shifts, self.spreads, self.sums, self.variance
        add_means, mean = _tree(sums, sums)
        add_spreads, spread = _tree(spreads, sums)
        return [
            call(np.multiply, means, self.counts / self.total, sums),
            *add_means,
            call(np.subtract, means, mean, shifts),
            call(np.multiply, shifts, shifts, spreads),
            call(np.multiply, spreads, self.counts, spreads),
            call(np.add, spreads, squares, spreads),
            *add_spreads,
            # 1 / sqrt(spread / n + ε)
            call(np.add, spread, self.total * self.epsilon, variance),
            call(np.divide, self.total, variance, variance),
            call(np.sqrt, variance, self.inverse),
        ]

    def finish_normal(self, i: int) -> list[Call]:
        """From a shard's own mean to that of all, and divide."""
        normal = self.normal[i]
        shift = self.moments[i][:, :1]  # the moments stand in the table by now
        return [
            call(np.copyto, shift[:, 0], self.shifts[self._own(i)]),
            call(np.add, normal, shift, normal),
            call(np.multiply, normal, self.inverse, normal),
        ]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """``dx = γ / sqrt(var + ε) · (dy - mean(dy) - x̂ mean(dy x̂))``, means over all rows."""
        dys = [flat_features(each) for each in gradients]
        products = self.site.like(dys)
        calls: list[Call] = []
        for i, (dy, product) in enumerate(zip(dys, products, strict=True)):
            calls += [*self.parameter_calls(i, dy, product), *self._averages(i)]
        if self.site.passes_back:
            calls += [*self._meeting(), *self._input_calls(dys, products)]
        return calls, gradients

    def _meeting(self) -> list[Call]:
        """Fill in the own rows of ``Σ dy`` and ``Σ dy x̂``, and meet."""
        k = len(self.gamma)
        calls: list[Call] = []
        for i in range(len(self.x)):
            own = self.backward_table[self._own(i)]
            calls += [
                call(np.copyto, own[:, :k], self.dbeta[i]),
                call(np.copyto, own[:, k:], self.dgamma[i]),
            ]
        return [*calls, self.meet_backward]

    def _averages(self, i: int) -> list[Call]:
        """Each shard's share of the mean and of the unbiased variance."""
        own = self._own(i)
        means, share = self.forward_table[own, : len(self.gamma)], self.counts[own] / self.total
        variance = call(np.divide, self.spreads[own], self.total - 1, self.dvariance[i])
        if self.total == 1:
            variance = call(np.multiply, self.variance_now, share, self.dvariance[i])
        return [call(np.multiply, means, share, self.dmean[i]), variance]

    def _input_calls(self, dys: Sequence[Array], products: Sequence[Array]) -> list[Call]:
        empty = self.site.workspace.empty
        k, dtype = len(self.gamma), self.gamma.dtype
        sums = empty(self.backward_table.shape, np.float64)
        means, scale = empty((2 * k,), dtype), empty((k,), dtype)
        adding, total = _tree(self.backward_table, sums)
        calls: list[Call] = [
            *adding,
            call(np.divide, total, self.total, means),
            call(np.multiply, self.inverse, self.gamma, scale),
        ]
        for dy, normal, product in zip(dys, self.normal, products, strict=True):
            calls += [
                call(np.subtract, dy, means[:k], dy),
                call(np.multiply, normal, means[k:], product),
                call(np.subtract, dy, product, dy),
                call(np.multiply, dy, scale, dy),
            ]
        return calls


class Ghost(Normalising):
    """Statistics of each shard by itself; nobody meets.

    The running averages take the average of the shards' statistics, weighted by rows.
    """

    def __init__(self, site: Site, epsilon: float) -> None:
        self.inverse = per_shard(site, 1)
        super().__init__(site, epsilon)

    def statistics(self) -> list[Call]:
        """Nothing to do: the moments are the statistics."""
        return []

    def finish_normal(self, i: int) -> list[Call]:
        """Divide by the shard's own deviation."""
        normal, inverse = self.normal[i], self.inverse[i]
        dtype = normal.dtype.type
        return [
            call(np.divide, self.moments[i][:, 1:], dtype(normal.shape[1]), inverse),
            call(np.add, inverse, dtype(self.epsilon), inverse),
            call(np.sqrt, inverse, inverse),
            call(np.reciprocal, inverse, inverse),
            call(np.multiply, normal, inverse, normal),
        ]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """``dx`` as in `Synchronised`, with means over each shard."""
        calls: list[Call] = []
        for i, gradient in enumerate(gradients):
            dy = flat_features(gradient)
            product, scratch = self.site.like([dy, self.inverse[i]])
            calls += [*self.parameter_calls(i, dy, product), *self._averages(i)]
            if self.site.passes_back:
                calls += self._input_calls(i, dy, product, scratch)
        return calls, gradients

    def _averages(self, i: int) -> list[Call]:
        """Each shard's share of the running averages."""
        positions = self.normal[i].shape[1]
        share = self.site.context.blocks[i].rows / self.site.context.rows
        dtype = self.gamma.dtype.type
        means, squares = self.moments[i][:, 0], self.moments[i][:, 1]
        if positions == 1:
            variance = call(np.multiply, self.variance_now, dtype(share), self.dvariance[i])
        else:
            share_of_squares = dtype(share / max(positions - 1, 1))
            variance = call(np.multiply, squares, share_of_squares, self.dvariance[i])
        return [call(np.multiply, means, dtype(share), self.dmean[i]), variance]

    def _input_calls(self, i: int, dy: Array, product: Array, scratch: Array) -> list[Call]:
        normal, count = self.normal[i], dy.dtype.type(dy.shape[1])
        return [
            call(np.divide, self.dbeta[i][:, None], count, scratch),
            call(np.subtract, dy, scratch, dy),
            call(np.divide, self.dgamma[i][:, None], count, scratch),
            call(np.multiply, normal, scratch, product),
            call(np.subtract, dy, product, dy),
            call(np.multiply, self.inverse[i], self.gamma, scratch),
            call(np.multiply, dy, scratch, dy),
        ]


def per_shard(site: Site, vectors: int) -> Blocks:
    """Return uninitialised blocks ``(shards, vectors, features)``."""
    return [site.workspace.empty((len(x), vectors, x.shape[-1]), x.dtype) for x in site.inputs]


def _tree(rows: Array, sums: Array) -> tuple[list[Call], Array]:
    """Return the calls that sum rows ``(n, k)`` in the order of the tree, and the total.

    The sums are written to ``sums``, of the same shape, and nowhere else.
    """
    at = list(rows)
    calls: list[Call] = []
    for into, other, _ in additions(len(rows)):
        calls.append(call(np.add, at[into], at[other], sums[into]))
        at[into] = sums[into]
    return calls, at[0]
