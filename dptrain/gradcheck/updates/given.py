"""Which bug of the exchange shows in the gradient that the experiment's own optimizer was given.

A gradient that is right where it is recorded may be wrong where it is clipped, or where an
optimizer has other buffers: then it takes another way.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from dptrain.arithmetic.shards import assign, shard_sizes
from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.forensics import EXACT, UNEXPLAINED, diagnose
from dptrain.gradcheck.hypotheses.areas import Area
from dptrain.gradcheck.hypotheses.evidence import Evidence, Past, Recipe
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.updates.factors import Seen, right_factor
from dptrain.gradcheck.updates.textbook import Array

# An element is not compared where rounding takes more than this of its tensor's largest.
BLURRED = 1e-3
ROUNDINGS = 256.0


def given_gradient(
    job: Job, steps: Sequence[Seen], workers: int, parts: Sequence[Area]
) -> list[Diagnosis]:
    """Return what is wrong with the gradient that an optimizer was given.

    Args:
        job: settled.
        steps: of a run, the last being the first that is wrong.
        workers: of the run.
        parts: that are updated one by one.
    """
    now = steps[-1]
    factor = right_factor(job, now)
    with np.errstate(all="ignore"):
        found, room = now.given.gradient / factor, now.given.room / factor
    room = room + ROUNDINGS * UNITS[job.dtype.name] * np.abs(now.gradient)
    off = ~(np.abs(found - now.gradient) <= room)
    if not off.any():
        return []
    known, sharp = np.zeros(len(found), bool), EXACT
    for tensor in job.network.all_tensors():
        own = slice(tensor.start, tensor.stop)
        largest = float(np.abs(now.gradient[own]).max(initial=0))
        known[own] = tensor.trained & (room[own] <= BLURRED * largest)
        if known[own].any():
            sharp = max(sharp, float(room[own][known[own]].max()) / largest)
    evidence = _evidence(job, steps, workers, np.where(off, found, now.gradient), known, parts)
    if (np.abs(evidence.shards.sum(axis=0) - now.gradient) > room)[known].any():
        return []  # what it is compared with cannot be computed twice
    return [
        Diagnosis(each.kind, f"The gradient as the optimizer is given it: {each.sentence}.", left)
        for each in diagnose(evidence, exact=sharp)
        if each.kind != UNEXPLAINED
        for left in [0.0 if each.residual < max(sharp, 1e-3) else each.residual]
    ]


def _evidence(
    job: Job, steps: Sequence[Seen], workers: int, found: Array, known: Array, parts: Sequence[Area]
) -> Evidence:
    local, ranks = Local(job), assign(job.shards, workers)
    number, weights = steps[-1].step.number, steps[-1].step.before.parameters
    of = partial(_shards, local)

    def again(recipe: Recipe) -> Array:
        if (recipe.weights is None) == (recipe.step is None):
            raise NotImplementedError("nothing else can be computed again")
        at = weights if recipe.weights is None else recipe.weights
        return of(at, number if recipe.step is None else recipe.step)

    past = []
    for each in steps[:-1]:
        before = each.step.before.parameters
        past.append(Past(np.asarray(before, float), of(before, each.step.number)))
    return Evidence(
        [t for t in job.network.all_tensors() if t.trained],
        found,
        steps[-1].gradient,
        of(weights, number),
        shard_sizes(len(job.minibatch(number)), job.shards),
        ranks,
        job.batch_size,
        past,
        parts=again,
        compared=known,
        areas=parts,
        step=number,
        parameters=np.asarray(weights, float),
    )


def _shards(local: Local, weights: Array, step: int) -> Array:
    return local.shards(weights, step).astype(float)
