"""Whole runs, in one go and stopped and resumed, against the same steps never written to a file.

Read are the checkpoints and records themselves. All of them must hold what this process computes,
to the last bit; the first that does not tells what was lost on the way.
"""

import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator.beginning import saved_state
from dptrain.errors import CheckpointError, NonFiniteError, machine_limit
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Array, Comparison, compare_numbers
from dptrain.gradcheck.diagnosis import EXPLAINS, Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.report import Failure, explained
from dptrain.gradcheck.runs.carried_out import Leg, Watcher, carry_out, evaluated, left
from dptrain.gradcheck.runs.checkpoints import about_experiment, check_checkpoint, check_progress
from dptrain.gradcheck.runs.course import Course
from dptrain.gradcheck.runs.kept import read_kept, read_records
from dptrain.gradcheck.runs.lapses import WEIGHTS, arrays_of, lapses
from dptrain.gradcheck.runs.records import (
    EDGE,
    Explain,
    Pairs,
    Record,
    Told,
    about_evaluations,
    check_records,
    first_wrong,
)
from dptrain.gradcheck.runs.small import Small, small
from dptrain.gradcheck.runs.went_on import came_to_nothing, went_on
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Program
from dptrain.runfolder import RunFolder

# A run is stopped after odd numbers of steps, the first at the end of an epoch before it is
# evaluated, and again after an even one.
STOPS = (3, 5, 8)
END = 11
# In a run without a stop several steps are told of together.
EVERY = 2


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
    job: Job, ways: Sequence[Way], *, worker: Program = WORKER
) -> Iterator[tuple[Comparison, Callable[[], Failure]]]:
    """Compare runs of a small experiment with what they should come to.

    One goes through without a stop. The other is begun in one process and asked to stop; resumed
    there, and asked to stop again; resumed with workers, and killed; and resumed with others.

    Args:
        job: settled; a few of its rows are trained on.
        ways: how the user wants to train; the workers of each leg are among them, or one fewer.
        worker: what worker processes run, or what forks them.

    Yields:
        Each comparison, with what says why it failed.
    """
    with tempfile.TemporaryDirectory(prefix="dptrain-runs-") as folder:
        for comparison, explain in _compared(job, ways, worker, Path(folder)):
            yield comparison, partial(explained, comparison, explain)


def _compared(job: Job, ways: Sequence[Way], worker: Program, folder: Path) -> Told:
    try:
        few, course = small(job, folder / "data", END, STOPS)
    except NonFiniteError as error:
        what = f"There are no numbers to compare: {error}"
        yield Comparison("whole runs", EDGE, "", Verdict.INCONCLUSIVE, (), what), list
        return
    whole = Leg(ways[0], settings=(("keep_checkpoints", True), ("log_every", EVERY)))
    runs = [
        Run(few, course, "in one go", [whole], folder / "whole"),
        Run(few, course, "resumed", _legs(ways), folder / "resumed"),
    ]
    for run in runs:
        yield from run.compared(worker)
    # what is wrong with weights says more than digests and losses
    for run in runs:
        yield from run.recorded()


def _legs(ways: Sequence[Way]) -> list[Leg]:
    """Return how a run is carried out that is stopped: each time by others, as far as can be."""
    second = ways[-1]
    fewer = Way(second.exchange, max(1, second.workers - 1))
    third = next((each for each in reversed(ways) if each != second), fewer)
    *asked, killed = STOPS
    alone = Way("inline", 1)
    return [
        *(Leg(alone, "asked", stop, (("record_digests", True),)) for stop in asked),
        Leg(second, "killed", killed),
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

    def compared(self, worker: Program) -> Told:
        """Carry it out, and compare the checkpoints that it left."""
        self._copies.mkdir()
        ended, number = None, 0
        for number, leg in enumerate(self._legs):
            try:
                self._course.rewind()
                done = carry_out(self._few, leg, self._folder.path, self._copies, worker)
                yield self._beginning(number, done)
            except Exception as error:
                if machine_limit(error):
                    raise
                ended = self._ended(number, error)
                break
        for moment in self._moments():
            if moment.file.is_file() and (ended is None or self._precedes(moment, number)):
                yield from self._checkpoint(moment)
            elif ended is None:
                yield self._missing(moment)
                return
        if ended is not None:
            yield ended

    def recorded(self) -> Told:
        """Compare what it recorded."""
        if not self._folder.metrics.is_file():
            return
        every = self._legs[0].execution.log_every
        where = f"{self._name}, metrics.jsonl"
        yield from check_records(self._course, self._records(), where, every)
        for moment in self._moments():
            if moment.file.is_file():
                kept, where = read_kept(moment.file), self._where(moment)
                yield from check_progress(self._course, kept, moment.step, moment.judged, where)

    @staticmethod
    def _precedes(moment: Moment, leg: int) -> bool:
        """Return whether a checkpoint is what it is to be though that leg has failed."""
        return moment.leg <= leg and not moment.best

    def _where(self, moment: Moment) -> str:
        return f"{self._name}, {self._legs[moment.leg].way}, {moment.what}"

    def _beginning(self, number: int, done: Watcher) -> tuple[Comparison, Explain]:
        """Compare after how many steps a leg begins with those after which it should."""
        stopped = self._legs[number - 1].stop if number else 0
        begun = done.told if done.begun is None else done.begun
        pairs: Pairs = {"told": (done.told, stopped), "done": (begun, stopped)}
        what = f"The run that was stopped after step {stopped} goes on after step {begun}."

        def explain() -> list[Diagnosis]:
            return [Diagnosis("resumed-elsewhere", what, 0.0)]

        where = f"{self._name}, {self._legs[number].way}"
        name = "first steps = those after the stop"
        return compare_numbers(name, EDGE, where, pairs), explain

    def _checkpoint(self, moment: Moment) -> Told:
        kept, about = read_kept(moment.file), partial(self._about_state, moment)
        where = self._where(moment)
        return check_checkpoint(self._course, kept, moment.step, where, about)

    def _records(self) -> list[Record]:
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
        if self._legs[leg].keeps:
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
        course, job, kept = self._course, self._course.job, read_kept(moment.file)
        found = kept.arrays(job)
        wanted = arrays_of(job, course.state(moment.step))
        as_kept = lapses(job, found, wanted, course.states, f"In the {moment.what},")
        if changed := about_experiment(course, kept, self._where(moment)):
            return changed
        if moment.best:
            judged = about_evaluations(course, self._records()) or self._about_progress()
            return judged or _not_kept(course, found[WEIGHTS], moment) or as_kept
        if moment.leg and (first := self._resumed_from(moment.leg)) is not None:
            state = course.state(first.step)
            went = partial(went_on, job, state, first.step, moment.step, found, course.states)
            if known := self._about_reading(first) or went():
                return known
            explained = as_kept[0].residual <= EXPLAINS
            return as_kept if explained else self._about_first_step(first) + as_kept
        if as_kept[0].residual > EXPLAINS:
            return self._about_losses() or as_kept
        return as_kept

    def _resumed_from(self, leg: int) -> Moment | None:
        """Return the checkpoint from which a leg was resumed, the last of the one before."""
        before = [each for each in self._moments() if each.leg == leg - 1 and not each.best]
        return before[-1] if before and before[-1].file.is_file() else None

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

    def _about_progress(self) -> list[Diagnosis]:
        """Return what is wrong with the scores so far in the first checkpoint where anything is."""
        for moment in self._moments():
            if moment.best:
                break
            kept, where = read_kept(moment.file), self._where(moment)
            told = check_progress(self._course, kept, moment.step, moment.judged, where)
            for comparison, explain in told:
                if comparison.verdict is Verdict.FAIL:
                    return explain()
        return []

    def _about_first_step(self, before: Moment) -> list[Diagnosis]:
        """Return how far a run was right that was resumed from a checkpoint that is."""
        if first_wrong(self._course, self._records()) == before.step + 1:
            what = "the loss of its first step is wrong already, so weights or rows were"
        else:
            what = "the loss of its first step is right, so what the optimizer does is wrong"
        what = f"The run that was resumed after step {before.step} went another way: {what}."
        return [Diagnosis("resumed-elsewhere", what, 1.0)]

    def _about_losses(self) -> list[Diagnosis]:
        step = first_wrong(self._course, self._records())
        if step is None:
            return []
        what = (
            f"The run is another before any checkpoint is read: from step {step} on its losses are."
        )
        return [Diagnosis("run-differs", what, 1.0)]

    def _ended(self, number: int, error: Exception) -> tuple[Comparison, Explain]:
        stopped = self._legs[number - 1].stop if number else 0
        what = f"The run that was resumed after step {stopped} ended" if number else "The run ended"
        told = [r["step"] for r in self._records()] if self._folder.metrics.is_file() else []
        if number and max(told, default=0) <= stopped:
            what += " before its first step was done, as no run does that begins anew"
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = str(error).splitlines()[0] if str(error) else f"line {place.lineno}"
        what = f"{what}: {type(error).__name__} in {Path(place.filename).name}: {reason}"
        if said := self._last_words():
            what += f" (a rank said: {said})"
        where = f"{self._name}, {self._legs[number].way}"
        found = Comparison("runs come to their end", EDGE, where, Verdict.FAIL, (), what)

        def explain() -> list[Diagnosis]:
            why = self._about_resuming(number, error) if number else []
            return [*why, Diagnosis("run-ended", f"{what}.", 0.0)]

        return found, explain

    def _about_resuming(self, number: int, error: Exception) -> list[Diagnosis]:
        """Return why a leg that was resumed could not go on."""
        before, course = self._resumed_from(number), self._course
        if before is None:
            return []
        lost = self._about_reading(before)
        if lost or not isinstance(error, NonFiniteError):
            return lost
        last = next((each for each in course.scores if each > before.step), course.end)
        state = course.state(before.step)
        return came_to_nothing(course.job, state, before.step, last, course.states)

    def _last_words(self) -> str:
        """Return the longest of the lines that workers printed last; the files will be gone."""
        logs = [log.read_text(errors="replace") for log in self._folder.path.glob("rank-*.log")]
        return max((log.strip().rpartition("\n")[2] for log in logs), key=len, default="")

    def _missing(self, moment: Moment) -> tuple[Comparison, Explain]:
        what, where = f"There is no {moment.what}.", self._where(moment)
        found = Comparison("checkpoints are there", EDGE, where, Verdict.FAIL, (), what)
        return found, lambda: [Diagnosis("checkpoint-missing", what, 0.0)]


def _not_kept(course: Course, found: Array, moment: Moment) -> list[Diagnosis]:
    """Say it where the best weights are those of another step."""
    for step, state in course.states():
        if np.array_equal(found, np.asarray(state.parameters, float)):
            what = f"The {moment.what}, holds those after step {step}: the best were not kept."
            return [Diagnosis("best-not-kept", what, 0.0)] * (step != moment.step)
    return []
