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
from collections.abc import Iterator, Sequence
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

    def excess(self, epsilon: float) -> Array:
        """Return by how much the gradient of ``-log y`` exceeds that of ``-log(y + ε)``."""
        found: Array = epsilon / (1 + self.classes * epsilon) * (self.first - epsilon * self.second)
        return found


def labelled(local: Local, parameters: Array, step: int) -> Labelled | None:
    """Return what other labels tell of the minibatch of a step.

    None where there are none, or too many, or where the code raises or finds no probabilities.
    """
    targets, classes = _targets(local, step)
    sizes = np.array(shard_sizes(len(targets), local.job.shards))
    if not 0 < classes * sizes.max(initial=0) <= PASSES:
        return None
    first, second = np.zeros((2, len(parameters)))
    starts = np.cumsum(sizes) - sizes
    try:
        for place in range(sizes.max()):
            there = np.flatnonzero(sizes > place)
            rows = starts[there] + place
            found = (
                (losses[there] * sizes[there], gradients[there])
                for losses, gradients in local.with_targets(
                    parameters, step, _exchanged(targets, rows, classes)
                )
            )
            with np.errstate(all="ignore"):
                _add(found, first, second)
    except (OwnCodeError, UsageError):
        return None
    if not np.isfinite(first).all() or not np.isfinite(second).all():
        return None
    return Labelled(classes, first, second)


def _targets(local: Local, step: int) -> tuple[Array, int]:
    """Return the targets of a step, and how many classes they stand for; 0 where they are none."""
    targets = np.concatenate(list(local.batch(step).targets))
    classes = local.job.dataset.classes
    if classes:
        return targets, classes
    single = targets.size == len(targets)
    return targets, 2 if single and np.isin(targets, (0, 1)).all() else 0


def _exchanged(targets: Array, rows: Array, classes: int) -> Iterator[Array]:
    """Yield the targets, and then those in which some rows have a label, for each label."""
    yield targets
    for label in range(classes):
        other = targets.copy()
        other[rows] = label
        yield other


def _add(found: Iterator[tuple[Array, Array]], first: Array, second: Array) -> None:
    """Add what one row of each shard makes of the sums of `Labelled`.

    ``Q_rc / Q_rt`` is known from the losses at once, and ``1 / Q_rt`` is the sum of those.

    Args:
        found: losses and gradients of the shards: with their own labels, then by label.
        first: added to, as is ``second``.
        second: see there.
    """
    own_losses, own = next(found)
    inverse, classes = np.zeros(len(own)), 0
    weighted, total = np.zeros_like(own, float), np.zeros_like(own, float)
    for losses, gradients in found:
        ratio = np.exp(own_losses - losses)
        inverse += ratio
        weighted += ratio[:, None] * gradients
        total += gradients
        classes += 1
    first += (inverse[:, None] * own - weighted).sum(axis=0)
    second += (classes * weighted - inverse[:, None] * total).sum(axis=0)


class _Told(NamedTuple):
    """What the derivative of one tensor along a random direction tells.

    Attributes:
        excess: by how much the gradient's is larger.
        error: of it.
        first: of `Labelled`, along the direction, as is ``second``.
        second: see there.
        classes: C.
    """

    excess: float
    error: float
    first: float
    second: float
    classes: int

    def epsilon(self) -> tuple[float, float]:
        """Return ε and its error."""
        found = error = 0.0
        for _ in range(3):
            lever = (self.first - found * self.second) / (1 + self.classes * found)
            if not lever:
                return 0.0, math.inf
            found, error = self.excess / lever, self.error / abs(lever)
            if not 0 < found <= 2 * LARGEST:
                return 0.0, math.inf
        return found, error


def lacking(
    others: Labelled, gradient: Array, slopes: Sequence[Slope], known: float = 0.0
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
    told = [_told(others, gradient, each) for each in slopes]
    estimates = [each.epsilon() for each in told]
    votes = Counter(each for each in (_round(*e) for e in estimates) if each)
    epsilon = votes.most_common(1)[0][0] if votes else _unround(estimates) or _power(estimates)
    if not epsilon and all(abs(e - known) <= error for e, error in estimates):
        epsilon = known
    return Lacking(epsilon, others.excess(epsilon)) if epsilon else None


def _told(others: Labelled, gradient: Array, slope: Slope) -> _Told:
    terms = gradient * slope.direction
    error = slope.error + 4 * np.finfo(float).eps * float(np.abs(terms).sum())
    first, second = (float(each @ slope.direction) for each in (others.first, others.second))
    return _Told(float(terms.sum()) - slope.value, error, first, second, others.classes)


def _round(estimate: float, error: float) -> float:
    """Return the round number that an estimate stands for; 0 where it stands for none."""
    if not 0 < estimate <= 2 * LARGEST or error > 0.1 * estimate:
        return 0.0
    found = float(f"{estimate:.0e}")
    return found if abs(estimate - found) <= error + ROUND * found else 0.0


def _unround(estimates: Sequence[tuple[float, float]]) -> float:
    """Return what all tensors agree upon, two at least; 0 where they do not."""
    sure = [(e, error) for e, error in estimates if error < math.inf]
    if len(sure) < max(2, len(estimates)):
        return 0.0
    middle = float(np.median([e for e, _ in sure]))
    agreed = all(abs(e - middle) <= error + AGREED * middle for e, error in sure)
    return middle if agreed and all(error <= AGREED * middle for _, error in sure) else 0.0


def _power(estimates: Sequence[tuple[float, float]]) -> float:
    """Return the power of ten that all agree with where they are uncertain; 0 if there is none."""
    sure = [(e, error) for e, error in estimates if error < math.inf]
    best, least = min(sure, key=lambda each: each[1], default=(0.0, math.inf))
    if not best:
        return 0.0
    found = float(10.0 ** round(math.log10(best)))
    # errors are seldom as large as they may be: what several tensors tell is no accident
    together = len(sure) >= SEVERAL and all(abs(e - found) <= NEARLY * found for e, _ in sure)
    if not least < best and not together:
        return 0.0
    return found if all(abs(e - found) <= error for e, error in sure) else 0.0
