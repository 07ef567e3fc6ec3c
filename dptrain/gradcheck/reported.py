"""Why a run reports another loss than that of its minibatch, although its gradient may be right."""

from collections.abc import Iterator, Sequence

import numpy as np

from dptrain.arithmetic.shards import shard_sizes
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import LOSS, Array
from dptrain.gradcheck.diagnosis import Diagnosis, times
from dptrain.gradcheck.distributed import Step
from dptrain.gradcheck.forensics import EXACT
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.hypotheses.known import factors, single_parts
from dptrain.gradcheck.hypotheses.orders import bounds_of
from dptrain.gradcheck.hypotheses.scopes import expanded


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
    exact = EXACT if local.job.dtype == np.float64 else 1e-6
    parts = _parts(local, step)
    for kind, sentence, predicted in _mistakes(local, step, parts, workers, before):
        if abs(predicted - step.loss) <= exact * abs(step.loss):
            return [Diagnosis(kind, f"the reported loss is wrong: {sentence}", 0.0)]
    ratio = step.loss / float(parts.sum()) if parts.any() else np.nan
    sentence = f"the reported loss is {times(ratio)} that of the minibatch"
    return [Diagnosis("reported-loss", sentence, 1.0)]


def _parts(local: Local, step: Step) -> Array:
    """Return every shard's part of a step's loss."""
    sizes = np.array(shard_sizes(local.job.rows(step.number), local.job.shards))
    parts: Array = local.shard_losses(step.before.parameters, step.number) * sizes / sizes.sum()
    return parts


def _mistakes(
    local: Local, step: Step, parts: Array, workers: int, before: Sequence[Step]
) -> Iterator[tuple[str, str, float]]:
    """Yield the losses of other steps, of other weights, and of shards that count otherwise."""
    job = local.job
    if before:
        left = _parts(local, before[-1])[len(parts) :].sum()
        sentence = "absent shards add what they had in the step before"
        yield "not-reset", sentence, float(parts.sum() + left)
    for each in before:
        wanted = local.loss(each.before.parameters, each.number)
        yield "other-step", f"it is that of step {each.number}", wanted
    after = local.loss(step.after.parameters, step.number)
    yield "stale-weights", "it is that with the weights after the step", after
    ranks = tuple(bounds_of(job.shards, workers))
    for rank, (low, high) in enumerate(ranks):
        yield "shard-dropped", f"it is rank {rank}'s part alone", float(parts[low:high].sum())
    sizes = shard_sizes(job.rows(step.number), job.shards)
    found, right = np.array([step.loss]), np.array([parts.sum()])
    e = Evidence([LOSS], found, right, parts[:, np.newaxis], sizes, ranks, job.batch_size)
    for known in (*factors(e), *single_parts(e)):
        for told in expanded(e, known):
            yield told.kind, told.sentence.replace("gradient", "loss"), float(told.predicted[0])
