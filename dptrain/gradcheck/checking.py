"""A check: all observers one after the other, and what is made of what they find."""

import sysconfig
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dptrain.errors import DptrainError, FrameLengthError, WorkerKilledError, machine_limit
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.observers import Observer, Plan, observers
from dptrain.gradcheck.report import FOLLOWS, Failure, Report, place
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.fork_server import ForkServer, fork_server
from dptrain.launch.local import Program
from dptrain.machine.blas import one_blas_thread
from dptrain.own.network import OwnNetwork

__all__ = ["Check", "Plan", "Watcher"]

SAYS_NOTHING = (
    ", which says nothing about the gradients; check again, and where memory was short with a "
    "smaller --workers or --batch-size"
)
_CHECKER = Path(__file__).parent

Array = NDArray[Any]


class Watcher:
    """Is told of a check while it goes on; this one passes comparisons on, and nothing else."""

    def __init__(self, tell: Callable[[Comparison], None] = lambda _: None) -> None:
        """Bind; ``tell`` is given every comparison as it is made."""
        self._tell = tell

    def stage(self, number: int, count: int) -> None:
        """An observer begins, the ``number``th, from 1, of ``count``."""

    def tell(self, comparison: Comparison) -> None:
        """A comparison is made."""
        self._tell(comparison)

    def failed(self, failure: Failure) -> None:
        """The first comparison of an edge has failed, and it is known why."""


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
        self._points = points
        self._watcher = watcher or Watcher()
        self.report = Report(_line(subject), subject.seed, replay)

    def run(self, workers: ForkServer | None = None) -> Report:
        """Check everything.

        Args:
            workers: forks them; by default a nursery of the check's own does.

        Raises:
            WorkerKilledError: which says nothing about gradients, as what `machine_limit` tells.
        """
        began = time.perf_counter()
        program = workers or self.plan.program
        forks = any(EXCHANGES[way.exchange].workers for way in self.plan.ways)
        forked = fork_server(program) if forks else nullcontext(program)
        # more BLAS threads would change the last bits of float32 products
        with one_blas_thread(), forked as forking:
            try:
                self._run(forking)
            except WorkerKilledError as error:  # its log is gone, and there is no run to go on with
                raise WorkerKilledError(error.how, SAYS_NOTHING) from None
        self.report.failures.sort(key=lambda each: place(each.comparison.edge))
        self.report.seconds = time.perf_counter() - began
        return self.report

    def _run(self, program: Program) -> None:
        broken: set[Way] = set()  # what has ended one run would end the others, too
        every = observers(self.subject, self.plan, self._points, program)
        for number, observer in enumerate(every, 1):
            if observer.way not in broken:
                self._watcher.stage(number, len(every))
                try:
                    self._watch(observer)
                except Exception as error:
                    if machine_limit(error):  # which says nothing about gradients
                        raise
                    self._ended(observer, error)
                    if observer.way is not None:
                        broken.add(observer.way)
            if self._enough:
                break

    def _watch(self, observer: Observer) -> None:
        for found, explain in observer.look():
            comparison = found._replace(dtype=observer.dtype, point=observer.point)
            if self._note(comparison):
                self._failed(self._explained(comparison, explain))
            if self._enough:
                break

    @property
    def _enough(self) -> bool:
        return self.plan.first_only and bool(self.report.failures)

    def _note(self, comparison: Comparison) -> bool:
        """Keep a comparison; return whether it is the first of its edge that fails."""
        self.report.comparisons.append(comparison)
        self._watcher.tell(comparison)
        known = {each.comparison.edge for each in self.report.failures}
        return comparison.verdict is Verdict.FAIL and comparison.edge not in known

    def _failed(self, failure: Failure) -> None:
        self.report.failures.append(failure)
        self._watcher.failed(failure)

    def _explained(self, comparison: Comparison, explain: Callable[[], Failure]) -> Failure:
        """Return what a failed comparison is put down to."""
        if self.report.followed(comparison.edge, own=self.subject.origin is not None):
            return Failure(comparison._replace(note=""), [FOLLOWS])
        try:
            return explain()._replace(comparison=comparison)
        except Exception as error:
            if machine_limit(error):
                raise
            sentence = f"no diagnosis can be made: {type(error).__name__}: {error}"
            return Failure(comparison, [Diagnosis("unexplained", sentence, 1.0)])

    def _ended(self, observer: Observer, error: Exception) -> None:
        """Note what an observer has raised: a difference, or a fault of the checker's own."""
        after = self.report.comparisons[-1].where if self.report.comparisons else "at the start"
        where, edge = f"after {after}", observer.edge
        message = str(error)
        if not isinstance(error, DptrainError):
            file, line = _raised_at(error)
            message = f"{type(error).__name__} in {file.name}, line {line}: {error}"
            if _CHECKER in file.parents:
                message = f"{message}: a fault of dptrain's checker, not of what is checked"
                broke = Comparison("the check goes on", edge, where, Verdict.ERROR, (), message)
                self._note(broke)
                self._failed(Failure(broke, []))
                return
        comparison = Comparison("the run goes on", edge, where, Verdict.FAIL, (), message)
        if self._note(comparison):
            kind = "truncated" if isinstance(error.__cause__, FrameLengthError) else "run-ended"
            self._failed(Failure(comparison, [Diagnosis(kind, message, 0.0)]))


def _raised_at(error: Exception) -> tuple[Path, int]:
    """Return where an error was raised, libraries left out: a file and its line."""
    libraries = tuple(map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(_CHECKER.parent)
    own = [f for f in frames if f.filename.startswith(ours) or not f.filename.startswith(libraries)]
    return Path(own[-1].filename), own[-1].lineno or 0


def _line(subject: Subject) -> str:
    job = subject.job()
    e = job.experiment
    own = job.network.model.traits() if isinstance(job.network, OwnNetwork) else {}
    line = (
        f"{e.model}, {job.network.size:,} parameters, {e.dataset}: minibatches of "
        f"{job.batch_size} rows in {job.shards} shard{'s' * (job.shards > 1)}"
    )
    return "; ".join([line, *(f"{what}: {told}" for what, told in own.items())])
