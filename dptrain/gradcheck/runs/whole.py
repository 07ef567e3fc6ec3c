"""Whole runs, in one go and stopped and resumed, against the same steps never written to a file.

Read are the checkpoints and records themselves, in the order in which they come about. All of them
must hold what this process computes, to the last bit: the first that does not tells what was lost.
"""

import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator.initial_state import saved_state
from dptrain.errors import CheckpointError, NonFiniteError, machine_limit
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare_numbers
from dptrain.gradcheck.diagnosis import EXPLAINS, Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.report import Failure, explained
from dptrain.gradcheck.runs.carried_out import Leg, Watcher, carry_out, evaluated, left
from dptrain.gradcheck.runs.course import Course, Small, small
from dptrain.gradcheck.runs.on_disk import (
    EDGE,
    Explain,
    Record,
    Told,
    check_checkpoint,
    check_digests,
    check_progress,
    check_records,
    first_wrong,
    read_checkpoint,
    read_records,
)
from dptrain.gradcheck.runs.states import (
    OTHER_STEP,
    Arrays,
    arrays_of,
    wrong_continuation,
    wrong_state,
)
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
    """A checkpoint that a run has left, and the steps after which it should hold the state.

    ``judged``: the steps of the last evaluation before it was written.
    """

    file: Path
    what: str
    where: str
    step: int
    judged: int


def check_runs(
    job: Job, ways: Sequence[Way], *, worker: Program = WORKER
) -> Iterator[tuple[Comparison, Callable[[], Failure]]]:
    """Compare runs of a small experiment with what they should come to.

    One goes through without a stop. The other is begun in one process and asked to stop; resumed
    and asked to stop again; resumed by others, and killed; and resumed.

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
        Run(few, course, name, legs, folder / name)
        for name, legs in (("in one go", [whole]), ("resumed", _legs(ways)))
    ]
    for run in runs:
        yield from run.compared(worker)
    for run in runs:  # whatever else is wrong says more than a digest
        yield from check_digests(course, run.records(), f"{run.name}, metrics.jsonl")


def _legs(ways: Sequence[Way]) -> list[Leg]:
    """Return how a run is carried out that is stopped: each time by others, as far as can be.

    Workers always resume after an odd number of steps, too: what they keep twice, for even and for
    odd steps, begins with the second then.
    """
    second = ways[-1]
    fewer = Way(second.exchange, max(1, second.workers - 1))
    third = next((each for each in reversed(ways) if each != second), fewer)
    digests = (("record_digests", True),)
    first, again, killed = STOPS
    return [
        Leg(Way("inline", 1), "asked", first, digests),
        Leg(third, "asked", again, digests),
        Leg(second, "killed", killed),
        Leg(third),
    ]


class Run:
    """A run of several legs, and what it leaves."""

    def __init__(
        self, few: Small, course: Course, name: str, legs: Sequence[Leg], folder: Path
    ) -> None:
        self._few, self._course = few, course
        self.name, self._legs = name, legs
        self._folder = RunFolder(folder)
        self._copies = folder.with_name(f"{folder.name}-copies")

    def compared(self, worker: Program) -> Told:
        """Carry it out, and compare what it leaves; what stands first makes the rest wrong too."""
        self._copies.mkdir()
        known: list[Moment] = []
        for leg in self._legs:
            before = known[-1] if known else None
            if before is not None:
                yield self._read_back(before)
            error = None
            try:
                self._course.rewind()
                done = carry_out(self._few, leg, self._folder.path, self._copies, worker)
            except Exception as each:
                if machine_limit(each):
                    raise
                error = each
            else:
                yield self._beginning(leg, before.step if before else 0, done)
            for moment in self._moments(leg):
                if moment.file.is_file():
                    yield from self._checkpoint(moment, partial(self._about_leg, before, moment))
                elif error is None:
                    yield _missing(moment)
                    return
                known.append(moment)
            if error is not None:
                yield self._ended(leg, before, error)
                return
        where, every = f"{self.name}, metrics.jsonl", self._legs[0].execution.log_every
        digested = max(
            leg.stop for leg in self._legs if leg.execution.record_digests or not leg.stop
        )
        yield from check_records(self._course, self.records(), where, every, digested)
        for moment in known:
            yield from self._progress(moment)
        for moment in self._at_the_end():
            if not moment.file.is_file():
                yield _missing(moment)
                return
            yield from self._checkpoint(moment, partial(self._about_best, moment))
            yield from self._progress(moment)

    def records(self) -> list[Record]:
        """Return what it has recorded, so far."""
        file = self._folder.metrics
        return read_records(file) if file.is_file() else []

    def _moments(self, leg: Leg) -> Iterator[Moment]:
        """Yield the checkpoints of a leg, in the order in which they were written."""
        number = self._legs.index(leg)
        # a leg that is asked to stop leaves it to the next to end an epoch
        ends = [(each.stop or END + 1) - (each.last == "asked") for each in self._legs]
        begin, end = ends[number - 1] + 1 if number else 1, ends[number]
        written = [
            (evaluated(self._copies, n), n) for n in self._course.scores if begin <= n <= end
        ]
        written += [(left(self._copies, leg.stop), leg.stop)] if leg.stop else []
        for file, step in written:
            what, judged = f"checkpoint after step {step}", self._course.evaluated(min(step, end))
            yield Moment(file, what, f"{self.name}, {leg.way}, {what}", step, judged)

    def _at_the_end(self) -> Iterator[Moment]:
        leg, per, (best, _) = self._legs[-1], self._few.job.steps_per_epoch, self._course.best(END)
        epochs = range(1, END // per + 1) if leg.execution.keep_checkpoints else ()
        what = f"checkpoint of the best weights, after step {best}"
        for file, name, step in (
            *((self._folder.of_epoch(n), f"checkpoint of epoch {n}", n * per) for n in epochs),
            (self._folder.best, f"{what}, best.safetensors", best),
            (left(self._copies, 0), f"{what}, put back at the end", best),
        ):
            yield Moment(file, name, f"{self.name}, {leg.way}, {name}", step, step)

    def _checkpoint(self, moment: Moment, explain: Explain) -> Told:
        saved = read_checkpoint(moment.file)
        return check_checkpoint(self._course, saved, moment.step, moment.where, explain)

    def _progress(self, moment: Moment) -> Told:
        saved = read_checkpoint(moment.file)
        return check_progress(self._course, saved, moment.step, moment.judged, moment.where)

    def _beginning(self, leg: Leg, stopped: int, done: Watcher) -> tuple[Comparison, Explain]:
        """Compare after how many steps a leg begins with those after which it should."""
        begun = done.told if done.begun is None else done.begun
        what = f"The run that was stopped after step {stopped} goes on after step {begun}."
        pairs = {"told": (done.told, stopped), "done": (begun, stopped)}
        name, where = "first steps = those after the stop", f"{self.name}, {leg.way}"
        compared = compare_numbers(name, EDGE, where, pairs)
        return compared, lambda: [Diagnosis("resumed-elsewhere", what, 0.0)]

    def _read_back(self, moment: Moment) -> tuple[Comparison, Explain]:
        """Compare what a checkpoint that is right comes to when a run reads it."""
        job = self._course.job
        try:
            found = arrays_of(job, saved_state(job, load_checkpoint(moment.file)))
            why = self._wrong(moment, found, f"Read back from the {moment.what}, which is right,")
        except CheckpointError as error:
            why = [Diagnosis("checkpoint-unread", str(error), 0.0)]
        name, pairs = "states read back = in the checkpoint", {"wrong": (len(why), 0)}
        return compare_numbers(name, EDGE, moment.where, pairs), lambda: why

    def _wrong(self, moment: Moment, found: Arrays, where: str) -> list[Diagnosis]:
        course = self._course
        wanted = arrays_of(course.job, course.state(moment.step))
        return wrong_state(course.job, found, wanted, course.states, where)

    def _about_leg(self, before: Moment | None, moment: Moment) -> list[Diagnosis]:
        """Return why a checkpoint is wrong, although the one before it was right and read back."""
        course = self._course
        found, kind = read_checkpoint(moment.file).arrays(course.job), "run-differs"
        what = "The run is another before any checkpoint is read"
        if before is not None:
            of = (course.state(before.step), before.step, moment.step, found, course.states)
            if known := wrong_continuation(course.job, *of):
                return known
            kind = "resumed-elsewhere"
            what = f"The run that was resumed after step {before.step} went another way"
        why = self._wrong(moment, found, f"In the {moment.what},")
        step = first_wrong(course, self.records())
        if why[0].residual > EXPLAINS and step is not None:
            what = f"{what}: from step {step} on its losses are."
            return [Diagnosis(kind, what, 1.0), *why]
        return why

    def _about_best(self, moment: Moment) -> list[Diagnosis]:
        found = read_checkpoint(moment.file).arrays(self._course.job)
        why = self._wrong(moment, found, f"In the {moment.what},")
        return [replace(w, kind="best-not-kept") if w.kind == OTHER_STEP else w for w in why]

    def _ended(
        self, leg: Leg, before: Moment | None, error: Exception
    ) -> tuple[Comparison, Explain]:
        what, course = "The run ended", self._course
        if before is not None:
            what = f"The run that was resumed after step {before.step} ended"
            if max((r["step"] for r in self.records()), default=0) <= before.step:
                what += " before its first step was done, as no run does that begins anew"
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = str(error).splitlines()[0] if str(error) else f"line {place.lineno}"
        what = f"{what}: {type(error).__name__} in {Path(place.filename).name}: {reason}"
        # of the lines that workers printed last, the longest; the files will be gone
        logs = [log.read_text(errors="replace") for log in self._folder.path.glob("rank-*.log")]
        if said := max((log.strip().rpartition("\n")[2] for log in logs), key=len, default=""):
            what += f" (a rank said: {said})"

        def explain() -> list[Diagnosis]:
            why = []
            if before is not None and isinstance(error, NonFiniteError):
                last = next((each for each in course.scores if each > before.step), END)
                of = (course.state(before.step), before.step, last, None, course.states)
                why = wrong_continuation(course.job, *of)
            return [*why, Diagnosis("run-ended", f"{what}.", 0.0)]

        name, where = "runs come to their end", f"{self.name}, {leg.way}"
        return Comparison(name, EDGE, where, Verdict.FAIL, (), what), explain


def _missing(moment: Moment) -> tuple[Comparison, Explain]:
    what = f"There is no {moment.what}."
    found = Comparison("checkpoints are there", EDGE, moment.where, Verdict.FAIL, (), what)
    return found, lambda: [Diagnosis("checkpoint-missing", what, 0.0)]
