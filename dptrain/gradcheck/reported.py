"""Why a run reports another loss than that of its minibatch, although its gradient may be right."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign, shard_sizes
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import LOSS
from dptrain.gradcheck.diagnosis import Diagnosis, times
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.forensics import EXACT
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.hypotheses.known import factors, single_parts
from dptrain.gradcheck.hypotheses.scopes import expanded

Array = NDArray[Any]


def diagnose_loss(
    local: Local, step: Step, workers: int, before: Sequence[Step] = ()
) -> list[Diagnosis]:
    """Return what a reported loss is, in place of the minibatch's.

    Args:
        local: the job in this process.
        step: whose loss is wrong.
        workers: of the run.
        before: the steps before, of the same run.
    """
    evidence = _evidence(local, step, workers)
    exact = EXACT if local.job.dtype == np.float64 else 1e-6
    for kind, sentence, predicted in [*_others(local, step, before), *_counted(evidence)]:
        if abs(predicted - step.loss) <= exact * abs(step.loss):
            return [Diagnosis(kind, f"the reported loss is wrong: {sentence}", 0.0)]
    ratio = step.loss / float(evidence.right[0]) if evidence.right[0] else np.nan
    sentence = f"the reported loss is {times(ratio)} that of the minibatch"
    return [Diagnosis("reported-loss", sentence, 1.0)]


def _evidence(local: Local, step: Step, workers: int) -> Evidence:
    job = local.job
    sizes = shard_sizes(job.rows(step.number), job.shards)
    parts = _parts(local, step)[:, np.newaxis]
    return Evidence(
        [LOSS],
        np.array([step.loss]),
        parts.sum(axis=0),
        parts,
        sizes,
        assign(job.shards, workers),
        job.batch_size,
    )


def _parts(local: Local, step: Step) -> Array:
    """Return every shard's part of a step's loss."""
    sizes = np.array(shard_sizes(local.job.rows(step.number), local.job.shards))
    parts: Array = local.shard_losses(step.before.parameters, step.number) * sizes / sizes.sum()
    return parts


def _others(local: Local, step: Step, before: Sequence[Step]) -> Iterator[tuple[str, str, float]]:
    """Yield the losses of other steps, and of other weights."""
    if before:
        left = _parts(local, before[-1])[len(_parts(local, step)) :].sum()
        now = float(_parts(local, step).sum())
        yield "not-reset", "absent shards add what they had in the step before", now + float(left)
    for each in before:
        wanted = local.loss(each.before.parameters, each.number)
        yield "other-step", f"it is that of step {each.number}", wanted
    after = local.loss(step.after.parameters, step.number)
    yield "stale-weights", "it is that with the weights after the step", after


def _counted(evidence: Evidence) -> Iterator[tuple[str, str, float]]:
    """Yield sums in which shards count otherwise."""
    for rank, (low, high) in enumerate(evidence.ranks):
        part = float(evidence.shards[low:high].sum())
        yield "shard-dropped", f"it is rank {rank}'s part alone", part
    for known in (*factors(evidence), *single_parts(evidence)):
        for each in expanded(evidence, known):
            yield each.kind, each.sentence.replace("gradient", "loss"), float(each.predicted[0])
