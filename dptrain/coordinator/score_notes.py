"""What a reader of a run's scores should know of them, and numbers too large to train on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.evaluation.regression import Regression
from dptrain.experiment.job import Job
from dptrain.metrics.records import EpochRecord
from dptrain.own.network import OwnNetwork
from dptrain.trained import TrainedNetwork

# Beyond this a mean or a deviation of inputs or targets is far from what networks begin with.
LARGE = 10.0
SEEN = 1000  # rows that are looked at


def chosen_by_test(job: Job) -> bool:
    """Return whether the checkpoint ``best`` is the one with the best score on the test rows."""
    return not len(job.split("validation")) and bool(len(job.split("test")))


def flattered(what: str) -> str:
    """Return what to say of a score on the rows that it was chosen by."""
    return (
        f"{what} was chosen by its score on the test rows, so that it will do worse on others; to "
        "choose by other rows, hold some out with --validation 0.1"
    )


def remarks(
    job: Job,
    parameters: NDArray[Any],
    evaluation: EpochRecord | None,
    best_step: int,
    steps: int,
) -> list[str]:
    """Return sentences about how a run has ended.

    Args:
        job: of the run.
        parameters: that it came to, flat ``(size,)``.
        evaluation: of the weights it came to.
        best_step: when the best score so far was reached; 0 where there was none.
        steps: done.
    """
    found = [] if evaluation is None else list(_learnt_nothing(job, parameters, evaluation))
    if chosen_by_test(job) and 0 < best_step < steps:
        epoch = best_step / job.steps_per_epoch
        found.append(flattered(f"the checkpoint best, of epoch {epoch:g},"))
    return found


def _learnt_nothing(job: Job, parameters: NDArray[Any], evaluation: EpochRecord) -> Iterator[str]:
    """Tell where answers are no better than one answer for all rows."""
    for split in ("test", "validation", "train"):
        r2 = getattr(evaluation, f"{split}_r2")
        if r2 is None and getattr(evaluation, f"{split}_loss") is not None:
            r2 = _r2(job, parameters, split)
        accuracy = getattr(evaluation, f"{split}_accuracy")
        what = ""
        if r2 is not None and r2 < 0:
            what = f"R² {r2:.4g} on the {split} rows is worse than their mean would be, which is 0"
        elif accuracy is not None and job.dataset.classes:
            name, share = _most_frequent(job, split)
            if accuracy <= share:
                what = (
                    f"{accuracy:.2%} correct on the {split} rows is no better than {name!r} for "
                    f"all of them, {share:.2%}"
                )
        if what:
            hints = large_numbers(job)
            yield "; ".join([what, *(hints or ["the network has learnt nothing that helps there"])])
        if r2 is not None or accuracy is not None:
            return


def _r2(job: Job, parameters: NDArray[Any], split: str) -> float | None:
    """Return R² of a regression by a loss that does not tell it."""
    if job.dataset.classes or isinstance(job.network, OwnNetwork):
        return None
    trained = TrainedNetwork(job.network, parameters, job.experiment, ())
    found = trained.evaluate_split(job.split(split))
    return found.r2 if isinstance(found, Regression) else None


def _most_frequent(job: Job, name: str) -> tuple[str, float]:
    split = job.split(name)
    labels = split.targets if split.index is None else split.targets[split.index]
    counts = np.bincount(labels, minlength=job.dataset.classes)
    most = int(counts.argmax())
    return job.dataset.class_names[most], float(counts[most] / counts.sum())


def large_numbers(job: Job) -> list[str]:
    """Return what to do about inputs or targets whose scale makes training difficult."""
    rows = np.arange(min(SEEN, len(job.dataset.train)))
    x, t = job.dataset.train.take(rows, job.dtype)
    found = []
    own = isinstance(job.network, OwnNetwork)
    normalised = job.experiment.normalise != "none"
    if not normalised and (size := _largest(x)) > LARGE:
        remedy = "scale them" if own else "give --normalise standard"
        found.append(f"inputs have means or deviations up to {size:.4g}: {remedy}")
    if not job.dataset.classes and (size := _largest(t)) > LARGE:
        remedy = (
            "take off their mean and divide them by their deviation"
            if own
            else "give --normalise-targets standard"
        )
        found.append(
            f"targets have a mean or deviation of {size:.4g}: {remedy}, as a network begins with "
            "outputs near 0"
        )
    return found


def _largest(values: NDArray[Any]) -> float:
    """Return the largest mean or deviation of any column."""
    columns = np.asarray(values, np.float64).reshape(len(values), -1)
    return float(max(np.abs(columns.mean(axis=0)).max(), columns.std(axis=0).max()))
