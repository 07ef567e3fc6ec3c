"""Everything that is checked of an experiment, one after the other."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DptrainError
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Step, Way, begin, engine, gradient_of, recording, steps
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.numerical import numbers
from dptrain.gradcheck.report import Failure, Report
from dptrain.gradcheck.subject import STEPS, Dtype, Subject, is_own
from dptrain.gradcheck.update import check_updates, diagnose_updates
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER

Array = NDArray[Any]
Tell = Callable[[Comparison], None]


class Plan(NamedTuple):
    """How thorough a check is.

    Attributes:
        ways: exchanges and numbers of workers.
        points: names of the weights at which gradients are checked.
        dtypes: float64 comes with the numerical comparisons; float32 with its own bounds.
        numerical: whether gradients of this process are checked as well.
        beyond: whether also updates, statistics, the ledger and resuming are checked.
        program: what worker processes run.
        first_only: whether to end with the first failure.
    """

    ways: Sequence[Way]
    points: Sequence[str] = ("initial", "burnt in")
    dtypes: Sequence[Dtype] = ("float64", "float32")
    numerical: bool = True
    beyond: bool = True
    program: Sequence[str] = WORKER
    first_only: bool = False


class Check:
    """One check, under way.

    Attributes:
        report: what was found so far.
    """

    def __init__(self, subject: Subject, plan: Plan, tell: Tell, replay: str) -> None:
        self.subject = subject
        self.plan = plan
        self._tell = tell
        self._points = subject.points()
        self.report = Report(_line(subject), subject.seed, replay)

    def run(self) -> Report:
        """Check everything."""
        began = time.perf_counter()
        for dtype in self.plan.dtypes:
            triangle = Triangle(Local(self.subject.job(dtype)))
            for point in self.plan.points:
                if self.plan.numerical:
                    self._analytic(triangle, point)
        for dtype in self.plan.dtypes:
            for way in self.plan.ways:
                for point in self.plan.points:
                    if not self._enough():
                        self._distributed(dtype, point, way)
                if self.plan.beyond and not self._enough():
                    self._updates(dtype, way)
        self.report.seconds = time.perf_counter() - began
        return self.report

    def _enough(self) -> bool:
        """Return whether nothing more is to be looked for."""
        return self.plan.first_only and bool(self.report.failures)

    def _note(self, comparison: Comparison) -> bool:
        """Keep a comparison; return whether it is the first of its edge that fails."""
        self.report.comparisons.append(comparison)
        self._tell(comparison)
        known = {each.comparison.edge for each in self.report.failures}
        return comparison.verdict is Verdict.FAIL and comparison.edge not in known

    def _analytic(self, triangle: Triangle, point: str) -> None:
        parameters = self._points[point].astype(triangle.job.dtype)
        for step in range(STEPS):
            where = f"{triangle.job.dtype.name}, {point} weights, minibatch {step}"
            comparisons = triangle.against_formulas(parameters, step, where)
            self._judge(triangle, comparisons, parameters, step)
            if triangle.job.dtype == np.float64 and step != 1 and not is_own(triangle.job):
                indices = self._indices(triangle)
                comparisons = triangle.against_complex_step(parameters, step, where, indices)
                self._judge(triangle, comparisons, parameters, step)
            if triangle.job.dtype == np.float64 and step != 1:
                self._numbers(triangle, parameters, step, where)

    def _numbers(self, triangle: Triangle, parameters: Array, step: int, where: str) -> None:
        for comparison, slope in numbers(triangle, parameters, step, where, self.subject.seed):
            self._judge(triangle, [comparison], parameters, step)
            if slope is not None:
                points = [(p.h, p.remainder) for p in slope.points if p.remainder > 0]
                plots = self.report.plots.setdefault("taylor", {})
                plots[where] = (
                    (*zip(*points, strict=True), slope.slope) if points else ((), (), slope.slope)
                )

    def _judge(
        self, triangle: Triangle, comparisons: Iterable[Comparison], parameters: Array, step: int
    ) -> None:
        for comparison in comparisons:
            if self._note(comparison):
                found = triangle.local.analytic(parameters, step).gradient
                workers = max((way.workers for way in self.plan.ways), default=1)
                self.report.failures.append(
                    triangle.failure(comparison, found, parameters, step, workers)
                )

    def _indices(self, triangle: Triangle) -> Array:
        spans = [np.arange(t.start, t.stop) for t in triangle.tensors]
        everything = np.concatenate(spans)
        affordable = triangle.affordable()
        if len(everything) <= affordable:
            return everything
        random = np.random.default_rng(self.subject.seed)
        most = max(1, affordable // len(spans))
        chosen = [random.choice(own, min(len(own), most), replace=False) for own in spans]
        return np.sort(np.concatenate(chosen))

    def _distributed(self, dtype: Dtype, point: str, way: Way) -> None:
        experiment = recording(self.subject.settled(dtype))
        job = self.subject.job(dtype, experiment)
        triangle = Triangle(Local(self.subject.job(dtype, experiment)))
        state = begin(job, self._points[point])
        where = f"{dtype}, {point} weights, {way}"
        done: list[Step] = []
        try:
            with engine(
                job, self.subject.data(dtype), way, state, worker=self.plan.program
            ) as found:
                for step in steps(found, 0, STEPS):
                    self._compare_step(triangle, step, done, way, where)
                    done.append(step)
                    if self._enough():
                        break
        except DptrainError as error:
            self._ended(where, error)

    def _updates(self, dtype: Dtype, way: Way) -> None:
        """Check what the experiment's own optimizer makes of the gradients."""
        job = self.subject.job(dtype)
        where = f"{dtype}, {way}"
        state = begin(job, self._points[self.plan.points[-1]])
        try:
            with engine(
                job, self.subject.data(dtype), way, state, worker=self.plan.program
            ) as found:
                done = list(steps(found, 0, STEPS))
        except DptrainError as error:
            self._ended(where, error)
            return
        for comparison in check_updates(job, done, where, workers=way.workers):
            if self._note(comparison):
                diagnoses = diagnose_updates(job, done, workers=way.workers)
                self.report.failures.append(Failure(comparison, diagnoses))

    def _compare_step(
        self, triangle: Triangle, step: Step, before: Sequence[Step], way: Way, where: str
    ) -> None:
        for comparison in triangle.against_processes([step], where):
            if self._note(comparison):
                self.report.failures.append(
                    triangle.failure(
                        comparison,
                        gradient_of(step),
                        step.before.parameters,
                        step.number,
                        way.workers,
                        before,
                    )
                )

    def _ended(self, where: str, error: DptrainError) -> None:
        comparison = Comparison(
            "the run goes on", "distributed", where, Verdict.FAIL, (), note=str(error)
        )
        if self._note(comparison):
            kind = _kind_of(str(error))
            self.report.failures.append(Failure(comparison, [Diagnosis(kind, str(error), 0.0)]))


def _kind_of(message: str) -> str:
    """Return what an error message of the protocol says of the kind of bug."""
    if "bytes" in message and "frame" in message:
        return "truncated"
    return "run-ended"


def _line(subject: Subject) -> str:
    job = subject.job()
    e = job.experiment
    return (
        f"{e.model}, {job.network.size:,} parameters, {e.dataset}: minibatches of "
        f"{job.batch_size} rows in {job.shards} shards"
    )
