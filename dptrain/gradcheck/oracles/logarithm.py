"""The ε in a logarithm, which a loss has and its gradient leaves out.

The notes' cross-entropy is ``-log(y + 1e-7)``, so that 0 has a logarithm; their gradient is that of
``-log y``. No rounding explains the difference, but it is known: with the loss ``L_r`` of row r,

    d/dθ -log(y_r + ε) = y_r / (y_r + ε) · d/dθ -log y_r = (1 - ε exp(L_r)) · d/dθ -log y_r,

so the gradient of the loss follows, row by row, from what the code computes. It is compared
instead: nothing need be tolerated, and the report says so.

Where both have a penalty ``λ/2 ‖W‖²`` as well, as the notes' larger networks do, it stands in the
loss of every row and in its part of the gradient, and is taken out of them first:

    d/dθ L = Σ_r (1 - ε exp(L_r - λ/2 ‖W‖²)) · (g_r - λ W / N) + λ W.
"""

import math
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
from dptrain.nn.network import Tensor

Array = NDArray[Any]

# ε is a round number, such as 1e-7: it is estimated, and must come out as one but for this part.
ROUND = 1e-3
LARGEST = 1e-4
# How much better tensors must agree with a penalty than without, for it to be believed.
CLEARLY = 100
# How far apart, relatively, tensors may be that agree on an ε which is not round.
AGREED = 1e-3


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


class Lacking(NamedTuple):
    """What a gradient leaves out.

    Attributes:
        epsilon: that the loss has in its logarithm.
        decay: λ of the penalty that both have; 0 where there is none.
        excess: by how much the gradient exceeds that of the loss, ``(size,)``.
    """

    epsilon: float
    decay: float
    excess: Array


class _Told(NamedTuple):
    """What the derivative of one tensor along a random direction tells.

    Attributes:
        excess: by how much the gradient's is larger.
        error: of it.
        lever: ``excess = ε exp(-λ/2 ‖W‖²) (lever - λ decayed)``.
        decayed: see there.
    """

    excess: float
    error: float
    lever: float
    decayed: float

    def epsilon(self, decay: float) -> tuple[float, float]:
        """Return ``ε exp(-λ/2 ‖W‖²)`` and its error."""
        lever = self.lever - decay * self.decayed
        return (self.excess / lever, self.error / abs(lever)) if lever else (0.0, math.inf)


def lacking(
    rows: Rowwise, parameters: Array, tensors: Sequence[Tensor], oracle: Oracle, seed: int
) -> Lacking | None:
    """Return what the gradient lacks of an ε in the loss; None where there is none.

    Every tensor tells it by itself, from the derivative along a random direction; what most of
    those that tell one agree upon is returned, so that a tensor with a wrong gradient decides
    nothing.

    Args:
        rows: every row by itself.
        parameters: flat ``(size,)``.
        tensors: those that are compared.
        oracle: of the loss.
        seed: of the directions.
    """
    penalised = np.zeros(len(parameters))
    for tensor in tensors:
        if tensor.decays:
            penalised[tensor.start : tensor.stop] = parameters[tensor.start : tensor.stop]
    power = np.exp(rows.losses)
    told = _told(rows, power, penalised, tensors, oracle, seed)
    half = float(penalised @ penalised) / 2
    # what a penalty adds to a loss is less than the loss, and must make the tensors agree
    possible = [each for each in _decays(told) if each * half <= rows.losses.min(initial=math.inf)]
    best, decay = _agreed(told, 0.0, half), 0.0
    for each in possible:
        other = _agreed(told, each, half)
        if (other.voices, -CLEARLY * other.spread) > (best.voices, -best.spread):
            best, decay = other, each
    if not best.voices:
        # a penalty that only the loss has, or not as the gradient, scales ε by what is not known
        scaled = _free_epsilon(told)
        return Lacking(scaled, 0.0, scaled * (power @ rows.parts)) if scaled else None
    scaled = best.epsilon * math.exp(-decay * half)
    return Lacking(
        best.epsilon, decay, scaled * (power @ rows.parts - decay * power.mean() * penalised)
    )


def _told(
    rows: Rowwise,
    power: Array,
    penalised: Array,
    tensors: Sequence[Tensor],
    oracle: Oracle,
    seed: int,
) -> list[_Told]:
    random = np.random.default_rng(seed)
    found = []
    for tensor in tensors:
        direction = np.zeros(rows.parts.shape[1])
        direction[tensor.start : tensor.stop] = random.standard_normal(tensor.stop - tensor.start)
        slope = oracle(direction)
        parts = rows.parts @ slope.direction
        error = slope.error + 4 * np.finfo(float).eps * float(np.abs(parts).sum())
        decayed = float(power.mean() * (penalised @ slope.direction))
        found.append(_Told(float(parts.sum() - slope.value), error, float(power @ parts), decayed))
    return found


class _Agreed(NamedTuple):
    """An ε, how many tensors tell it, and how far the farthest of them is off, relative to it."""

    epsilon: float
    voices: int
    spread: float


def _agreed(told: Sequence[_Told], decay: float, half: float) -> _Agreed:
    factor = math.exp(decay * half)
    estimates = [
        (factor * e, factor * error) for e, error in (each.epsilon(decay) for each in told)
    ]
    rounded = [_round(*each) for each in estimates]
    votes = Counter(each for each in rounded if each)
    if not votes:
        return _Agreed(0.0, 0, 0.0)
    epsilon, voices = votes.most_common(1)[0]
    near = [
        abs(e / epsilon - 1) for (e, _), r in zip(estimates, rounded, strict=True) if r == epsilon
    ]
    return _Agreed(epsilon, voices, max(near))


def _free_epsilon(told: Sequence[_Told]) -> float:
    """Return what tensors without a penalty agree upon, two at least; 0 where they do not."""
    free = [each.epsilon(0.0) for each in told if not each.decayed and each.lever]
    if len(free) < 2:
        return 0.0
    middle = float(np.median([e for e, _ in free]))
    sure = all(error <= AGREED * middle for _, error in free)
    agreed = all(abs(e - middle) <= 2 * AGREED * middle for e, _ in free)
    return middle if sure and agreed and 0 < middle <= LARGEST else 0.0


def _decays(told: Sequence[_Told]) -> list[float]:
    """Return each λ that a penalised tensor stands for, given the ε of those that are not."""
    free = [each.epsilon(0.0) for each in told if not each.decayed]
    scaled = float(np.median([e for e, _ in free])) if free else 0.0
    if scaled <= 0:
        return []
    found = [(each.lever - each.excess / scaled) / each.decayed for each in told if each.decayed]
    return sorted({float(f"{each:.1e}") for each in found if each > 0})


def _round(estimate: float, error: float) -> float:
    """Return the round number that an estimate stands for; 0 where it stands for none."""
    if not 0 < estimate <= 2 * LARGEST or error > 0.1 * estimate:
        return 0.0
    found = float(f"{estimate:.0e}")
    return found if abs(estimate - found) <= error + ROUND * found else 0.0
