"""Bugs in how the shards' gradients become one."""

from typing import Any

import numpy as np

from dptrain.arithmetic.tree import Addition
from dptrain.exchange import slices
from dptrain.exchange.collective import Collective
from dptrain.exchange.slices import SliceUpdate
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import (
    WORLD,
    Around,
    Array,
    divide_by,
    each_root,
    hand_in,
    here,
    note_rank,
    own_rows,
    ranks_with_rows,
    wrap,
)
from dptrain.gradcheck.zoo.waiting import await_words
from dptrain.nn.passes import Pass

BOTH = ("shared", "star")
SHARDS = 5  # of every habitat that is not even


def mean_of_means(patches: Patches) -> None:
    """Each rank divides by its own rows, and the ranks' means are averaged."""
    divide_by(patches, lambda p: own_rows(p) * ranks_with_rows(p, SHARDS) or p.rows)


def _micro_batch_means(patches: Patches) -> None:
    def backward(original: Around, self: Pass, ready: Any = None) -> None:
        loss = self.loss.backward
        shards = min(SHARDS, self.rows)

        def means(rows: int) -> Any:
            found = loss(rows)
            for gradient, block in zip(found, self.blocks, strict=True):
                gradient *= rows / (shards * block.rows)
            return found

        self.loss.backward = means  # type: ignore[method-assign]
        try:
            original(self, ready)
        finally:
            del self.loss.backward

    wrap(patches, Pass, "backward", backward)


def _sum_not_mean(patches: Patches) -> None:
    divide_by(patches, lambda _: 1)


def _divided_twice(patches: Patches) -> None:
    hand_in(patches, each_root(lambda g: g / WORLD))


def _nominal_world(patches: Patches) -> None:
    divide_by(patches, lambda p: p.rows * WORLD / ranks_with_rows(p, SHARDS))


def _dropped(patches: Patches) -> None:
    note_rank(patches)

    def sums(original: Around, self: Pass, network: Any) -> Any:
        honest = self.additions
        if here.rank == 1:
            self.additions = honest[:-1]
        found = original(self, network)
        self.additions = honest
        return found

    wrap(patches, Pass, "_tree_sums", sums)


def _doubled(patches: Patches) -> None:
    note_rank(patches)

    def sums(original: Around, self: Pass, network: Any) -> Any:
        honest = self.additions
        if here.rank == 0:
            self.additions = [*honest, *honest[-1:]]
        found = original(self, network)
        self.additions = honest
        return found

    wrap(patches, Pass, "_tree_sums", sums)


def _twice_and_never(patches: Patches) -> None:
    """The same row is added where two different ones should be: ``2 a + b``, without ``c``."""

    def init(original: Around, self: SliceUpdate, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._chunks = [
            chunk._replace(sums=[each._replace(other=chunk.sums[0].other) for each in chunk.sums])
            for chunk in self._chunks
        ]

    wrap(patches, SliceUpdate, "__init__", init)


def _unused_tensor(patches: Patches) -> None:
    def alter(_: Pass, layer: int, rows: Array) -> None:
        if layer == 0:
            rows[...] = 0

    hand_in(patches, alter, rank=1)


def _not_reset(patches: Patches) -> None:
    kept: dict[tuple[int, int], Array] = {}

    def alter(passed: Pass, layer: int, rows: Array) -> None:
        for root in passed.roots:
            place = (layer, root)
            if place in kept:
                rows[root] += kept[place]
            kept[place] = rows[root].copy()

    hand_in(patches, alter)


def _reset_early(patches: Patches) -> None:
    hand_in(patches, each_root(np.zeros_like))


def _tied_twice(patches: Patches) -> None:
    """The first tensor of the last layer stands in the list of the reduced tensors twice."""

    def alter(passed: Pass, layer: int, rows: Array) -> None:
        if layer == len(passed.names) - 1:
            size = passed._tensors[layer][0].stop - passed._tensors[layer][0].start
            rows[list(passed.roots), :size] *= 2

    hand_in(patches, alter)


def sum_in_arrival_order(patches: Patches) -> None:
    """Rank 0 is held up until the others have arrived, and what comes last is added last."""
    note_rank(patches)

    def arrive(original: Around, self: Collective) -> None:
        if here.rank == 0:
            await_words(self, self._value + 1, (1, 2))
        original(self)

    def remaining(original: Around, leaves: int, bounds: tuple[int, ...]) -> Any:
        others = [a.other for a in original(leaves, bounds)]
        if not others:
            return ()
        first, *later = others
        return (*(Addition(first, other, 0) for other in later), Addition(0, first, leaves))

    wrap(patches, Collective, "arrive", arrive)
    wrap(patches, slices, "remaining_additions", remaining)


BUGS = (
    Bug(
        "mean-of-means",
        "mean-of-means",
        "A rank divides by its own rows, and the ranks' means are averaged: wrong where shards "
        "are uneven (transformers #608).",
        mean_of_means,
        exchange=BOTH,
    ),
    Bug(
        "micro-batch-means",
        "mean-of-means",
        "Every shard's mean is taken, and the means are averaged (transformers #34191).",
        _micro_batch_means,
        exchange=BOTH,
    ),
    Bug(
        "sum-not-mean",
        "sum-not-mean",
        "The sum over the rows is never divided by their number (DeepSpeed #7773).",
        _sum_not_mean,
        exchange=BOTH,
    ),
    Bug(
        "divided-twice",
        "divided-twice",
        "A rank divides what is the mean already by the number of ranks (lightly #1977).",
        _divided_twice,
        exchange=BOTH,
    ),
    Bug(
        "nominal-world",
        "wrong-divisor",
        "Means are averaged over all ranks, also over those that have no rows (pytorch #42577).",
        _nominal_world,
        exchange=BOTH,
    ),
    Bug(
        "shard-dropped",
        "shard-dropped",
        "Rank 1 forgets to add its last shard to what it hands in.",
        _dropped,
        exchange=BOTH,
        rank=1,
    ),
    Bug(
        "shard-doubled",
        "shard-doubled",
        "Rank 0 adds its last shard twice.",
        _doubled,
        exchange=BOTH,
        rank=0,
    ),
    Bug(
        "twice-and-never",
        "shard-doubled",
        "Whoever reduces adds one rank's sum twice and another's never: invisible where all "
        "ranks have equal gradients, as in Horovod's own tests.",
        _twice_and_never,
    ),
    Bug(
        "unused-on-one-rank",
        "shard-dropped",
        "Rank 1 hands in zeros for a layer, as if it were unused there.",
        _unused_tensor,
        exchange=BOTH,
        rank=1,
    ),
    Bug(
        "not-reset",
        "not-reset",
        "The gradient is added to that of the step before.",
        _not_reset,
        exchange=BOTH,
    ),
    Bug(
        "reset-early",
        "reset-early",
        "The gradients are set to zero before they are reduced.",
        _reset_early,
        exchange=BOTH,
    ),
    Bug(
        "tied-twice",
        "tied-twice",
        "A tensor that is known under two names is reduced under both.",
        _tied_twice,
        exchange=BOTH,
    ),
    Bug(
        "arrival-order",
        "arrival-order",
        "The ranks' sums are added up as they arrive; rank 0 is held up, and comes last.",
        sum_in_arrival_order,
    ),
)
