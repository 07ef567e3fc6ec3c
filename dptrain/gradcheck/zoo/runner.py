"""The zoo: every deliberate bug let loose, and whether it was found and named."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.checking import Check, Plan
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.report import Report
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.verdict import Verdict
from dptrain.gradcheck.zoo.bug import WORLD, Bug
from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.gradcheck.zoo.habitats import AFTER_THE_REDUCE, HABITATS, RESUMED, weights
from dptrain.gradcheck.zoo.source import changed, given
from dptrain.launch.fork_server import ForkServer, fork_server
from dptrain.launch.local import WORKER, Program

PROGRAM = ("-m", "dptrain.gradcheck.zoo.worker")
# What the zoo must reach: of the bugs that change anything, so many found, so many named rightly.
KILLED, NAMED = 0.98, 0.90


class Caught(NamedTuple):
    """What came of one bug.

    Attributes:
        bug: which.
        killed: whether anything failed.
        edge: that failed first.
        named: what it was put down to, the likeliest first.
        seconds: that it took.
    """

    bug: Bug
    killed: bool
    edge: str
    named: Sequence[Diagnosis]
    seconds: float

    @property
    def right(self) -> bool:
        """Whether it was found and the right kind named first, or rightly passed."""
        if self.bug.equivalent:
            return not self.killed
        return self.killed and bool(self.named) and self.named[0].kind == self.bug.kind


class Zoo(NamedTuple):
    """What came of all bugs."""

    caught: Sequence[Caught]

    @property
    def live(self) -> list[Caught]:
        """What came of those that change anything."""
        return [each for each in self.caught if not each.bug.equivalent]

    @property
    def killed(self) -> float:
        """Fraction of the live bugs that were found."""
        return sum(each.killed for each in self.live) / max(1, len(self.live))

    @property
    def named(self) -> float:
        """Fraction of the live bugs found whose kind was named first."""
        found = sum(each.killed for each in self.live)
        return sum(each.right for each in self.live) / max(1, found)

    @property
    def false_alarms(self) -> int:
        """Bugs that change nothing, but were reported."""
        return sum(each.killed for each in self.caught if each.bug.equivalent)

    @property
    def good(self) -> bool:
        """Whether the zoo's goal is reached."""
        return self.killed >= KILLED and self.named >= NAMED and not self.false_alarms


def run_zoo(tell: Callable[[Caught], None], names: Sequence[str] = ()) -> Zoo:
    """Run bugs, all unless some are named, each in the experiment in which it shows."""
    caught = []
    with fork_server(WORKER) as right, fork_server(PROGRAM) as wrong:
        for bug in (BUGS[name] for name in names) if names else BUGS.values():
            caught.append(catch(bug, right if bug.place == "coordinator" else wrong))
            tell(caught[-1])
    return Zoo(caught)


def catch(bug: Bug, forks: Program) -> Caught:
    """Check an experiment with a bug in it; ``forks`` its workers, or what they run.

    Raises:
        StaleSourceError: the bug does not fit the source any more.
    """
    began = time.perf_counter()
    for rank in range(WORLD):  # a worker that cannot have the bug would fail, too
        changed(bug.sources, rank)
    if bug.place != "coordinator":
        forks = forks.given(bug.name) if isinstance(forks, ForkServer) else (*forks, bug.name)
    beyond, first = not bug.equivalent, RESUMED.get(bug.habitat, 0)
    way = Way(bug.exchange[0], WORLD)
    with given(changed(bug.sources if bug.place != "worker" else ())):
        report = checked(bug.habitat, way, forks, numerical=False, beyond=beyond, first_step=first)
    diagnoses = report.failures[0].diagnoses if report.failures else ()
    killed = report.verdict is Verdict.FAIL
    return Caught(bug, killed, report.blamed, diagnoses, time.perf_counter() - began)


def checked(habitat: str, way: Way, forks: Program, **plan: Any) -> Report:
    """Check a habitat up to the first failure.

    Args:
        habitat: its name.
        way: the exchange.
        forks: the workers, or what they run.
        plan: fields of `Plan`.
    """
    subject = Subject(build(Experiment, HABITATS[habitat], habitat))
    dtype = subject.experiment.dtype
    points = {habitat: weights(habitat, subject.job(dtype))}
    program = forks.program if isinstance(forks, ForkServer) else forks
    recorded = habitat not in AFTER_THE_REDUCE
    common = Plan([way], (dtype,), recorded=recorded, program=program, first_only=True)
    workers = forks if isinstance(forks, ForkServer) else None
    return Check(subject, common._replace(**plan), points).run(workers)
