"""Every rank's part of the gradients of a run, as far as a diagnosis of its updates needs them."""

from collections.abc import Callable, Sequence

import numpy as np

from dptrain.arithmetic.shards import assign
from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Array
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.updates.slips import Partials
from dptrain.gradcheck.updates.textbook import Textbook

ShardGradients = Callable[[Step], Array | None]


def partials_of(
    job: Job, steps: Sequence[Step], workers: int, shard_gradients: ShardGradients | None
) -> Partials:
    """Return every rank's part of the gradient of each step, where it matters."""
    if job.experiment.clip_norm is None or workers == 1:
        return {}
    give = shard_gradients or _reference_shards(job)
    found = {}
    for step in steps:
        shards = give(step)
        if shards is None:
            return {}
        ranges = assign(job.shards, workers)
        trained = Textbook(job).trained
        found[step.number] = np.array(
            [np.where(trained, shards[low:high].sum(axis=0), 0) for low, high in ranges]
        )
    return found


def _reference_shards(job: Job) -> ShardGradients:
    local = Local(job)

    def give(step: Step) -> Array | None:
        reference = local.reference(step.number)
        if reference is None:
            return None
        weights = np.asarray(step.before.parameters, float)
        return reference.gradient(weights, UNITS[job.dtype.name]).shards

    return give
