"""The comparisons of rows: splits, steps, weights, augmentation, and the scales of numbers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.data.dataset import Split
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, compare_numbers, entry, told_of
from dptrain.gradcheck.diagnosis import Diagnosis, likeliest
from dptrain.gradcheck.minibatches.augmented import augmenting, diagnose_augmentation
from dptrain.gradcheck.minibatches.recipe import Recipe, Seen, diagnose_rows, seen
from dptrain.gradcheck.minibatches.scales import check_normalisation, check_targets
from dptrain.gradcheck.reference.augmentation import draws_of
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.minibatches import Stored, Visits, visits
from dptrain.gradcheck.verdict import Verdict

Array = NDArray[Any]

SHOWN = 6
# Of a weight: of the mean, of the divisions by it and by the largest, and of the dtype.
ROUNDINGS = 4


def check_rows(job: Job, folder: Path, workers: Sequence[int] = ()) -> list[Comparison]:
    """Compare the rows of some steps of several epochs with the data, and with their augmentation.

    Rows as they are stored must be equal bit by bit, as must shifted images; for rotations and
    noise there are bounds of rounding.

    Args:
        job: the one that is checked.
        folder: of its prepared data.
        workers: world sizes; the shares of their ranks are compared as well.

    Returns:
        Comparisons of the edge ``"rows"``; those that fail carry diagnoses.
    """
    stored = Stored.opened(folder, job.dtype, job.experiment.target_scale)
    has_test = (folder / "x_test.npy").exists()
    right = visits(job.experiment, len(stored.x), has_test=has_test)
    found = [*_splits(job, right, has_test=has_test), *_steps(job, stored, right, workers)]
    return [*found, *check_normalisation(job, stored, right), *check_targets(job, stored, right)]


def _steps(job: Job, stored: Stored, right: Visits, workers: Sequence[int]) -> Iterator[Comparison]:
    """Compare rows as they are stored and, if those are right, as they are augmented."""
    e, name = job.experiment, "rows of a step = the data's"
    plain = replace(e, augment_shift=0, augment_rotate=0.0, augment_noise=0.0)
    ways = [0, *sorted({each for each in workers if 1 < each <= job.shards})]
    for way in ways:
        found = list(seen(Job(plain, job.dataset, job.origin), right, way))
        compared = [_compared(name, job, each, Recipe(), stored) for each in found]
        if any(each.verdict is Verdict.FAIL for each in compared):
            why = tuple(diagnose_rows(found, stored, right, job.shards))
            yield from told_of(compared, diagnoses=why)
            return  # the rest would only say so again
        yield from compared
        yield from _weights(job, found, stored, right)
    draws = draws_of(e, job.dataset.sample_shape)
    recipe, name = augmenting(draws, job.shards), "augmented rows = formulas"
    for way in ways if draws.anything else ():
        found = list(seen(job, right, way))
        compared = [_compared(name, job, each, recipe, stored) for each in found]
        if any(each.verdict is Verdict.FAIL for each in compared):
            why = tuple(diagnose_augmentation(found, stored, draws, job.shards))
            yield from told_of(compared, diagnoses=why)
            return
        yield from compared


def _compared(name: str, job: Job, each: Seen, recipe: Recipe, stored: Stored) -> Comparison:
    """Compare a step's number of rows and, if that is right, what they hold."""
    parts = [("rows", np.array(len(each.x)), np.array(len(each.wanted)), np.zeros(()))]
    if each.whole:
        x, t = recipe.augment(each, stored.inputs(each.wanted)), stored.targets(each.wanted)
        parts += [("inputs", each.x, x.x, x.bound), ("targets", each.t, t, np.zeros(t.shape))]
    edges = np.cumsum([0, *(found.size for _, found, *_ in parts)]).tolist()
    tensors = [
        entry(part, found.shape, low)
        for (part, found, *_), low in zip(parts, edges[:-1], strict=True)
    ]
    found, wanted, limits = (
        np.concatenate([np.asarray(part[i], float).reshape(-1) for part in parts])
        for i in (1, 2, 3)
    )
    where = f"{job.dtype.name}, {each.where}"
    return compare(name, "rows", where, tensors, found, wanted, limits)


def _weights(
    job: Job, found: Sequence[Seen], stored: Stored, visits: Visits
) -> Iterator[Comparison]:
    """Compare weights with those of the data, divided by their mean over the training rows."""
    if stored.w is None:
        return
    given = np.asarray(stored.w, float)
    relative = given * (len(visits.train) / given[visits.train].sum())
    mean = "divided by their mean over the rows that are trained on"
    for each in found:
        wanted = relative[each.wanted]
        room = ROUNDINGS * (UNITS[job.dtype.name] + len(given) * UNITS["float64"]) * wanted
        sentence = f"Rows do not have their weights, {mean}."
        if (each.w[np.abs(each.w - wanted) > room] == 1).all():
            sentence = "Weights of rows are ignored."
        elif np.allclose(each.w, given[each.wanted]):
            sentence = f"Weights are as they were given, and not {mean}."
        elif np.allclose(np.sort(each.w), np.sort(wanted)):
            sentence = "Rows have the weights of other rows of their minibatch."
        name, where = "row weights of a step = the data's", f"{job.dtype.name}, {each.where}"
        tensors = [entry("row weights", wanted.shape)]
        compared = compare(name, "rows", where, tensors, each.w, wanted, room)
        yield from told_of([compared], diagnoses=(Diagnosis("row-weights", sentence, 0.0),))


def _splits(job: Job, visits: Visits, *, has_test: bool) -> Iterator[Comparison]:
    """Compare splits and steps with what the experiment says.

    ``has_test``: whether the data set brings a test part, which is none of the rows for training.
    """
    wanted = {"train": visits.train, "validation": visits.validation}
    wanted |= {} if has_test else {"test": visits.test}
    n, where = visits.stored, job.dtype.name
    found = {name: _members(getattr(job.dataset, name), n) for name in wanted}
    right = [np.bincount(rows, minlength=n) for rows in wanted.values()]
    tensors = [entry(name, (n,), i * n) for i, name in enumerate(wanted)]
    flat = np.concatenate([*found.values()]), np.concatenate(right)
    compared = compare("splits = the data's", "rows", where, tensors, *flat, 0.0)
    misplaced = [Diagnosis(kind, said, 0.0) for kind, said in _misplaced(found, visits)]
    yield from told_of([compared], diagnoses=tuple(likeliest(misplaced)))
    rows, batch, count = len(visits.train), visits.batch_size, job.steps_per_epoch
    sentence = f"An epoch has {count} steps instead of ⌈{rows} / {batch}⌉ = {visits.per_epoch}."
    why = Diagnosis("steps-per-epoch", sentence, 0.0)
    if count == rows // batch:
        why = Diagnosis("rows-lost", f"The last minibatch of an epoch is lost. {sentence}", 0.0)
    name, pairs = "steps of an epoch = ⌈rows / minibatch⌉", {"steps": (count, visits.per_epoch)}
    compared = compare_numbers(name, "rows", where, pairs)
    yield from told_of([compared], diagnoses=(why,))


def _members(split: Split, stored: int) -> Array:
    """Return how often each stored row belongs to a split."""
    rows = np.arange(len(split.inputs)) if split.index is None else split.index
    return np.bincount(rows, minlength=stored)[:stored]


def _misplaced(found: dict[str, Array], visits: Visits) -> Iterator[tuple[str, str]]:
    train = found["train"]
    for name, what in (("test", "testing"), ("validation", "validation")):
        if name not in found:
            continue
        wanted, own = getattr(visits, name), np.flatnonzero(found[name])
        if not np.array_equal(own, wanted):
            few = _few(np.setxor1d(own, wanted))
            yield "other-split", f"Other rows are held out for {what} than by the seed, as {few}."
        elif (leaked := wanted[train[wanted] > 0]).size:
            sentence = f"Rows held out for {what} are trained on: {_few(leaked)}."
            yield "held-out-rows-trained", sentence
    beyond = visits.spare[train[visits.spare] > 0]
    lost = visits.train[train[visits.train] == 0]
    if len(beyond):
        others = f", and not the rows {_few(lost)}" if len(lost) else ""
        sentence = f"Rows outside of the training rows are trained on: {_few(beyond)}{others}."
        yield "rows-outside-training", sentence
    if len(lost):
        yield "rows-lost", f"Training rows are left out: {_few(lost)}."
    if len(twice := np.flatnonzero(train > 1)):
        yield "rows-counted-twice", f"Rows belong to a split twice: {_few(twice)}."


def _few(rows: Array) -> str:
    return ", ".join(map(str, rows[:SHOWN])) + (" …" if len(rows) > SHOWN else "")
