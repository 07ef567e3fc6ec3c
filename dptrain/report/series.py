"""The series of points that a run's records hold, ready to be drawn."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.metrics.records import EpochRecord, Record, StepRecord, end_of, gap_of, result_of

POINTS_PER_LINE = 2000

# A run that diverges passes any number on its way to infinity; matplotlib's scales overflow first.
_HUGE = 1e100

Points = NDArray[np.float64]


class SplitSeries(NamedTuple):
    """A part of the data that loss and accuracy are measured on."""

    name: str
    loss: Callable[[EpochRecord], float | None]
    accuracy: Callable[[EpochRecord], float | None]
    r2: Callable[[EpochRecord], float | None]


SPLITS = (
    SplitSeries("train", lambda r: r.train_loss, lambda r: r.train_accuracy, lambda r: r.train_r2),
    SplitSeries("test", lambda r: r.test_loss, lambda r: r.test_accuracy, lambda r: r.test_r2),
    SplitSeries(
        "validation",
        lambda r: r.validation_loss,
        lambda r: r.validation_accuracy,
        lambda r: r.validation_r2,
    ),
)

# The loss of single steps is drawn where there are so many logged steps an epoch: straight lines
# between fewer would show what has not been.
_LEAST_STEPS = 1


class Series(NamedTuple):
    """What of one run is drawn. Points are ``(n, 2)``: epoch and value, without those unknown.

    Attributes:
        name: of the run.
        result: how it ended, such as ``test accuracy 0.9731``, or an empty string.
        steps: training loss of the logged steps; none where they are few.
        losses: for each of `SPLITS`.
        accuracies: for each of `SPLITS`, or R² in a regression.
        score: which of them, ``"accuracy"`` or ``"R²"``.
        gaps: between training rows and unseen ones, for losses and for accuracies: epoch, value on
            the training rows, value on the unseen ones, ``(n, 3)``.
        gap: after the epoch of the result, such as ``gap 0.021 at epoch 12``, or an empty string.
        best: the epoch whose weights early stopping restored, if it did.
    """

    name: str
    result: str
    steps: Points
    losses: list[Points]
    accuracies: list[Points]
    score: str
    gaps: tuple[Points, Points]
    gap: str
    best: float | None

    @property
    def end(self) -> float:
        """The last epoch with a point, or 0."""
        lines = (self.steps, *self.losses, *self.accuracies)
        return max((float(points[-1, 0]) for points in lines if len(points)), default=0.0)


def series_of(name: str, records: Sequence[Record]) -> Series:
    """Sort a run's records into series."""
    steps = [record for record in records if isinstance(record, StepRecord)]
    epochs = [record for record in records if isinstance(record, EpochRecord)]
    result, end = result_of(records), end_of(records)
    losses = [_points((record.epoch, split.loss(record)) for record in epochs) for split in SPLITS]
    regression = all(split.accuracy(record) is None for record in epochs for split in SPLITS)
    accuracies = [
        _points((r.epoch, split.r2(r) if regression else split.accuracy(r)) for r in epochs)
        for split in SPLITS
    ]
    known = _points((record.epoch, record.loss) for record in steps)
    few = bool(epochs) and len(known) < _LEAST_STEPS * len(epochs)
    return Series(
        name,
        _result(result) if result else "",
        thinned(known[:0] if few else known),
        losses,
        accuracies,
        "R²" if regression else "accuracy",
        (_between(losses), _between(accuracies)),
        _gap(result) if result else "",
        end.best_epoch if end else None,
    )


def thinned(points: Points) -> Points:
    """Return at most `POINTS_PER_LINE` points that make the same picture.

    Of each of equal parts the lowest and the highest: means would hide how the loss scatters.
    """
    if len(points) <= POINTS_PER_LINE:
        return points
    kept: list[int] = []
    for part in np.array_split(np.arange(len(points)), POINTS_PER_LINE // 2):
        values = points[part, 1]
        kept += sorted((int(part[values.argmin()]), int(part[values.argmax()])))
    return points[kept]


def _points(pairs: Iterable[tuple[float, float | None]]) -> Points:
    known = [pair for pair in pairs if pair[1] is not None]
    return np.array(known, np.float64).reshape(-1, 2).clip(-_HUGE, _HUGE)


def _between(lines: Sequence[Points]) -> Points:
    """Return training and unseen values side by side: of validation rows, or else of test rows."""
    train, test, validation = lines
    unseen = validation if len(validation) else test
    epochs, here, there = np.intersect1d(train[:, 0], unseen[:, 0], return_indices=True)
    return np.column_stack([epochs, train[here, 1], unseen[there, 1]])


def _gap(record: EpochRecord) -> str:
    """Say how far apart training rows and unseen ones are, in accuracy; in loss without any."""
    gap = gap_of(record)
    if gap is None:
        return ""
    value = f"{gap.loss:.3g}" if gap.accuracy is None else f"{gap.accuracy:.3f}"
    return f"gap {value} at epoch {record.epoch:g}"


def _result(last: EpochRecord) -> str:
    """Name the best evidence: accuracy or R² before loss, unseen data before data trained on."""
    for what, name, form in (
        ("accuracy", "accuracy", ".4f"),
        ("r2", "R²", ".4f"),
        ("loss", "loss", ".4g"),
    ):
        for split in ("test", "validation", "train"):
            value = getattr(last, f"{split}_{what}")
            if value is not None:
                return f"{split} {name} {value:{form}}"
    return ""
