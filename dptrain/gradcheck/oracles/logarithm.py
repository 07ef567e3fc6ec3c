"""The ε in a logarithm, which a loss has and its gradient leaves out.

The notes' cross-entropy is ``-log(y + 1e-7)``, so that 0 has a logarithm; their gradient is that of
``-log y``. No rounding explains the difference, but it is known: with the loss ``L_r`` of row r,

    d/dθ -log(y_r + ε) = y_r / (y_r + ε) · d/dθ -log y_r = (1 - ε exp(L_r)) · d/dθ -log y_r,

so the gradient of the loss follows, row by row, from what the code computes. It is compared
instead: nothing need be tolerated, and the report says so.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.errors import OwnCodeError, UsageError
from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.oracles.projections import Oracle

Array = NDArray[Any]

# ε is a round number, such as 1e-7: it is estimated, and must come out as one but for this part.
ROUND = 0.02
LARGEST = 1e-4


class Rowwise(NamedTuple):
    """Every row by itself.

    Attributes:
        losses: of each row, ``(rows,)``.
        parts: of the gradient, ``(rows, size)``.
    """

    losses: Array
    parts: Array


def one_by_one(job: Job, step: int) -> Job:
    """Return a job each of whose rows is a shard by itself, in a step."""
    return Job(replace(job.experiment, shards=job.rows(step)), job.dataset, job.origin)


def rowwise(job: Job, parameters: Array, step: int) -> Rowwise | None:
    """Return loss and gradient of each row of a step; None where the code takes no single rows."""
    local = Local(one_by_one(job, step))
    try:
        return Rowwise(local.shard_losses(parameters, step), local.shards(parameters, step))
    except (OwnCodeError, UsageError):
        return None


def epsilon_of(rows: Rowwise, oracle: Oracle, spans: Sequence[slice], seed: int) -> float:
    """Return the ε that the loss has and the gradient lacks; 0 where there is none.

    Every tensor tells it by itself, from the derivative along a random direction; what most of
    those that tell one agree upon is returned, so that a tensor with a wrong gradient decides
    nothing.
    """
    random = np.random.default_rng(seed)
    told: Counter[float] = Counter()
    for span in spans:
        direction = np.zeros(rows.parts.shape[1])
        direction[span] = random.standard_normal(span.stop - span.start)
        slope = oracle(direction)
        parts = rows.parts @ slope.direction
        lever = float(np.exp(rows.losses) @ parts)
        if lever:
            error = slope.error + 4 * np.finfo(float).eps * float(np.abs(parts).sum())
            told[_round((parts.sum() - slope.value) / lever, error / abs(lever))] += 1
    del told[0.0]
    return told.most_common(1)[0][0] if told else 0.0


def _round(estimate: float, error: float) -> float:
    """Return the round number that an estimate stands for; 0 where it stands for none."""
    if not 0 < estimate <= 2 * LARGEST or error > 0.1 * estimate:
        return 0.0
    found = float(f"{estimate:.0e}")
    return found if abs(estimate - found) <= error + ROUND * found else 0.0
