"""When a trial is given up: the median stopping rule.

D. Golovin et al., "Google Vizier: a service for black-box optimization" (KDD 2017), section 3.2.1,
here with the best value so far on both sides, and with every trial that came as far, also one that
was given up later. Where only finished trials counted, the answer would depend on which trials had
finished by the time, and so on how many run side by side.
"""

import statistics
from collections.abc import Sequence

# Of fewer trials the median says little.
FEWEST = 5

Curve = Sequence[tuple[float, float]]


def falls_behind(curve: Curve, others: Sequence[Curve]) -> bool:
    """Return whether a trial is worse than the median of others at the same point.

    Args:
        curve: epoch and value of every evaluation of the trial so far; more is better.
        others: the same of trials that may have gone farther.
    """
    if not curve:
        return False
    epoch = curve[-1][0]
    rivals = [best_by(other, epoch) for other in others if reaches(other, epoch)]
    return len(rivals) >= FEWEST and best_by(curve, epoch) < statistics.median(rivals)


def reaches(curve: Curve, epoch: float) -> bool:
    """Return whether a trial has been evaluated by the epoch, and has come that far."""
    return bool(curve) and curve[0][0] <= epoch <= curve[-1][0]


def best_by(curve: Curve, epoch: float) -> float:
    """Return the best value of a trial up to and including an epoch."""
    return max(value for at, value in curve if at <= epoch)
