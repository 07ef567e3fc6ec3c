"""A small experiment to be trained as a whole, in which much of a run can be seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from dptrain.data.dataset import Dataset
from dptrain.errors import NonFiniteError
from dptrain.experiment.code import MEMORY
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.comparison import Array
from dptrain.gradcheck.runs.course import Course
from dptrain.gradcheck.subject import is_own
from dptrain.gradcheck.taken import taken, taken_weights, write_rows

# One row is held out for validation for every so many that are trained on.
HELD_OUT = 3
# Learning rates, as multiples of the experiment's own, and whether the held out rows have their own
# targets: whichever first makes a run's best weights neither the first nor the last. Steps as small
# as usual would change no answer within a few of them.
VARIATIONS = ((64, True), (64, False), (8, True), (1, True), (1, False))
# A network of more parameters takes too long for all of them.
LARGE, FEW = 50_000, 2


class Small(NamedTuple):
    """An experiment of a few rows.

    Attributes:
        job: settled, with early stopping.
        data: folder of its prepared data.
    """

    job: Job
    data: Path


def small(job: Job, folder: Path, steps: int, moments: Sequence[int]) -> tuple[Small, Course]:
    """Return an experiment like another one, of a few of its rows, and what it should come to.

    Args:
        job: the other one, settled.
        folder: for its data; there is none yet.
        steps: of the whole run.
        moments: as of `Course`.

    Raises:
        NonFiniteError: the experiment comes to no numbers, at whatever learning rate.
    """
    count = min(len(job.dataset.train), 2 * job.batch_size + max(1, job.shards - 2))
    held_out = max(1, count // HELD_OUT)
    settings = replace(
        job.experiment,
        dataset=MEMORY,
        validation=held_out / (count + held_out + 1),
        test=0.0,
        train_rows=count,
        steps=steps,
        epochs=None,
        patience=steps,
        min_improvement=0.0,
        normalise_targets="none",  # those that are taken are standardised already
        target_scale=None,
    )
    found: tuple[Small, Course] | None = None
    trouble = NonFiniteError("no learning rate was tried")
    for factor, right in VARIATIONS[: FEW if job.network.size > LARGE else None]:
        data = folder / ("right" if right else "wrong")
        dataset = _prepared(job, settings, data, right=right)
        rate = (settings.lr) * factor
        experiment = replace(
            settings, dataset_digest=dataset.digest, input_scale=dataset.scale, lr=rate
        )
        few = Small(Job(experiment, dataset, job.origin), data)
        try:
            course = Course(few.job, moments)
        except NonFiniteError as error:
            trouble = error
            continue
        if found is None or course.worth() > found[1].worth():
            found = few, course
        if course.worth() == 2:
            break
    if found is None:
        raise trouble
    return found


def _prepared(job: Job, settings: Settled, folder: Path, *, right: bool) -> Dataset:
    """Return the data set, prepared now unless it was before.

    There is one row more than is trained on or held out.
    """
    if not folder.exists():
        _write(job, settings, folder)
    dataset = opened_data(settings, folder)
    if not right and dataset.validation.index is not None:
        _write(job, settings, folder, dataset.validation.index)
        dataset = opened_data(settings, folder)
    return dataset


def _write(job: Job, settings: Settled, folder: Path, wrong: Array | None = None) -> None:
    count = settings.train_rows or 1
    order = np.arange(round((count + 1) / (1 - settings.validation)))
    x, t = taken(job, order)
    if wrong is not None:
        t[wrong] = _others(job, t[wrong])
    weights = taken_weights(job, order)
    write_rows(job, folder, (x, t), taken(job, order[:HELD_OUT]), weights)


def _others(job: Job, targets: Array) -> Array:
    """Return targets that training leads away from, as far as any can be made up."""
    if is_own(job):  # whose loss may not take all numbers
        return np.roll(targets, 1, axis=0)
    if job.dataset.classes:
        return np.asarray((targets + 1) % job.dataset.classes)
    within = ((targets >= 0) & (targets <= 1)).all()
    return np.asarray(1 - targets if within else -targets)
