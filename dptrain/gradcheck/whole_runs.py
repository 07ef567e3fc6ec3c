"""Whole runs, in one go and stopped and resumed, against the same steps never written to a file.

Read are the checkpoints and records themselves. All of them must hold what this process computes,
to the last bit; the first that does not tells what was lost on the way.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator.beginning import saved_state
from dptrain.errors import CheckpointError, NonFiniteError
from dptrain.experiment.job import Job
from dptrain.gradcheck.checkpoints import check_checkpoint
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.course import Course, Small, small
from dptrain.gradcheck.diagnosis import EXPLAINS, Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.kept import read_kept, read_records
from dptrain.gradcheck.lapses import WEIGHTS, arrays_of, lapses
from dptrain.gradcheck.records import EDGE, Explain, Told, check_records, first_wrong
from dptrain.gradcheck.report import Failure
from dptrain.gradcheck.runs import Leg, carry_out, evaluated, left
from dptrain.gradcheck.verdict import Verdict
from dptrain.gradcheck.went_on import went_on
from dptrain.launch.local import WORKER
from dptrain.runfolder import RunFolder

# A run is stopped after an odd number of steps, and again after an even one.
STOPS = (5, 8)
END = 11


class Moment(NamedTuple):
    """A checkpoint that a run has left, and what it should be.

    Attributes:
        file: where it is.
        what: it is, for a reader.
        step: the steps of which it should hold the state.
        judged: those of the last evaluation before it was written.
        leg: which call of training wrote it, from 0 on.
        best: whether it is to hold the best weights, and not those of the moment.
    """

    file: Path
    what: str
    step: int
    judged: int
    leg: int
    best: bool = False


def check_runs(
    job: Job, ways: Sequence[Way], *, worker: Sequence[str] = WORKER
) -> Iterator[tuple[Comparison, Callable[[], Failure]]]:
    """Compare runs of a small experiment with what they should come to.

    One goes through without a stop. The other is begun in one process and asked to stop after an
    odd number of steps; resumed with workers, and killed; and resumed with others.

    Args:
        job: settled; a few of its rows are trained on.
        ways: how the user wants to train; the workers of each leg are among them, or one fewer.
        worker: what worker processes run, as arguments of Python.

    Yields:
        Each comparison, with what says why it failed.
    """
    with tempfile.TemporaryDirectory(prefix="dptrain-runs-") as folder:
        for comparison, explain in _compared(job, ways, worker, Path(folder)):
            yield comparison, lambda c=comparison, e=explain: Failure(c, e())  # type: ignore[misc]


def _compared(job: Job, ways: Sequence[Way], worker: Sequence[str], folder: Path) -> Told:
    few = small(job, folder, END)
    try:
        course = Course(few.job, STOPS)
    except NonFiniteError as error:
        what = f"There are no numbers to compare: {error}"
        yield Comparison("whole runs", EDGE, "", Verdict.INCONCLUSIVE, (), what), list
        return
    whole = Leg(ways[0], settings=(("keep_checkpoints", True),))
    yield from Run(few, course, "in one go", [whole], folder / "whole").compared(worker)
    yield from Run(few, course, "resumed", _legs(ways), folder / "resumed").compared(worker)


def _legs(ways: Sequence[Way]) -> list[Leg]:
    """Return how a run is carried out that is stopped twice: always with other workers."""
    second = ways[-1]
    fewer = Way(second.exchange, max(1, second.workers - 1))
    third = next((each for each in reversed(ways) if each != second), fewer)
    return [
        Leg(Way("inline", 1), "asked", STOPS[0], (("record_digests", True),)),
        Leg(second, "killed", STOPS[1]),
        Leg(third),
    ]


class Run:
    """A run of several legs, and what it leaves."""

    def __init__(
        self, few: Small, course: Course, name: str, legs: Sequence[Leg], folder: Path
    ) -> None:
        self._few, self._course = few, course
        self._name, self._legs = name, legs
        self._folder = RunFolder(folder)
        self._copies = folder.with_name(f"{folder.name}-copies")

    def compared(self, worker: Sequence[str]) -> Told:
        """Carry it out, and compare what it left."""
        self._copies.mkdir()
        for number, leg in enumerate(self._legs):
            try:
                self._course.rewind()
                carry_out(self._few, leg, self._folder.path, self._copies, worker)
            except Exception as error:  # noqa: BLE001 - what is wrong may end the run in any way
                yield self._ended(number, error)
                break
        for moment in self._moments():
            where = f"{self._name}, {self._legs[moment.leg].way}, {moment.what}"
            if not moment.file.is_file():
                yield _missing(moment, where)
                return
            kept, about = read_kept(moment.file), partial(self._about_state, moment)
            yield from check_checkpoint(
                self._course, kept, moment.step, moment.judged, where, about
            )
        yield from check_records(self._course, self._records(), f"{self._name}, metrics.jsonl")

    def _records(self) -> list[dict[str, object]]:
        return read_records(self._folder.metrics)

    def _moments(self) -> Iterator[Moment]:
        """Yield the checkpoints, in the order in which they were written."""
        course, begin = self._course, 1
        for number, leg in enumerate(self._legs):
            asked = leg.last == "asked"  # to stop; what would end an epoch then comes later
            end = (leg.stop or course.end + 1) - asked
            for step in (each for each in course.scores if begin <= each <= end):
                file = evaluated(self._copies, step)
                yield Moment(file, f"checkpoint after step {step}", step, step, number)
            if leg.stop:
                file, judged = left(self._copies, leg.stop), course.evaluated(end)
                what = f"checkpoint after step {leg.stop}"
                yield Moment(file, what, leg.stop, judged, number)
            begin = end + 1
        yield from self._at_the_end()

    def _at_the_end(self) -> Iterator[Moment]:
        course, leg, per = self._course, len(self._legs) - 1, self._few.job.steps_per_epoch
        if dict(self._legs[leg].settings).get("keep_checkpoints"):
            for epoch in range(1, course.end // per + 1):
                file, step = self._folder.of_epoch(epoch), epoch * per
                yield Moment(file, f"checkpoint of epoch {epoch}", step, step, leg)
        best, _ = course.best(course.end)
        what = f"checkpoint of the best weights, after step {best}"
        yield Moment(self._folder.best, f"{what}, best.safetensors", best, best, leg, best=True)
        file = left(self._copies, 0)
        yield Moment(file, f"{what}, put back at the end", best, best, leg, best=True)

    def _about_state(self, moment: Moment) -> list[Diagnosis]:
        """Return why a checkpoint does not hold what it should."""
        course, job = self._course, self._course.job
        found = read_kept(moment.file).arrays(job)
        wanted = arrays_of(job, course.state(moment.step))
        as_kept = lapses(job, found, wanted, course.states, f"In the {moment.what},")
        if moment.best:
            return [*_not_kept(course, found[WEIGHTS], moment), *as_kept]
        before = [each for each in self._moments() if each.leg < moment.leg]
        if before:
            first = before[-1]
            state = course.state(first.step)
            return self._about_reading(first) or [
                *went_on(job, state, first.step, moment.step, found, course.states),
                *as_kept,
            ]
        if as_kept[0].residual > EXPLAINS:
            return [*self._about_losses(), *as_kept]
        return as_kept

    def _about_reading(self, before: Moment) -> list[Diagnosis]:
        """Return what is lost when a checkpoint that is right is read back."""
        course, job = self._course, self._course.job
        try:
            state = saved_state(job, load_checkpoint(before.file))
        except CheckpointError as error:
            return [Diagnosis("checkpoint-unread", str(error), 0.0)]
        wanted = arrays_of(job, course.state(before.step))
        where = f"Read back from the {before.what}, which is right,"
        return lapses(job, arrays_of(job, state), wanted, course.states, where)

    def _about_losses(self) -> list[Diagnosis]:
        step = first_wrong(self._course, self._records())
        if step is None:
            return []
        what = f"The run goes other ways before it is stopped: from step {step} on it has other"
        return [Diagnosis("run-differs", f"{what} losses.", 0.0)]

    def _ended(self, number: int, error: Exception) -> tuple[Comparison, Explain]:
        before = self._legs[number - 1].stop if number else 0
        begun = f"The run that was resumed after step {before}" if before else "The run"
        what = f"{begun} ended: {type(error).__name__}: {error}"
        where = f"{self._name}, {self._legs[number].way}"
        found = Comparison("runs come to their end", EDGE, where, Verdict.FAIL, (), what)
        return found, lambda: [Diagnosis("run-ended", what, 0.0)]


def _not_kept(course: Course, found: object, moment: Moment) -> list[Diagnosis]:
    """Say it where the best weights are those of another step."""
    for step, state in course.states():
        if np.array_equal(found, np.asarray(state.parameters, float)):
            what = f"The {moment.what}, holds those after step {step}: the best were not kept."
            return [Diagnosis("best-not-kept", what, 0.0)] * (step != moment.step)
    return []


def _missing(moment: Moment, where: str) -> tuple[Comparison, Explain]:
    what = f"There is no {moment.what}."
    found = Comparison("checkpoints are there", EDGE, where, Verdict.FAIL, (), what)
    return found, lambda: [Diagnosis("checkpoint-missing", what, 0.0)]
