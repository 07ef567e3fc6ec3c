"""Gradients of a step's rows as a bug would have them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import Block, shard_sizes
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job

Array = NDArray[Any]


def augmented_otherwise(
    job: Job, parameters: Array, number: int, step: int, draws: Sequence[int] | None
) -> Array:
    """Return every shard's part of a gradient, ``(present shards, size)``, of other augmentation.

    Args:
        job: settled.
        parameters: flat ``(size,)``.
        number: of the step whose rows they are.
        step: whose draws are taken.
        draws: for each shard, the shard whose draws it takes; None for no augmentation.
    """
    rank = Rank(job, [parameters.astype(job.dtype)], sums=False)
    found = rank.place(Share(number, 0, job.shards))
    augmenter = job.augmenter()
    if augmenter is not None and draws is not None:
        for block, x in zip(found.blocks, found.inputs, strict=True):
            for i in range(block.shards):
                own = x[i * block.rows : (i + 1) * block.rows]
                alone = Block(draws[block.first + i], 1, block.rows, 0)
                augmenter.apply(step, [alone], [own])
    with np.errstate(all="ignore"):
        rank.forward(found)
        rank.backward(found)
    return found.gradients[: len(shard_sizes(found.rows, job.shards))].astype(float)
