"""Training rows of a job, written as data sets of their own, and jobs on these."""

from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from dptrain.data.prepared import prepare_arrays
from dptrain.data.targets import Task
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data
from dptrain.experiment.own_code import MEMORY
from dptrain.gradcheck.comparison import Array

Rows = tuple[Array, Array]


def taken(job: Job, order: Array) -> Rows:
    """Return inputs and targets of training rows; behind the last comes the first again."""
    train = job.dataset.train
    return train.take(order % len(train), job.dtype)


def taken_weights(job: Job, order: Array) -> Array | None:
    """Return the weights of the same rows; None where they have none."""
    train = job.dataset.train
    if train.weights is None:
        return None
    found = np.empty(len(order), train.weights.dtype)
    train.gather_weights(order % len(train), found)
    return found


def write_rows(
    job: Job,
    folder: Path,
    train: Rows,
    test: Rows | None = None,
    weights: Array | None = None,
) -> None:
    """Prepare rows like a job's as a data set.

    Targets of several classes are written one-hot, since some may have no training row.

    Args:
        job: settled.
        folder: where the data go.
        train: inputs and targets, labels ``(n,)`` or values ``(n, k)``.
        test: likewise; if there are any.
        weights: of the rows to train on, ``(n,)``.
    """
    classes = job.dataset.classes
    task: Task = "classification" if classes else "regression"
    hot = np.eye(classes) if classes > 1 else None
    (x, t), (x_test, t_test) = train, test or (None, None)
    prepare_arrays(
        folder,
        x_train=x,
        t_train=t if hot is None else hot[t],
        x_test=x_test,
        t_test=t_test if hot is None or t_test is None else hot[t_test],
        w_train=weights,
        dtype=job.experiment.dtype,
        task=task,
    )


def job_on(job: Job, folder: Path, **settings: Any) -> Job:
    """Return a job like another one on rows of it that were written, with other settings."""
    experiment = replace(
        job.experiment,
        dataset=MEMORY,
        test=0.0,
        min_improvement=0.0,
        normalise_targets="none",  # those that are taken are standardised already
        target_scale=None,
        **settings,
    )
    dataset = opened_data(experiment, folder)
    known = replace(experiment, dataset_digest=dataset.digest, input_scale=dataset.scale)
    return Job(known, dataset, job.origin)
