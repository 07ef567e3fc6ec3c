"""What a finished run suggests to try next, where it has hardly learnt anything."""

from collections.abc import Iterator, Sequence

import numpy as np

from dptrain.coordinator.outcome import Outcome
from dptrain.experiment.job import Job
from dptrain.metrics.records import EpochRecord

FEW_STEPS = 100
FALLING = 0.01  # of the loss, in the last epoch
LEARNT = 0.02  # of what one who always gives the same answer has wrong


def hints(outcome: Outcome) -> list[str]:
    """Return a sentence for each: too few steps, and no better than guessing."""
    if not outcome.finished:
        return []
    if outcome.steps < FEW_STEPS:
        return list(_hardly_begun(outcome))
    return list(_guesses(outcome.job, outcome.evaluation))


def _hardly_begun(outcome: Outcome) -> Iterator[str]:
    epochs = outcome.job.experiment.epochs
    done = [each for each in outcome.records if isinstance(each, EpochRecord)]
    if epochs is None or outcome.end is not None:
        return
    fell = _fell([each.train_loss for each in done])
    if fell > FALLING:
        yield (
            f"{outcome.steps} steps are few, and the loss fell by {fell:.0%} in the last epoch: "
            f"try --epochs {10 * epochs}"
        )


def _fell(losses: Sequence[float | None]) -> float:
    """Return by which fraction the loss fell in the last epoch, 0 where that is unknown."""
    if len(losses) < 2:
        return 0.0
    before, after = losses[-2:]
    return 1 - after / before if before and after is not None and before > 0 else 0.0


def _guesses(job: Job, last: EpochRecord | None) -> Iterator[str]:
    if last is None or last.train_accuracy is None or job.dataset.classes < 2:
        return
    split = job.dataset.train
    targets = split.targets if split.index is None else split.targets[split.index]
    counts = np.bincount(targets)
    share = counts.max() / counts.sum()
    if last.train_accuracy <= share + LEARNT * (1 - share):
        often = job.dataset.class_names[int(counts.argmax())]
        yield (
            f"this is hardly better than guessing: always answering {often!r} would be right for "
            f"{share:.2%} of the training rows; try another --lr (it was {job.experiment.lr:g})"
        )
