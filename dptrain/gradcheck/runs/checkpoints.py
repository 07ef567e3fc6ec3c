"""What a checkpoint says: state, digest, counts and experiment, against the run as it should be."""

from functools import partial

import numpy as np

from dptrain.coordinator.progress import Progress
from dptrain.experiment.files import plain
from dptrain.gradcheck.comparison import Comparison, compare, compare_numbers
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.runs.course import Course
from dptrain.gradcheck.runs.kept import Kept
from dptrain.gradcheck.runs.lapses import arrays_of
from dptrain.gradcheck.runs.records import EDGE, Explain, Pairs, Told, about_digest

# Of an experiment begun with saved weights a run records what it has found there.
FOUND = ("init_from", "init_digest")


def check_checkpoint(
    course: Course, kept: Kept, step: int, where: str, about_state: Explain
) -> Told:
    """Compare a checkpoint with what it should say.

    Args:
        course: of the run.
        kept: the checkpoint.
        step: the steps after which it was written.
        where: it is, for a reader.
        about_state: tells why weights or optimizer state are wrong.
    """
    job, found = course.job, kept.arrays(course.job)
    tensors = job.network.all_tensors()
    for array, wanted in arrays_of(job, course.state(step)).items():
        name = f"{array} in checkpoints = this process's"
        yield compare(name, EDGE, where, tensors, found[array], wanted, 0.0), about_state
    yield _counts(course, kept, step, where)
    yield _digest(course, kept, step, where)
    yield _experiment(course, kept, where)


def check_progress(course: Course, kept: Kept, step: int, judged: int, where: str) -> Told:
    """Compare what a checkpoint says of the scores so far, and what is read back of that.

    Args:
        course: of the run.
        kept: the checkpoint.
        step: the steps after which it was written.
        judged: those after which the last evaluation was; 0: there was none.
        where: it is, for a reader.
    """
    best_step, best = course.best(judged)
    waited = course.waited(judged)
    wanted: dict[str, float] = {"evaluated": judged, "best_step": best_step, "waited": waited}
    wanted |= {"best": best, "improved": best} if judged else {}
    told = kept.about["progress"]
    name = "progress in checkpoints = the run's"
    yield _counted(name, {n: (_number(told.get(n)), w) for n, w in wanted.items()}, where)
    read = Progress.of(step, told).plain()
    name = "progress read back = in the checkpoint"
    pairs = {n: (_number(read.get(n)), _number(told.get(n))) for n in wanted}
    yield _counted(name, pairs, f"{where}, read back")


def _counts(course: Course, kept: Kept, step: int, where: str) -> tuple[Comparison, Explain]:
    pairs: Pairs = {
        "step": (kept.about["step"], step),
        "epoch": (kept.about["epoch"], step // course.job.steps_per_epoch),
    }
    return _counted("counts in checkpoints = the run's", pairs, where)


def _counted(name: str, pairs: Pairs, where: str) -> tuple[Comparison, Explain]:
    def explain() -> list[Diagnosis]:
        wrong = next(name for name, (found, right) in pairs.items() if found != right)
        found, right = pairs[wrong]
        what = f"The checkpoint counts wrongly, {wrong} is {found:g} instead of {right:g}: {where}."
        kind = "step-miscounted" if wrong in ("step", "epoch") else "progress-wrong"
        return [Diagnosis(kind, what, 0.0)]

    return compare_numbers(name, EDGE, where, pairs), explain


def _digest(course: Course, kept: Kept, step: int, where: str) -> tuple[Comparison, Explain]:
    digest = kept.about["digest"]
    pairs: Pairs = {"digest": (float(digest == course.digests[step]), 1.0)}
    name = "digests in checkpoints = those of the weights"
    compared = compare_numbers(name, EDGE, where, pairs)
    return compared, partial(about_digest, course, digest, where)


def _experiment(course: Course, kept: Kept, where: str) -> tuple[Comparison, Explain]:
    name, pairs = (
        "settings changed in checkpoints = none",
        {"changed": (len(_changed(course, kept)), 0)},
    )
    explain = partial(about_experiment, course, kept, where)
    return compare_numbers(name, EDGE, where, pairs), explain


def about_experiment(course: Course, kept: Kept, where: str) -> list[Diagnosis]:
    """Return in what the experiment differs from the one that was begun, if it does."""
    changed = _changed(course, kept)
    what = f"The experiment has changed, to {', '.join(changed)}: {where}."
    return [Diagnosis("experiment-changed", what, 0.0)] * bool(changed)


def _changed(course: Course, kept: Kept) -> list[str]:
    begun, found = plain(course.job.experiment), kept.experiment
    return [
        f"{name}={found.get(name)!r} instead of {begun.get(name)!r}"
        for name in sorted({*begun, *found} - {*FOUND})
        if begun.get(name) != found.get(name)
    ]


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else np.nan
