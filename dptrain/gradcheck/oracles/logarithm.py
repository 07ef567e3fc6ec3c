"""The ε in a logarithm, which a loss has and its gradient leaves out.

The notes' cross-entropy is ``-log(y + 1e-7)``, so that 0 has a logarithm; their gradient is that of
``-log y``. No rounding explains the difference, but it is known. With the probability ``y_r`` that
row r is given for its own class,

    d/dθ -log(y_r + ε) = y_r / (y_r + ε) · d/dθ -log y_r = (1 - ε / (y_r + ε)) · d/dθ -log y_r,

so the gradient of the loss follows from what the code computes, if a row's part of it can be told
from the others'. It is compared instead: nothing need be tolerated, and the report says so.

Rows cannot be taken by themselves: batch normalisation would have other statistics, dropout another
mask, and a penalty stands in the loss of each. But their labels can be exchanged, which leaves all
that as it is. The loss of a shard of n rows changes with row r's label c by

    -log(y_rc + ε) / n,  and  Σ_c (y_rc + ε) = 1 + C ε  for C classes,

which gives every ``Q_rc = (y_rc + ε) / (1 + C ε)``. The gradients ``G_rc`` with those labels differ
by row r's part, ``J (y_r - e_c)``; since ``Σ_c y_rc (y_r - e_c) = 0``, that is

    g_r = G_rt - Σ_c y_rc G_rc,  where t is its own label and  y_rc = (1 + C ε) Q_rc - ε.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import shard_sizes
from dptrain.errors import OwnCodeError, UsageError
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.oracles.projections import Slope

Array = NDArray[Any]

# ε is a round number, such as 1e-7: it is estimated, and must come out as one but for this part.
ROUND = 1e-3
LARGEST = 1e-4
# How far apart, relatively, tensors may be that agree on an ε which is not round.
AGREED = 1e-3
# So many tensors, each as near to a power of ten as this, mean it even where each is uncertain.
SEVERAL, NEARLY = 3, 0.02
# Passes over the minibatch with other labels, at most.
PASSES = 5000


class Lacking(NamedTuple):
    """What a gradient leaves out.

    Attributes:
        epsilon: that the loss has in its logarithm.
        excess: by how much the gradient exceeds that of the loss, ``(size,)``.
    """

    epsilon: float
    excess: Array


class Labelled(NamedTuple):
    """What other labels tell of a minibatch.

    Attributes:
        classes: C.
        first: ``Σ_r (G_rt - Σ_c Q_rc G_rc) / Q_rt``, flat ``(size,)``.
        second: ``Σ_r Σ_c (C Q_rc - 1) G_rc / Q_rt``, likewise.
    """

    classes: int
    first: Array
    second: Array

    def add(self, found: Iterable[tuple[Array, Array]]) -> None:
        """Add what one row of each shard makes of the sums.

        ``Q_rc / Q_rt`` is known from the losses at once, and ``1 / Q_rt`` is the sum of those.

        Args:
            found: losses ``(shards,)`` and gradients ``(shards, size)``: with the rows' own labels,
                then by label, each to be used before the next.
        """
        each = iter(found)
        own_losses, own = next(each)
        inverse = np.zeros(len(own))
        weighted, total = np.zeros((2, *own.shape))
        for losses, gradients in each:
            ratio = np.exp(own_losses - losses)
            inverse += ratio
            weighted += ratio[:, None] * gradients
            total += gradients
        self.first[:] += (inverse[:, None] * own - weighted).sum(axis=0)
        self.second[:] += (self.classes * weighted - inverse[:, None] * total).sum(axis=0)

    def excess(self, epsilon: float) -> Array:
        """Return by how much the gradient of ``-log y`` exceeds that of ``-log(y + ε)``."""
        found: Array = epsilon / (1 + self.classes * epsilon) * (self.first - epsilon * self.second)
        return found


def labelled(local: Local, parameters: Array, step: int) -> Labelled | None:
    """Return what other labels tell of the minibatch of a step.

    None where there are none, or too many, or where the code raises or finds no probabilities.
    """
    targets = np.concatenate(list(local.batch(step).targets))
    classes = local.job.dataset.classes
    if not classes and targets.size == len(targets) and np.isin(targets, (0, 1)).all():
        classes = 2
    sizes = np.array(shard_sizes(len(targets), local.job.shards))
    if not 0 < classes * sizes.max(initial=0) <= PASSES:
        return None
    found = Labelled(classes, *np.zeros((2, len(parameters))))
    starts = np.cumsum(sizes) - sizes
    try:
        for place in range(sizes.max()):
            there = np.flatnonzero(sizes > place)
            others = [targets]
            for label in range(classes):
                others.append(targets.copy())
                others[-1][starts[there] + place] = label
            exchanged = local.with_targets(parameters, step, others)
            with np.errstate(all="ignore"):
                found.add((losses[there] * sizes[there], g[there]) for losses, g in exchanged)
    except (OwnCodeError, UsageError):
        return None
    return found if np.isfinite([found.first, found.second]).all() else None


def lacking(
    others: Labelled, gradient: Array, slopes: Sequence[Slope], known: float
) -> Lacking | None:
    """Return what the gradient lacks of an ε in the loss; None where there is none.

    Every tensor tells it by itself, from the derivative along a random direction; what most of
    those that tell one agree upon is returned, so that a tensor with a wrong gradient decides
    nothing.

    Args:
        others: what other labels tell.
        gradient: that is checked, flat ``(size,)``.
        slopes: of the loss, along a direction in each tensor.
        known: what other rows or weights have told of the same loss; 0 if nothing.
    """
    told = [_epsilon(others, gradient, each) for each in slopes]
    votes = Counter(each for each in (_round(*e) for e in told) if each)
    epsilon = votes.most_common(1)[0][0] if votes else _agreed(told)
    if not epsilon and all(abs(e - known) <= error for e, error in told):
        epsilon = known
    return Lacking(epsilon, others.excess(epsilon)) if epsilon else None


def _epsilon(others: Labelled, gradient: Array, slope: Slope) -> tuple[float, float]:
    """Return the ε that the derivative of one tensor tells, and its error; infinite if none."""
    terms = gradient * slope.direction
    excess = float(terms.sum()) - slope.value
    error = slope.error + 4 * np.finfo(float).eps * float(np.abs(terms).sum())
    first, second = (float(each @ slope.direction) for each in (others.first, others.second))
    found = off = 0.0
    for _ in range(3):
        lever = (first - found * second) / (1 + others.classes * found)
        if not lever:
            return 0.0, math.inf
        found, off = excess / lever, error / abs(lever)
        if not 0 < found <= 2 * LARGEST:
            return 0.0, math.inf
    return found, off


def _round(estimate: float, error: float) -> float:
    """Return the round number that an estimate stands for; 0 where it stands for none."""
    if not 0 < estimate <= 2 * LARGEST or error > 0.1 * estimate:
        return 0.0
    found = float(f"{estimate:.0e}")
    return found if abs(estimate - found) <= error + ROUND * found else 0.0


def _agreed(told: Sequence[tuple[float, float]]) -> float:
    """Return what all tensors agree upon; 0 where they do not.

    A number that is not round, if at least two tell it exactly; or the power of ten that all agree
    with where they are uncertain.
    """
    sure = [(e, error) for e, error in told if error < math.inf]
    if not sure:
        return 0.0
    middle = float(np.median([e for e, _ in sure]))
    exact = all(max(abs(e - middle) - error, error) <= AGREED * middle for e, error in sure)
    if exact and len(sure) >= max(2, len(told)):
        return middle
    best, least = min(sure, key=lambda each: each[1])
    found = float(10.0 ** round(math.log10(best)))
    # errors are seldom as large as they may be: what several tensors tell is no accident
    together = len(sure) >= SEVERAL and all(abs(e - found) <= NEARLY * found for e, _ in sure)
    if least < best or together:
        return found if all(abs(e - found) <= error for e, error in sure) else 0.0
    return 0.0
