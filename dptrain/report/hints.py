"""What a finished run suggests to try next, where training has hardly begun."""

from collections.abc import Sequence

from dptrain.coordinator.outcome import Outcome
from dptrain.metrics.records import EpochRecord

FEW_STEPS = 100
FALLING = 0.01  # of the loss, in the last epoch


def hint(outcome: Outcome) -> str:
    """Return a sentence where the loss still fell after few steps, or ``""``.

    A number of steps that was asked for is what was wanted, and early stopping knows better.
    """
    epochs = outcome.job.experiment.epochs
    done = [each for each in outcome.records if isinstance(each, EpochRecord)]
    fell = _fell([each.train_loss for each in done])
    if epochs is None or outcome.end is not None or not outcome.finished:
        return ""
    if outcome.steps >= FEW_STEPS or fell <= FALLING:
        return ""
    return (
        f"{outcome.steps} steps are few, and the loss fell by {fell:.0%} in the last epoch: try "
        f"--epochs {10 * epochs}"
    )


def _fell(losses: Sequence[float | None]) -> float:
    """Return by which fraction the loss fell in the last epoch, 0 where that is unknown."""
    if len(losses) < 2:
        return 0.0
    before, after = losses[-2:]
    return 1 - after / before if before and after is not None and before > 0 else 0.0
