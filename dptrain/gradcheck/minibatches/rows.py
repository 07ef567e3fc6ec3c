"""The comparisons of rows: splits, steps, what augmentation makes of them, normalisation."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry, told_of
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.minibatches.misaugmented import diagnose_augmentation
from dptrain.gradcheck.minibatches.misread import diagnose_rows
from dptrain.gradcheck.minibatches.normalisation import check_normalisation
from dptrain.gradcheck.minibatches.sighted import Sighted, sighted
from dptrain.gradcheck.minibatches.splits import check_splits
from dptrain.gradcheck.minibatches.target_scale import check_targets
from dptrain.gradcheck.minibatches.weights import check_weights
from dptrain.gradcheck.reference.augmentation import Augmented, augmented, draws_of
from dptrain.gradcheck.reference.minibatches import Stored, Visits, sizes, visits
from dptrain.gradcheck.verdict import Verdict

Array = NDArray[Any]
Expect = Callable[[Sighted], Augmented]


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
    found = list(check_splits(job, right, has_test=has_test))
    found += _steps(job, stored, right, workers)
    return [*found, *check_normalisation(job, stored, right), *check_targets(job, stored, right)]


def _steps(job: Job, stored: Stored, right: Visits, workers: Sequence[int]) -> Iterator[Comparison]:
    """Compare rows as they are stored and, if those are right, as they are augmented."""
    e = job.experiment
    plain = replace(e, augment_shift=0, augment_rotate=0.0, augment_noise=0.0)
    ways = [0, *sorted({each for each in workers if 1 < each <= job.shards})]

    def as_stored(each: Sighted) -> Augmented:
        x = stored.inputs(each.wanted)
        return Augmented(x, np.zeros(x.shape))

    def as_augmented(each: Sighted) -> Augmented:
        shards = sizes(len(each.wanted), job.shards)
        return augmented(stored.inputs(each.wanted), shards, each.step, draws)

    wrong = False
    for way in ways:
        seen = list(sighted(Job(plain, job.dataset, job.origin), right, way))
        found = _compared("rows of a step = the data's", job, seen, as_stored, stored)
        wrong = any(each.verdict is Verdict.FAIL for each in found)
        yield from _told(found, wrong, lambda s=seen: diagnose_rows(s, stored, right, job.shards))  # type: ignore[misc]
        if wrong:  # the rest would only say so again
            return
        yield from check_weights(job, seen, stored, right)
    draws = draws_of(e, job.dataset.sample_shape)
    for way in ways if draws.anything else ():
        seen = list(sighted(job, right, way))
        found = _compared("augmented rows = formulas", job, seen, as_augmented, stored)
        wrong = any(each.verdict is Verdict.FAIL for each in found)
        yield from _told(
            found,
            wrong,
            lambda s=seen: diagnose_augmentation(s, stored, draws, job.shards),  # type: ignore[misc]
        )
        if wrong:
            return


def _told(
    found: list[Comparison], wrong: bool, diagnose: Callable[[], list[Diagnosis]]
) -> list[Comparison]:
    """Have those that fail tell why."""
    if not wrong:
        return found
    why = tuple(diagnose())
    return told_of(found, diagnoses=why)


def _compared(
    name: str, job: Job, seen: Sequence[Sighted], expect: Expect, stored: Stored
) -> list[Comparison]:
    return [_one(name, f"{job.dtype.name}, {each.where}", each, expect, stored) for each in seen]


def _one(name: str, where: str, each: Sighted, expect: Expect, stored: Stored) -> Comparison:
    """Compare a step's number of rows and, if that is right, what they hold."""
    found, wanted = [np.array([len(each.x)])], [np.array([len(each.wanted)])]
    limits, names, shapes = [np.zeros(1)], ["rows"], [()]
    if each.whole:
        x, t = expect(each), stored.targets(each.wanted)
        found += [each.x, each.t]
        wanted += [x.x, t]
        limits += [x.bound, np.zeros(t.shape)]
        names += ["inputs", "targets"]
        shapes += [each.x.shape, each.t.shape]
    edges = np.cumsum([0, *(part.size for part in found)]).tolist()
    tensors = [
        entry(name, shape, low) for name, shape, low in zip(names, shapes, edges[:-1], strict=True)
    ]
    flat = [
        np.concatenate([np.asarray(part, float).reshape(-1) for part in parts])
        for parts in (found, wanted, limits)
    ]
    return compare(name, "rows", where, tensors, flat[0], flat[1], flat[2])
