"""The series of points that a run's records hold, ready to be drawn."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.metrics.records import EpochRecord, Record, StepRecord

POINTS_PER_LINE = 2000

# A run that diverges passes any number on its way to infinity; matplotlib's scales overflow first.
_HUGE = 1e100

Points = NDArray[np.float64]


class Split(NamedTuple):
    """A part of the data that loss and accuracy are measured on."""

    name: str
    loss: Callable[[EpochRecord], float | None]
    accuracy: Callable[[EpochRecord], float | None]


SPLITS = (
    Split("train", lambda record: record.train_loss, lambda record: record.train_accuracy),
    Split("test", lambda record: record.test_loss, lambda record: record.test_accuracy),
    Split(
        "validation",
        lambda record: record.validation_loss,
        lambda record: record.validation_accuracy,
    ),
)


class Series(NamedTuple):
    """What of one run is drawn. Points are ``(n, 2)``: epoch and value, without those unknown.

    Attributes:
        name: of the run.
        result: how it ended, such as ``test accuracy 0.9731``, or an empty string.
        steps: training loss of the logged steps.
        losses: for each of `SPLITS`.
        accuracies: for each of `SPLITS`.
    """

    name: str
    result: str
    steps: Points
    losses: list[Points]
    accuracies: list[Points]

    @property
    def end(self) -> float:
        """The last epoch with a point, or 0."""
        lines = (self.steps, *self.losses, *self.accuracies)
        return max((float(points[-1, 0]) for points in lines if len(points)), default=0.0)


def series_of(name: str, records: Sequence[Record]) -> Series:
    """Sort a run's records into series."""
    steps = [record for record in records if isinstance(record, StepRecord)]
    epochs = [record for record in records if isinstance(record, EpochRecord)]
    return Series(
        name,
        _result(epochs[-1]) if epochs else "",
        thinned(_points((record.epoch, record.loss) for record in steps)),
        [_points((record.epoch, split.loss(record)) for record in epochs) for split in SPLITS],
        [_points((record.epoch, split.accuracy(record)) for record in epochs) for split in SPLITS],
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


def _result(last: EpochRecord) -> str:
    """Name the best evidence: accuracy before loss, unseen data before data trained on."""
    for what, form in (("accuracy", ".4f"), ("loss", ".4g")):
        for split in ("test", "validation", "train"):
            value = getattr(last, f"{split}_{what}")
            if value is not None:
                return f"{split} {what} {value:{form}}"
    return ""
