"""Everything that is checked of an experiment, one after the other."""

import sysconfig
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from dptrain.errors import DptrainError, WorkerKilledError, machine_limit
from dptrain.exchange.engine import State
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.gradcheck.alone import Alone, Found, first_step
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.beginnings import check_beginning
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.continuity import check_replicas
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Step, Way, begin, engine, gradient_of, recording, steps
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.ledger import check_ledger
from dptrain.gradcheck.masks import check_masks
from dptrain.gradcheck.minibatches.rows import check_rows
from dptrain.gradcheck.order import check_order
from dptrain.gradcheck.report import EDGES, Failure, Report, explained
from dptrain.gradcheck.reported import diagnose_loss
from dptrain.gradcheck.runs.resume import check_resume
from dptrain.gradcheck.runs.whole import check_runs
from dptrain.gradcheck.statistics import check_statistics, diagnose_statistics
from dptrain.gradcheck.subject import STEPS, UPDATES, Dtype, Subject, is_own
from dptrain.gradcheck.updates.fits import checked_rates
from dptrain.gradcheck.updates.one_step import check_updates, diagnose_updates
from dptrain.gradcheck.verdict import Verdict
from dptrain.gradcheck.watcher import Telling, Watcher
from dptrain.launch.local import WORKER, Program
from dptrain.launch.nursery import Nursery, nursery
from dptrain.own.network import OwnNetwork

# Whatever fails at an edge of the second kind may do so because one of the first kind has failed;
# with code of the user's own, of which nothing else is known, also at one of the third.
CAUSES = frozenset(("analytic", "distributed"))
CONSEQUENCES = frozenset(
    ("numerical", "update", "resume", "plan", "order", "replicas", "evaluation")
)
OF_OWN = frozenset(("distributed", "reported"))
# What is read off gradients says nothing where these are wrong in one process.
READ_OFF = frozenset(("statistics", "ledger", "masks"))

CHECKING = "the check goes on"
_CHECKER = Path(__file__).parent
SAYS_NOTHING = (
    ", which says nothing about the gradients; check again, and where memory was short with a "
    "smaller --workers or --batch-size"
)

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


class Part(NamedTuple):
    """A part of a check.

    Attributes:
        edge: that fails if the part cannot be carried out.
        way: which workers it needs, if any.
        found: its comparisons, each with what tells why it failed.
    """

    edge: str
    way: Way | None
    found: Found


class Check:
    """One check, under way.

    Attributes:
        report: what was found so far.
    """

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        points: Mapping[str, Array],
        watcher: Watcher | None = None,
        replay: str = "",
    ) -> None:
        """Begin.

        Args:
            subject: what is checked.
            plan: how thoroughly.
            points: weights at which to check, flat float64, by name.
            watcher: is told of it while it goes on.
            replay: the command that does it again.
        """
        self.subject = subject
        self.plan = plan
        self._watcher = watcher or Telling()
        self._points = points
        self._workers: Program = plan.program
        self.report = Report(_line(subject), subject.seed, replay)

    def run(self, workers: Nursery | None = None) -> Report:
        """Check everything.

        Args:
            workers: forks them; by default a nursery of the check's own does.

        Raises:
            WorkerKilledError: which says nothing about gradients, as what `machine_limit` tells.
        """
        # more BLAS threads would change the last bits of float32 products
        program = workers or self.plan.program
        forks = any(EXCHANGES[way.exchange].workers for way in self.plan.ways)
        forked = nursery(program) if forks else nullcontext(program)
        with threadpool_limits(limits=1, user_api="blas"), forked as self._workers:
            try:
                self._run()
            except WorkerKilledError as error:  # its log is gone, and there is no run to go on with
                raise WorkerKilledError(error.how, SAYS_NOTHING) from None
        return self.report

    def _run(self) -> None:
        began = time.perf_counter()
        broken: set[Way | None] = set()  # what has ended one run would end the others, too
        parts = list(self._parts())  # each is computed only as its comparisons are asked for
        for number, part in enumerate(parts, 1):
            if part.way in broken:
                continue
            self._watcher.stage(number, len(parts))
            try:
                for comparison, failure in part.found:
                    if self._note(comparison):
                        self._failed(self._explained(comparison, failure))
                    if self._enough():
                        break
            except Exception as error:
                if machine_limit(error):  # which says nothing about gradients
                    raise
                self._ended(error, part.edge)
                broken |= {part.way} - {None}
            if self._enough():
                break
        self.report.failures.sort(key=lambda each: EDGES.index(each.comparison.edge))
        self.report.seconds = time.perf_counter() - began

    def _failed(self, failure: Failure) -> None:
        self.report.failures.append(failure)
        self._watcher.failed(failure)

    def _explained(self, comparison: Comparison, failure: Callable[[], Failure]) -> Failure:
        """Return what a failed comparison is put down to."""
        failed = {each.comparison.edge for each in self.report.failures}
        follows = comparison.edge in CONSEQUENCES and failed & CAUSES
        read = READ_OFF | (OF_OWN if self.subject.origin is not None else frozenset())
        if follows or (comparison.edge in read and "analytic" in failed):
            sentence = "this follows from what failed before"
            return Failure(comparison._replace(note=""), [Diagnosis("follows", sentence, 0.0)])
        try:
            return failure()
        except Exception as error:
            if machine_limit(error):
                raise
            sentence = f"no diagnosis can be made: {type(error).__name__}: {error}"
            return Failure(comparison, [Diagnosis("unexplained", sentence, 1.0)])

    def _parts(self) -> Iterator[Part]:
        plan = self.plan
        alone = Alone(self.subject, self._points, plan.workers, self.report)
        for dtype in plan.dtypes:
            yield Part("rows", None, self._rows(dtype))
        yield Part("beginning", None, self._beginning(plan.dtypes[0]))
        if plan.updates:  # before what follows from it
            yield Part("update", None, checked_rates(self.subject, plan.ways))
        for dtype in plan.dtypes:
            for point in self._points:
                if plan.numerical:
                    yield Part("analytic", None, alone.checked(dtype, point))
        for dtype in plan.dtypes:
            for way in plan.ways:
                for point in self._points:
                    if plan.recorded:
                        yield Part("distributed", way, self._recorded(dtype, point, way))
                if plan.updates:
                    yield Part("distributed", way, self._updates(dtype, way))
        for way in plan.ways if plan.beyond else ():
            yield Part("distributed", way, self._beyond(plan.dtypes[0], way))
        if plan.beyond and plan.ways:
            job = self.subject.job(plan.dtypes[0])
            yield Part("resume", plan.ways[0], check_runs(job, plan.ways, worker=plan.program))

    def _enough(self) -> bool:
        return self.plan.first_only and bool(self.report.failures)

    def _note(self, comparison: Comparison) -> bool:
        """Keep a comparison; return whether it is the first of its edge that fails."""
        self.report.comparisons.append(comparison)
        self._watcher.tell(comparison)
        known = {each.comparison.edge for each in self.report.failures}
        return comparison.verdict is Verdict.FAIL and comparison.edge not in known

    def _ended(self, error: Exception, edge: str) -> None:
        where = self.report.comparisons[-1].where if self.report.comparisons else "at the start"
        message, place = str(error), _raised_at(error)
        if not isinstance(error, DptrainError):
            message = f"{type(error).__name__} in {place.name}, line {place.line}: {error}"
            if place.of_the_check:
                message = f"{message}: a fault of dptrain's checker, not of what is checked"
                broke = Comparison(CHECKING, edge, f"after {where}", Verdict.ERROR, (), message)
                self._note(broke)
                self._failed(Failure(broke, []))
                return
        comparison = Comparison(
            "the run goes on", edge, f"after {where}", Verdict.FAIL, (), message
        )
        if self._note(comparison):
            kind = _kind_of(message)
            self._failed(Failure(comparison, [Diagnosis(kind, message, 0.0)]))

    def _rows(self, dtype: Dtype) -> Found:
        """The rows of steps, against the files of the data."""
        workers = [way.workers for way in self.plan.ways]
        yield from _telling(check_rows(self.subject.job(dtype), self.subject.data(dtype), workers))

    def _beginning(self, dtype: Dtype) -> Found:
        """What a new run begins with."""
        yield from _telling(check_beginning(self.subject.job(dtype)))

    def _recorded(self, dtype: Dtype, point: str, way: Way) -> Found:
        """The gradients that real workers come to, step by step."""
        job = self.subject.job(dtype, recording(self.subject.settled(dtype)))
        triangle = Triangle(Local(job))
        state = begin(job, self._points[point])
        where = f"{dtype}, {point} weights, {way}"
        done: list[Step] = []
        data, first = self.subject.data(dtype), first_step(point)
        with engine(job, data, way, state, first, worker=self._workers) as found:
            for step in steps(found, first, first + STEPS):
                for comparison in triangle.against_processes(step, f"{where}, step {step.number}"):
                    yield (
                        comparison,
                        partial(_recorded_failure, triangle, comparison, step, way, done),
                    )
                done.append(step)
        for comparison in check_statistics(job, done, where, local=triangle.local):
            yield comparison, partial(explained, comparison, lambda: diagnose_statistics(job, done))

    def _updates(self, dtype: Dtype, way: Way) -> Found:
        """What the experiment's own optimizer makes of the gradients."""
        job = self.subject.job(dtype)
        where, first = f"{dtype}, {way}", self.plan.first_step
        state = self._come_to(dtype, first)
        slots = [each.copy() for each in state.slots]
        data = self.subject.data(dtype)
        with engine(job, data, way, state, first, worker=self._workers) as found:
            done = list(steps(found, first, first + UPDATES))
        of: dict[str, Any] = {"workers": way.workers, "exchange": way.exchange, "slots": slots}
        for comparison in check_updates(job, done, where, **of, explain=False):
            yield (
                comparison,
                partial(explained, comparison, lambda: diagnose_updates(job, done, **of)),
            )

    def _come_to(self, dtype: Dtype, steps_done: int) -> State:
        """Return where the experiment stands after some steps from the last point."""
        job = self.subject.job(dtype)
        state = begin(job, list(self._points.values())[-1])
        for tensor in job.network.all_tensors():
            if tensor.trained:
                state.parameters[tensor.start] = 0  # where a penalty has no derivative
        if not steps_done:
            return state
        alone = InlineEngine(job, state.parameters, list(state.slots))
        *_, last = steps(alone, 0, steps_done)
        return last.after

    def _beyond(self, dtype: Dtype, way: Way) -> Found:
        """The ledger of rows, masks, the order of arrival, replicas, and resuming."""
        job, data = self.subject.job(dtype), self.subject.data(dtype)
        state, program = self._come_to(dtype, 0), self._workers
        weighted = job.dataset.train.weights is not None
        ways: list[Callable[[], Iterable[Comparison]]] = [
            lambda: check_ledger(job.experiment, way, weighted=weighted, worker=program),
            lambda: check_order(job, data, way, state, seed=self.subject.seed, worker=program),
            lambda: check_replicas(job, data, way, state, worker=program),
        ]
        if not is_own(job):
            ways.insert(1, lambda: check_masks(job, way, worker=program))
        for each in ways:
            yield from _telling(each())
        yield from check_resume(job, data, way, state, worker=program)


def _telling(comparisons: Iterable[Comparison]) -> Found:
    """Yield comparisons that know themselves why they fail."""
    for comparison in comparisons:
        yield comparison, partial(explained, comparison, partial(_about, comparison))


def _recorded_failure(
    triangle: Triangle, comparison: Comparison, step: Step, way: Way, done: Sequence[Step]
) -> Failure:
    """Return why what workers came to in a step is wrong, of which others are done before."""
    if comparison.edge == "reported":
        return Failure(comparison, diagnose_loss(triangle.local, step, way.workers, done))
    return triangle.failure(
        comparison,
        gradient_of(step),
        step.before.parameters,
        step.number,
        way.workers,
        done,
        step=step,
        exchange=way.exchange,
    )


def _about(comparison: Comparison) -> list[Diagnosis]:
    """Return what is known of a comparison, or what its worst element alone says."""
    if comparison.diagnoses:
        return list(comparison.diagnoses)
    if comparison.worst is None:
        return []
    tensor, entry = comparison.worst
    if tensor == "accuracy" and abs(entry.found + entry.wanted - 1) < 1e-12:
        return [Diagnosis("accuracy-inverted", "1 - accuracy is reported as the accuracy", 0.0)]
    return [Diagnosis(comparison.edge, comparison.note, 0.0)] if comparison.note else []


class _Place(NamedTuple):
    """Where an error was raised, libraries left out."""

    name: str
    line: int
    of_the_check: bool


def _raised_at(error: Exception) -> _Place:
    libraries = tuple(map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(_CHECKER.parent)
    own = [f for f in frames if f.filename.startswith(ours) or not f.filename.startswith(libraries)]
    path = Path(own[-1].filename)
    return _Place(path.name, own[-1].lineno or 0, _CHECKER in path.parents)


def _kind_of(message: str) -> str:
    """Return what an error message of the protocol says of the kind of bug."""
    if "bytes" in message and "frame" in message:
        return "truncated"
    return "run-ended"


def _line(subject: Subject) -> str:
    job = subject.job()
    e = job.experiment
    own = job.network.model.traits() if isinstance(job.network, OwnNetwork) else {}
    line = (
        f"{e.model}, {job.network.size:,} parameters, {e.dataset}: minibatches of "
        f"{job.batch_size} rows in {job.shards} shard{'s' * (job.shards > 1)}"
    )
    return "; ".join([line, *(f"{what}: {told}" for what, told in own.items())])
