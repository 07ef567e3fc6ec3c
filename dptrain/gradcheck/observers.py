"""Everything that looks at an experiment: a check is a list of these.

What a new observer needs is a function that yields comparisons, each with what tells why it failed
(`Found`), and an entry in `observers`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from dptrain.exchange.engine import TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.gradcheck.alone import Alone
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.beginnings import check_beginning
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Step, Way, begin, engine, gradient_of, recording, steps
from dptrain.gradcheck.evaluation import check_replicas
from dptrain.gradcheck.forensics import UNEXPLAINED
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.ledger import check_ledger
from dptrain.gradcheck.masks import check_masks
from dptrain.gradcheck.minibatches.rows import check_rows
from dptrain.gradcheck.order import check_order
from dptrain.gradcheck.report import Failure, Found, explained, known
from dptrain.gradcheck.reported import diagnose_loss
from dptrain.gradcheck.runs.whole import check_runs
from dptrain.gradcheck.statistics import check_statistics, diagnose_statistics
from dptrain.gradcheck.subject import (
    STEPS,
    UPDATES,
    Dtype,
    Subject,
    first_step,
    is_own,
)
from dptrain.gradcheck.updates.fits import checked_rates
from dptrain.gradcheck.updates.one_step import check_updates, diagnose_updates
from dptrain.launch.local import WORKER, Program

Array = NDArray[Any]


class Plan(NamedTuple):
    """How thorough a check is.

    Attributes:
        ways: exchanges and numbers of workers.
        dtypes: float64 comes with the numerical comparisons; float32 with its own bounds.
        numerical: whether this process's gradients are checked as well.
        recorded: whether the gradients of real workers are.
        updates: whether what the optimizer makes of them is.
        beyond: whether also the ledger of rows, masks, resuming and the order of arrival are.
        program: what worker processes run.
        first_step: the run is carried on from here, with the state that it has come to.
        first_only: whether to end with the first failure.
    """

    ways: Sequence[Way]
    dtypes: Sequence[Dtype] = ("float64", "float32")
    numerical: bool = True
    recorded: bool = True
    updates: bool = True
    beyond: bool = True
    program: Sequence[str] = WORKER
    first_step: int = 0
    first_only: bool = False

    @property
    def workers(self) -> int:
        """The largest number of them."""
        return max((way.workers for way in self.ways), default=1)


class Observer(NamedTuple):
    """Looks at one thing.

    Attributes:
        edge: that fails if it cannot be carried out.
        look: begins, and yields its comparisons, each with what tells why it failed.
        way: which workers it needs, if any.
        dtype: in which it compares, if in one.
        point: the weights at which it does, by name.
    """

    edge: str
    look: Callable[[], Found]
    way: Way | None = None
    dtype: str = ""
    point: str = ""


def observers(
    subject: Subject, plan: Plan, points: Mapping[str, Array], program: Program
) -> list[Observer]:
    """Return all observers of a check, in the order in which they look.

    Args:
        subject: what is checked.
        plan: how thoroughly.
        points: weights at which to check, flat float64, by name.
        program: what worker processes run, or what forks them.
    """
    dtypes, ways = plan.dtypes, plan.ways
    first, last_point = dtypes[0], list(points.values())[-1]
    here = Alone(subject, points, plan.workers)
    counts = [way.workers for way in ways]
    found = [Observer("rows", partial(_rows, subject, d, counts), None, d) for d in dtypes]
    found.append(Observer("beginning", lambda: known(check_beginning(subject.job(first)))))
    if plan.updates:  # before what follows from it
        found.append(Observer("update", lambda: checked_rates(subject, ways)))
    if plan.numerical:
        found += [
            Observer("analytic", partial(here.checked, d, point), None, d, point)
            for d, point in product(dtypes, points)
        ]
    for d, way in product(dtypes, ways):
        run = partial(Run, subject, d, way, program)
        if plan.recorded:
            found += [
                Observer("distributed", run(w, first_step(point), point).recorded, way, d, point)
                for point, w in points.items()
            ]
        if plan.updates:
            found.append(Observer("distributed", run(last_point, plan.first_step).updates, way, d))
    if plan.beyond:
        for way in ways:
            other = Run(subject, first, way, program, last_point)
            looks = [other.ledger, other.masks, other.order, other.replicas]
            found += [Observer("distributed", look, way, first) for look in looks]
        if ways:
            runs = partial(check_runs, subject.job(first), ways, worker=program)
            found.append(Observer("resume", runs, ways[0], first))
    return found


def _rows(subject: Subject, dtype: Dtype, workers: Sequence[int]) -> Found:
    """The rows of steps, against the files of the data."""
    return known(check_rows(subject.job(dtype), subject.data(dtype), workers))


@dataclass(frozen=True)
class Run:
    """What real workers do, observed.

    Attributes:
        subject: what is checked.
        dtype: in which.
        way: exchange and workers.
        program: what worker processes run, or what forks them.
        parameters: with which a run begins, flat float64.
        first: the step that it begins with.
        point: what the weights are called, if anything.
    """

    subject: Subject
    dtype: Dtype
    way: Way
    program: Program
    parameters: Array
    first: int = 0
    point: str = ""

    @cached_property
    def _job(self) -> Job:
        return self.subject.job(self.dtype)

    @cached_property
    def _data(self) -> Path:
        return self.subject.data(self.dtype)

    def recorded(self) -> Found:
        """The gradients that workers come to, step by step."""
        job = self.subject.job(self.dtype, recording(self.subject.settled(self.dtype)))
        triangle, first = Triangle(Local(job)), self.first
        where = f"{self.dtype}, {self.point} weights, {self.way}"
        done: list[Step] = []
        state = begin(job, self.parameters)
        with engine(job, self._data, self.way, state, first, worker=self.program) as running:
            for step in steps(running, first, first + STEPS):
                for comparison in triangle.against_processes(step, f"{where}, step {step.number}"):
                    yield comparison, partial(self._why, triangle, comparison, step, done)
                done.append(step)
        for comparison in check_statistics(job, done, where, local=triangle.local):
            yield comparison, partial(explained, comparison, lambda: diagnose_statistics(job, done))

    def _why(
        self, triangle: Triangle, comparison: Comparison, step: Step, done: Sequence[Step]
    ) -> Failure:
        """Return why what workers came to in a step is wrong, of which others are done before."""
        workers = self.way.workers
        if comparison.edge == "reported":
            return Failure(comparison, diagnose_loss(triangle.local, step, workers, done))
        failure = triangle.failure(
            comparison,
            gradient_of(step),
            step.before.parameters,
            step.number,
            workers,
            done,
            step=step,
            exchange=self.way.exchange,
        )
        named = failure.diagnoses and failure.diagnoses[0].kind != UNEXPLAINED
        if named or self._comes_again([*done, step]):
            return failure
        race = (
            "the same steps, done again, come to another gradient: what a rank reads depends on "
            "how far the others are, as where somebody does not wait for all to arrive"
        )
        return failure._replace(diagnoses=[Diagnosis("race", race, 0.0), *failure.diagnoses])

    def _comes_again(self, done: Sequence[Step]) -> bool:
        """Return whether workers come to the same gradients in the same steps."""
        job = self.subject.job(self.dtype, recording(self.subject.settled(self.dtype)))
        state, first = begin(job, self.parameters), self.first
        with engine(job, self._data, self.way, state, first, worker=self.program) as running:
            again = list(steps(running, first, first + len(done)))
        pairs = zip(again, done, strict=True)
        return all(gradient_of(a).tobytes() == gradient_of(b).tobytes() for a, b in pairs)

    def updates(self) -> Found:
        """What the experiment's own optimizer makes of the gradients."""
        job, state, first = self._job, self._come_to(self.first), self.first
        slots = [each.copy() for each in state.slots]
        with engine(job, self._data, self.way, state, first, worker=self.program) as running:
            done = list(steps(running, first, first + UPDATES))
        of: dict[str, Any] = {"workers": self.way.workers, "exchange": self.way.exchange}
        of["slots"] = slots
        for comparison in check_updates(
            job, done, f"{self.dtype}, {self.way}", **of, explain=False
        ):
            yield (
                comparison,
                partial(explained, comparison, lambda: diagnose_updates(job, done, **of)),
            )

    def ledger(self) -> Found:
        """Which rows workers count."""
        weighted = self._job.dataset.train.weights is not None
        experiment, worker = self._job.experiment, self.program
        return known(check_ledger(experiment, self.way, weighted=weighted, worker=worker))

    def masks(self) -> Found:
        """Masks of dropout."""
        own = is_own(self._job)
        return known([] if own else check_masks(self._job, self.way, worker=self.program))

    def order(self) -> Found:
        """The order of arrival, which may not matter."""
        state, seed = self._come_to(0), self.subject.seed
        return known(
            check_order(self._job, self._data, self.way, state, seed=seed, worker=self.program)
        )

    def replicas(self) -> Found:
        """Evaluations by all ranks."""
        state = self._come_to(0)
        return known(check_replicas(self._job, self._data, self.way, state, worker=self.program))

    def _come_to(self, steps_done: int) -> TrainingState:
        """Return where the experiment stands after some steps from the weights."""
        state = begin(self._job, self.parameters)
        for tensor in self._job.network.all_tensors():
            if tensor.trained:
                state.parameters[tensor.start] = 0  # where a penalty has no derivative
        if not steps_done:
            return state
        alone = InlineEngine(self._job, state.parameters, list(state.slots))
        *_, last = steps(alone, 0, steps_done)
        return last.after
