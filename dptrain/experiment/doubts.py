"""Warnings before a run begins, of what can be computed but is probably not intended."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import shard_sizes
from dptrain.data.rounding import TARGETS
from dptrain.experiment.data_doubts import data_doubts
from dptrain.experiment.job import Job
from dptrain.experiment.missing_classes import missing_classes
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Residual
from dptrain.nn.network import Network
from dptrain.nn.row import Placed, place
from dptrain.own.network import OwnNetwork

_PIECE = 1 << 12  # rows looked at together


def doubts(job: Job) -> list[str]:
    """Return one sentence for each warning.

    Columns that are not features, classes without rows, digits lost by rounding, batch
    norms over single rows, and data that a network takes for something else.
    """
    dataset = job.dataset
    return [
        *dataset.notes,
        *missing_classes(dataset),
        *_rounding(job),
        *_uncounted(job),
        *_single_rows(job),
        *data_doubts(job),
    ]


def _rounding(job: Job) -> Iterator[str]:
    for each in job.dataset.rounded:
        # float64 would hold such targets, but a network begins near 0, and has a long way to them
        targets = each.name.endswith(TARGETS)
        own = isinstance(job.network, OwnNetwork)
        ways = ["--normalise-targets standard"] * (not own) if targets else ["--dtype float64"]
        if not targets and not own and job.experiment.normalise == "none":
            ways.insert(0, "--normalise standard")
        remedy = f"give {' or '.join(ways)}, or " if ways else ""
        others = f" and of {each.others} more" if each.others else ""
        yield (
            f"{job.dtype} takes most digits of {each.name}{others}: its mean is "
            f"{each.mean:g}, its deviation {each.deviation:g}, and there numbers lie "
            f"{each.spacing:g} apart; {remedy}take the mean off the data"
        )


def _uncounted(job: Job) -> Iterator[str]:
    """Look for rows of weight 0 with made-up numbers, which decide what others are scaled by."""
    train, e = job.dataset.train, job.experiment
    if train.weights is None:
        return
    rows = np.arange(len(train.weights)) if train.index is None else train.index
    counted, others = (rows[(train.weights[rows] == 0) == none] for none in (False, True))
    for setting, values in (("normalise", train.inputs), ("normalise_targets", train.targets)):
        if getattr(e, setting) == "none" or not len(others):
            continue
        low, high = _range(values, counted)
        least, most = _range(values, others)
        far = (high > low) & ((least < 2 * low - high) | (most > 2 * high - low))
        if far.any():
            yield (
                f"rows of weight 0 hold {'inputs' if setting == 'normalise' else 'targets'} far "
                f"from all others, and count in the statistics of --{setting.replace('_', '-')} "
                "like these; take them out if their numbers are made up"
            )


def _range(values: NDArray[Any], rows: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least and the largest of each column of some rows, in float64."""
    low, high = np.inf, -np.inf
    for first in range(0, len(rows), _PIECE):
        piece = values[rows[first : first + _PIECE]].astype(np.float64)
        low, high = np.minimum(low, piece.min(axis=0)), np.maximum(high, piece.max(axis=0))
    return np.asarray(low), np.asarray(high)


def _single_rows(job: Job) -> Iterator[str]:
    """Look for batch norms that take mean and variance of one row, which leave nothing of it."""
    if not isinstance(job.network, Network):
        return
    frozen = {t.name for t in job.network.all_tensors() if t.frozen}
    found = [
        (name, layer)
        for name, layer in _batch_norms(job.network.row, "")
        if f"{name}.mean" not in frozen
    ]
    over_all = [name for name, layer in found if layer.sync]
    over_shards = [name for name, layer in found if not layer.sync]
    if over_shards and 1 in shard_sizes(job.batch_size, job.shards):
        yield (
            f"{over_shards[0]} normalises every shard by itself, and of {job.batch_size} rows in "
            f"{job.shards} shards some have one row, of which it leaves nothing but its shift; "
            f"give --batch-size {2 * job.shards} or more, or fewer --shards"
        )
    if not over_all:
        return
    last = job.rows(job.steps_per_epoch - 1)
    if job.batch_size == 1:
        yield (
            f"{over_all[0]} normalises minibatches of one row, of which it leaves nothing but its "
            "shift; give --batch-size 2 or more"
        )
    elif last == 1 and job.total_steps >= job.steps_per_epoch:
        rows = len(job.dataset.train)
        yield (
            f"the last minibatch of an epoch has one row, as {rows} rows in minibatches of "
            f"{job.batch_size} have it: {over_all[0]} leaves nothing of it but its shift; give "
            f"another --batch-size, or --train-rows {rows - 1}"
        )


def _batch_norms(row: Sequence[Placed], prefix: str) -> Iterator[tuple[str, BatchNorm]]:
    """Yield those over flat samples; over images, positions count like rows."""
    for each in row:
        name = prefix + each.name
        if isinstance(each.layer, BatchNorm) and len(each.input_shape) == 1:
            yield name, each.layer
        elif isinstance(each.layer, Residual):
            yield from _batch_norms(place(each.layer.layers, each.input_shape), f"{name}.")
            shortcut = place(each.layer.shortcut, each.input_shape)
            yield from _batch_norms(shortcut, f"{name}.shortcut.")
