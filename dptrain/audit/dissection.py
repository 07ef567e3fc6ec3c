"""A step taken apart: all that it computes, in the order in which it does."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from dptrain.arithmetic.tree import additions
from dptrain.audit.difference import Array
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job
from dptrain.nn.passes import Pass, ShardedPass


class Part(NamedTuple):
    """Something that a step computes.

    Attributes:
        phase: rows, data, inputs, outputs, loss, shard gradient, gradient or update.
        where: the layer, the tensor, or what else it is.
        shard: whose it is; None for what is of the whole minibatch.
        value: an array, to be looked at before the next part is asked for.
    """

    phase: str
    where: str
    shard: int | None
    value: Array


def parts(job: Job, state: TrainingState, step: int, frozen: Collection[str]) -> Iterator[Part]:
    """Carry out a step, and yield all that it computes.

    The rows of the minibatch; the data in them; the inputs, augmented; each layer's outputs; the
    loss; each shard's gradients, the last layer's first; their sums; the learning rate and the
    factor of clipping; and the weights and the optimizer's state after the update. Of a network of
    the user's own there are no layers to see. The caller sees to it that NumPy does not warn.

    Args:
        job: of the step.
        state: before the step; stays as it is.
        step: counted from 0.
        frozen: names of tensors whose gradients nobody need have computed.
    """
    parameters = np.array(state.parameters)
    rank, share = Rank(job, [parameters], sums=False), Share(step, 0, job.shards)
    found = rank.place(share)
    yield from _rows(job, found, step)
    yield from _samples("data", found)
    rank.augment(share, found)
    yield from _samples("inputs", found)
    yield from _outputs(found)
    for shard, loss in enumerate(found.forward()):
        yield Part("loss", "loss", shard, np.array(loss))
    found.backward()
    yield from _shard_gradients(job, found, frozen)
    gradient = _reduced(found)
    tensors = [t for t in job.network.all_tensors() if t.name not in frozen]
    for t in tensors:
        yield Part("gradient", t.name, None, gradient[t.start : t.stop].reshape(t.shape))
    yield from _update(
        job, step, TrainingState(parameters, list(map(np.array, state.slots))), gradient
    )


def _rows(job: Job, found: ShardedPass, step: int) -> Iterator[Part]:
    order = job.minibatch(step)
    for block in found.blocks:
        rows = order[block.start : block.start + block.shards * block.rows]
        for i, own in enumerate(rows.reshape(block.shards, block.rows)):
            yield Part("rows", "minibatch", block.first + i, own)


def _samples(phase: str, found: ShardedPass) -> Iterator[Part]:
    parts = {"inputs": found.inputs, "targets": found.targets}
    if found.row_weights:
        parts["row weights"] = found.row_weights
    for what, arrays in parts.items():
        for block, array in zip(found.blocks, arrays, strict=True):
            shape = (block.shards, block.rows, *array.shape[1:])
            for i, own in enumerate(array.reshape(shape)):
                yield Part(phase, what, block.first + i, own)


def _outputs(found: ShardedPass) -> Iterator[Part]:
    if not isinstance(found, Pass):
        return
    for name, outputs in found.stages():
        for block, array in zip(found.blocks, outputs, strict=True):
            for i, own in enumerate(array):
                yield Part("outputs", name, block.first + i, own)


def _shard_gradients(job: Job, found: ShardedPass, frozen: Collection[str]) -> Iterator[Part]:
    for group in reversed(job.network.tensors):
        for t in (each for each in group if each.name not in frozen):
            for shard in found.roots:
                own = found.gradients[shard, t.start : t.stop]
                yield Part("shard gradient", t.name, shard, own.reshape(t.shape))


def _reduced(found: ShardedPass) -> Array:
    """Return the sum of the shards' gradients over the tree; it takes the place of the first."""
    for into, other, _ in additions(len(found.roots)):
        np.add(found.gradients[into], found.gradients[other], out=found.gradients[into])
    gradient: Array = found.gradients[0]
    return gradient


def _update(job: Job, step: int, state: TrainingState, gradient: Array) -> Iterator[Part]:
    """Apply the update to a state, and yield what it comes to."""
    updater, (w, slots) = job.updater, state
    factor = updater.clip_factor(updater.squared_norms(gradient)) if updater.clips else 1.0
    yield Part("update", "learning rate", None, np.array(updater.schedule(step)))
    yield Part("update", "factor of clipping", None, np.array(factor))
    updater.update(step, updater.bind(0, len(w), w, gradient, slots, w, slots), factor)
    for suffix, array in zip(
        ("", *(f", {s}" for s in updater.rule.slots)), (w, *slots), strict=True
    ):
        for name, tensor in job.network.views(array).items():
            yield Part("update", f"{name}{suffix}", None, tensor)
