"""Evaluations by the formulas: running statistics instead of the minibatch's, and no dropout.

The losses of training rows are bounded like everything that the formulas give. Which answer is
right is decided by outputs that are bounded too: where two are too near to each other to tell,
either answer is accepted.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.engine import Score
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Answers, Batch, Reference
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Network, Tensor

Array = NDArray[Any]

# Numbers that the formulas may compute, and in one go.
MOST, AT_ONCE = 100_000_000, 5_000_000
# Losses are summed in float64 by a tree, pieces first.
SUMMED = 64 * UNITS["float64"]


class Expected(NamedTuple):
    """What an evaluation should be, and how far off it may be.

    Attributes:
        loss: mean over the rows.
        loss_bound: likewise.
        accuracy: fraction of right answers; None where there are none.
        accuracy_bound: half the fraction of those that are too near to tell.
    """

    loss: float
    loss_bound: float
    accuracy: float | None
    accuracy_bound: float


def expected(job: Job, parameters: Array, rows: Array) -> Expected | None:
    """Return what evaluating some training rows should give.

    None where there are no formulas, or too many rows for them.

    Args:
        job: settled.
        parameters: flat ``(size,)``.
        rows: indices into the training rows ``(n,)``, some of them possibly repeated.
    """
    network, loss = job.network, job.loss
    if not isinstance(network, Network) or loss is None:
        return None
    single, times = np.unique(rows, return_counts=True)
    numbers = sum(int(np.prod(shape)) for shape in network.shapes)
    if len(single) * numbers > MOST:
        return None
    x, t = job.dataset.train.take(single, job.dtype)
    step = max(1, AT_ONCE // numbers)
    parts = []
    for low in range(0, len(single), step):
        own = slice(low, low + step)
        batch = Batch([x[own].astype(float)], [t[own]], job.experiment.seed, 0)
        reference = Reference(network, loss, batch)
        parts.append(reference.answers(parameters.astype(float), UNITS[job.dtype.name]))
    found = Answers(*map(np.concatenate, zip(*parts, strict=True)))
    return _summed(found, t, times, classifies=job.scores)


def _summed(found: Answers, t: Array, times: Array, *, classifies: bool) -> Expected:
    rows = int(times.sum())
    loss = float(found.losses @ times) / rows
    bound = float(found.loss_errors @ times) / rows + SUMMED * float(np.abs(found.losses).max())
    if not classifies:
        return Expected(loss, bound, None, 0.0)
    sure, possible = right_answers(found.outputs, found.errors, t)
    low, high = float(sure @ times) / rows, float(possible @ times) / rows
    return Expected(loss, bound, (low + high) / 2, (high - low) / 2 + UNITS["float64"])


def right_answers(outputs: Array, errors: Array, t: Array) -> tuple[Array, Array]:
    """Return which rows are answered rightly for sure, and which possibly, ``(rows,)``.

    Args:
        outputs: ``(rows, classes)``, or ``(rows, 1)`` of which positive ones stand for class 1.
        errors: how far off they may be.
        t: labels ``(rows,)``.
    """
    if outputs.shape[1] == 1:
        toward = outputs[:, 0] * (2 * t - 1)
        return toward > errors[:, 0], toward >= -errors[:, 0]
    each = np.arange(len(t))
    own, room = outputs[each, t], errors[each, t]
    others, theirs = outputs.copy(), errors.copy()
    others[each, t], theirs[each, t] = -np.inf, 0
    return own - room > (others + theirs).max(1), own + room >= (others - theirs).max(1)


def check_score(
    job: Job, score: Score, parameters: Array, rows: Array, where: str
) -> Comparison | None:
    """Compare an evaluation of training rows with the formulas; None where there are none.

    Args:
        job: settled.
        score: of the run.
        parameters: that it was evaluated with.
        rows: indices into the training rows.
        where: as of `Comparison`.
    """
    wanted = expected(job, parameters, rows)
    if wanted is None:
        return None
    seen, right, bounds = [score.loss], [wanted.loss], [wanted.loss_bound]
    if wanted.accuracy is not None and score.accuracy is not None:
        seen.append(score.accuracy)
        right.append(wanted.accuracy)
        bounds.append(wanted.accuracy_bound)
    tensors = [
        Tensor(name, (1,), i, i + 1, False, Zeros(), (1, 1))
        for i, name in zip(range(len(seen)), ("loss", "accuracy"), strict=False)
    ]
    found = [np.array(each) for each in (seen, right, bounds)]
    return compare("evaluation = formulas", "evaluation", where, tensors, *found)
