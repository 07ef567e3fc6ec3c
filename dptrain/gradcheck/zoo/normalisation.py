"""Bugs in batch normalisation over several ranks, and in dropout."""

from dataclasses import replace
from typing import Any

import numpy as np

from dptrain.arithmetic.randomness import Purpose, SteppedUniform
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import Around, Array, wrap
from dptrain.nn import dropout
from dptrain.nn.batchnorm import BatchNorm, Synchronised
from dptrain.nn.calls import Call, call
from dptrain.nn.context import Alone, Context
from dptrain.nn.dropout import DropoutOperation
from dptrain.nn.layer import Blocks, Site

BOTH = ("shared", "star")


def _local(patches: Patches) -> None:
    def bind(original: Around, self: BatchNorm, site: Site) -> Any:
        context = site.context
        if not context.training:
            return original(self, site)
        first = context.blocks[0].first if context.blocks else 0
        own = replace(
            context,
            blocks=tuple(b._replace(first=b.first - first) for b in context.blocks),
            sizes=tuple(b.rows for b in context.blocks for _ in range(b.shards)) or context.sizes,
            meeting=Alone(),
        )
        return original(self, replace(site, context=own))

    wrap(patches, BatchNorm, "bind", bind)


def _mean_of_means(patches: Patches) -> None:
    def combine(original: Around, self: Synchronised, *args: Any) -> list[Call]:
        honest = self.counts
        self.counts = np.full_like(honest, self.total / len(honest))
        calls: list[Call] = original(self, *args)
        self.counts = honest
        return calls

    wrap(patches, Synchronised, "_combine", combine)


def _backward_local(patches: Patches) -> None:
    def backward(original: Around, self: Synchronised, gradients: Blocks) -> Any:
        self.backward_table = np.zeros_like(self.backward_table)  # the others' rows stay 0
        return original(self, gradients)

    wrap(patches, Synchronised, "backward_calls", backward)


def _backward_counts(patches: Patches) -> None:
    def meeting(original: Around, self: Synchronised) -> list[Call]:
        calls: list[Call] = original(self)
        share = self.total / (len(self.counts) * self.counts)
        weigh = [
            call(np.multiply, own, share[self._own(i)], own)
            for i in range(len(self.x))
            for own in [self.backward_table[self._own(i)]]
        ]
        return [*calls[:-1], *weigh, calls[-1]]

    wrap(patches, Synchronised, "_meeting", meeting)


def _biased(patches: Patches) -> None:
    def averages(original: Around, self: Synchronised, i: int) -> list[Call]:
        means, _ = original(self, i)
        return [means, call(np.divide, self.spreads[self._own(i)], self.total, self.dvariance[i])]

    wrap(patches, Synchronised, "_averages", averages)


def _equal_masks(patches: Patches) -> None:
    def draw(original: Around, context: Context, place: Any, shard: int, out: Array) -> Call:
        call_: Call = original(context, place, shard - context.blocks[0].first, out)
        return call_

    wrap(patches, dropout, "_draw", draw)


def _other_mask(patches: Patches) -> None:
    def backward(original: Around, self: DropoutOperation, gradients: Blocks) -> Any:
        calls, inputs = original(self, gradients)
        context, place = self.site.context, self.site.place
        again: list[Call] = []
        for block, mask in zip(context.blocks, self.masks, strict=True):
            uniform = np.empty(mask.shape, np.float32)
            for j, each in enumerate(uniform):
                again.append(_drawn_again(context, (*place, 1), block.first + j, each))
            again.append(call(np.greater_equal, uniform, np.float32(1 - 1 / self.scale), mask))
        return [*again, *calls], inputs

    wrap(patches, DropoutOperation, "backward_calls", backward)


def _drawn_again(context: Context, place: tuple[int, ...], shard: int, out: Array) -> Call:
    stream = SteppedUniform(context.seed, Purpose.DROPOUT, *place, shard)
    return lambda: stream.fill(context.moment.step, out)


def without_scale(patches: Patches) -> None:
    """What is left of an activation is not scaled up, forward and backward."""

    def masked(original: Around, *args: Any) -> list[Call]:
        return list(original(*args)[:1])

    wrap(patches, DropoutOperation, "_masked", masked)


def _scale_forward_only(patches: Patches) -> None:
    def backward(original: Around, self: DropoutOperation, gradients: Blocks) -> Any:
        honest = self.scale
        self.scale = 1.0
        found = original(self, gradients)
        self.scale = honest
        return found

    wrap(patches, DropoutOperation, "backward_calls", backward)


def _norm(name: str, kind: str, sentence: str, patch: Any) -> Bug:
    return Bug(name, kind, sentence, patch, "all", "batchnorm", BOTH)


def _drop(name: str, kind: str, sentence: str, patch: Any) -> Bug:
    return Bug(name, kind, sentence, patch, "all", "dropout", BOTH)


BUGS = (
    _norm(
        "batchnorm-local",
        "batchnorm-local",
        "Every rank normalises by the mean and variance of its own rows.",
        _local,
    ),
    _norm(
        "batchnorm-mean-of-means",
        "batchnorm-mean-of-means",
        "The mean over the minibatch is that of the shards' means (Paddle #32464).",
        _mean_of_means,
    ),
    _norm(
        "batchnorm-backward-local",
        "batchnorm-backward-local",
        "The sums of the backward pass are those of the rank's own rows.",
        _backward_local,
    ),
    _norm(
        "batchnorm-backward-counts",
        "batchnorm-mean-of-means",
        "The means of the backward pass ignore how many rows a shard has (pytorch #36382).",
        _backward_counts,
    ),
    _norm(
        "running-variance-biased",
        "running-variance",
        "The running average takes the biased variance (pytorch #22192).",
        _biased,
    ),
    _drop(
        "dropout-equal-masks",
        "dropout-equal-masks",
        "All ranks draw the same masks (accelerate #114).",
        _equal_masks,
    ),
    _drop(
        "dropout-other-mask",
        "dropout-other-mask",
        "The backward pass draws a mask of its own.",
        _other_mask,
    ),
    _drop(
        "dropout-scale",
        "dropout-scale",
        "What dropout leaves is not divided by 1 - p.",
        without_scale,
    ),
    _drop(
        "dropout-scale-forward-only",
        "dropout-scale",
        "What dropout leaves is divided by 1 - p on the way forward only.",
        _scale_forward_only,
    ),
)
