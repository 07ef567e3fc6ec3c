"""Bugs in which rows a rank computes with, and how many there are thought to be."""

from typing import Any

import numpy as np

from dptrain.data.sampling import epoch_order
from dptrain.exchange.rank import Rank
from dptrain.experiment.job import Job
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import Around, divide_by, here, note_rank, wrap
from dptrain.nn.passes import Pass

BOTH = ("shared", "star")
SHARDS = 5  # of every habitat that is not even


def _last_batch_lost(patches: Patches) -> None:
    def init(original: Around, self: Job, *args: Any) -> None:
        original(self, *args)
        self.steps_per_epoch = len(self.dataset.train) // self.batch_size

    wrap(patches, Job, "__init__", init)


def _remainder_lost(patches: Patches) -> None:
    def backward(original: Around, self: Pass, ready: Any = None) -> None:
        loss = self.loss.backward

        def even(rows: int) -> Any:
            found = loss(rows)
            for gradient in found:
                gradient[:, max(rows // SHARDS, 1) :] = 0
            return found

        self.loss.backward = even  # type: ignore[method-assign]
        try:
            original(self, ready)
        finally:
            del self.loss.backward

    wrap(patches, Pass, "backward", backward)


def _padding_in_divisor(patches: Patches) -> None:
    divide_by(patches, lambda p: -(-p.rows // SHARDS) * SHARDS)


def _padding_repeats(patches: Patches) -> None:
    def minibatch(original: Around, self: Job, step: int) -> Any:
        rows = original(self, step)
        return np.concatenate([rows, rows[: -len(rows) % self.shards]])

    wrap(patches, Job, "minibatch", minibatch)


def _shifted(patches: Patches, shift: Any) -> None:
    """Have the rows of a rank's blocks begin ``shift(pass)`` rows earlier."""

    def fill(original: Around, self: Rank, found: Any, split: Any, order: Any) -> None:
        original(self, found, split, np.roll(order, shift(found)))

    wrap(patches, Rank, "_fill", fill)


def _same_shard(patches: Patches) -> None:
    _shifted(patches, lambda found: found.blocks[0].start if found.blocks else 0)


def _overlapping(patches: Patches) -> None:
    _shifted(patches, lambda found: 1 if found.blocks and found.blocks[0].start else 0)


def _sampler_seed(patches: Patches) -> None:
    note_rank(patches)

    def minibatch(_: Around, self: Job, step: int) -> Any:
        epoch, position = divmod(step, self.steps_per_epoch)
        rows = len(self.dataset.train)
        order = epoch_order(self.experiment.seed + max(here.rank, 0), epoch, rows)
        return order[position * self.batch_size :][: self.batch_size]

    wrap(patches, Job, "minibatch", minibatch)


def _labels_shuffled(patches: Patches) -> None:
    def fill(original: Around, self: Rank, found: Any, split: Any, order: Any) -> None:
        original(self, found, split, order)
        for t in found.targets:
            t[...] = t[::-1].copy()

    wrap(patches, Rank, "_fill", fill)


BUGS = (
    Bug(
        "last-batch-lost",
        "rows-lost",
        "The last minibatch of an epoch, which is not full, is left out (pytorch #25162).",
        _last_batch_lost,
    ),
    Bug(
        "remainder-lost",
        "rows-lost",
        "What is left when the rows are divided by the shards is left out.",
        _remainder_lost,
        exchange=BOTH,
    ),
    Bug(
        "padding-counted",
        "padding-counted",
        "Shards are filled up to one size with zero rows, which count in the mean "
        "(pytorch #25162).",
        _padding_in_divisor,
        exchange=BOTH,
    ),
    Bug(
        "padding-repeats",
        "padding-counted",
        "Shards are filled up to one size with rows that are there already, as by "
        "DistributedSampler (pytorch #25162).",
        _padding_repeats,
    ),
    Bug(
        "same-shard",
        "same-shard",
        "Every rank reads the first rows of the minibatch.",
        _same_shard,
        exchange=BOTH,
    ),
    Bug(
        "overlapping-shards",
        "overlapping-shards",
        "All ranks but the first begin one row too early.",
        _overlapping,
        exchange=BOTH,
    ),
    Bug(
        "sampler-seed-by-rank",
        "overlapping-shards",
        "Every rank shuffles with a seed of its own, so that some rows are read by two.",
        _sampler_seed,
        exchange=BOTH,
    ),
    Bug(
        "labels-shuffled",
        "labels-shuffled",
        "The labels are read in another order than the inputs.",
        _labels_shuffled,
        exchange=BOTH,
    ),
)
