"""Which rows belong to each split, and how many steps an epoch has."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import Split
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry
from dptrain.gradcheck.diagnosis import Diagnosis, likeliest
from dptrain.gradcheck.reference.minibatches import Visits
from dptrain.gradcheck.verdict import Verdict

Array = NDArray[Any]

SHOWN = 6


def check_splits(job: Job, visits: Visits, *, has_test: bool) -> Iterator[Comparison]:
    """Compare splits and steps with what the experiment says.

    Args:
        job: the one that is checked.
        visits: how it should be.
        has_test: whether the data set brings a test part, which is none of the rows for training.
    """
    wanted = {"train": visits.train, "validation": visits.validation}
    wanted |= {} if has_test else {"test": visits.test}
    n, data = visits.stored, job.dataset
    found = {name: _members(getattr(data, name), n) for name in wanted}
    right = {name: np.bincount(rows, minlength=n) for name, rows in wanted.items()}
    tensors = [entry(name, (n,), i * n) for i, name in enumerate(wanted)]
    flat = [np.concatenate(list(each.values())) for each in (found, right)]
    where = job.dtype.name
    compared = compare("splits = the data's", "rows", where, tensors, flat[0], flat[1], 0.0)
    yield _told(compared, likeliest(_misplaced(found, visits)))
    steps, name = np.array([job.steps_per_epoch]), "steps of an epoch = ⌈rows / minibatch⌉"
    compared = compare(
        name, "rows", where, [entry("steps")], steps, np.array([visits.per_epoch]), 0.0
    )
    yield _told(compared, [_other_count(job.steps_per_epoch, visits)])


def _told(comparison: Comparison, diagnoses: list[Diagnosis]) -> Comparison:
    if comparison.verdict is not Verdict.FAIL:
        return comparison
    return comparison._replace(diagnoses=tuple(diagnoses))


def _members(split: Split, stored: int) -> Array:
    """Return how often each stored row belongs to a split."""
    rows = np.arange(len(split.inputs)) if split.index is None else split.index
    return np.bincount(rows, minlength=stored)[:stored]


def _misplaced(found: dict[str, Array], visits: Visits) -> Iterator[Diagnosis]:
    train = found["train"]
    for name, what in (("test", "testing"), ("validation", "validation")):
        if name not in found:
            continue
        wanted = getattr(visits, name)
        own = np.flatnonzero(found[name])
        if not np.array_equal(own, wanted):
            wrong = np.setxor1d(own, wanted)
            sentence = (
                f"Other rows are held out for {what} than by the seed, such as {_few(wrong)}."
            )
            yield Diagnosis("other-split", sentence, 0.0)
        elif (leaked := wanted[train[wanted] > 0]).size:
            sentence = f"Rows held out for {what} are trained on: {_few(leaked)}."
            yield Diagnosis("held-out-rows-trained", sentence, 0.0)
    beyond = visits.spare[train[visits.spare] > 0]
    lost = visits.train[train[visits.train] == 0]
    if len(beyond):
        others = f", and not the rows {_few(lost)}" if len(lost) else ""
        sentence = f"Rows outside of the training rows are trained on: {_few(beyond)}{others}."
        yield Diagnosis("rows-outside-training", sentence, 0.0)
    if len(lost):
        yield Diagnosis("rows-lost", f"Training rows are left out: {_few(lost)}.", 0.0)
    twice = np.flatnonzero(train > 1)
    if len(twice):
        yield Diagnosis("rows-counted-twice", f"Rows belong to a split twice: {_few(twice)}.", 0.0)


def _other_count(found: int, visits: Visits) -> Diagnosis:
    n, b, wanted = len(visits.train), visits.batch_size, visits.per_epoch
    sentence = f"An epoch has {found} steps instead of ⌈{n} / {b}⌉ = {wanted}."
    if found == n // b:
        return Diagnosis("rows-lost", f"The last minibatch of an epoch is lost. {sentence}", 0.0)
    return Diagnosis("steps-per-epoch", sentence, 0.0)


def _few(rows: Array) -> str:
    return ", ".join(map(str, rows[:SHOWN])) + (" …" if len(rows) > SHOWN else "")
