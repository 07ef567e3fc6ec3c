"""The zoo: every deliberate bug let loose, and whether it was found and named."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.checking import Check, Plan
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.verdict import Verdict
from dptrain.gradcheck.zoo.bug import WORLD, Bug
from dptrain.gradcheck.zoo.catalogue import BUGS
from dptrain.gradcheck.zoo.habitats import AFTER_THE_REDUCE, HABITATS, RESUMED, weights
from dptrain.gradcheck.zoo.source import changed, given
from dptrain.launch.local import WORKER, Program
from dptrain.launch.nursery import Nursery, nursery

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
    def killed(self) -> float:
        """Fraction of the bugs that change anything that were found."""
        return _fraction(c.killed for c in self.caught if not c.bug.equivalent)

    @property
    def named(self) -> float:
        """Fraction of the bugs found whose kind was named first."""
        return _fraction(c.right for c in self.caught if c.killed and not c.bug.equivalent)

    @property
    def false_alarms(self) -> int:
        """Bugs that change nothing, but were reported."""
        return sum(c.killed for c in self.caught if c.bug.equivalent)

    @property
    def good(self) -> bool:
        """Whether the zoo's goal is reached."""
        return self.killed >= KILLED and self.named >= NAMED and not self.false_alarms


def _fraction(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / len(values) if values else 0.0


def run_zoo(tell: Callable[[Caught], None], names: Sequence[str] = ()) -> Zoo:
    """Run bugs, all unless some are named, each in the experiment in which it shows."""
    caught = []
    with nursery(WORKER) as right, nursery(PROGRAM) as wrong:
        for bug in (BUGS[name] for name in names) if names else BUGS.values():
            caught.append(catch(bug, right if bug.place == "coordinator" else wrong))
            tell(caught[-1])
    return Zoo(caught)


def catch(bug: Bug, forks: Program | None = None) -> Caught:
    """Check an experiment with a bug in it.

    Args:
        bug: let loose.
        forks: what forks its workers, if anything: they get the bug's name.
    """
    began = time.perf_counter()
    subject = Subject(build(Experiment, HABITATS[bug.habitat], bug.habitat))
    dtype = subject.experiment.dtype
    points = {bug.habitat: weights(bug.habitat, subject.job(dtype))}
    plan = Plan(
        [Way(bug.exchange[0], WORLD)],
        dtypes=(dtype,),
        numerical=False,
        beyond=not bug.equivalent,
        recorded=bug.habitat not in AFTER_THE_REDUCE,
        program=WORKER if bug.place == "coordinator" else (*PROGRAM, bug.name),
        first_step=RESUMED.get(bug.habitat, 0),
        first_only=True,
    )
    for rank in range(WORLD):  # a worker that cannot have the bug would fail, too
        changed(bug.sources, rank)
    workers = forks if isinstance(forks, Nursery) else None
    if workers is not None and bug.place != "coordinator":
        workers = workers.given(bug.name)
    with given(changed(bug.sources if bug.place != "worker" else ())):
        report = Check(subject, plan, points).run(workers)
    diagnoses = report.failures[0].diagnoses if report.failures else ()
    killed = report.verdict is Verdict.FAIL
    return Caught(bug, killed, report.blamed, diagnoses, time.perf_counter() - began)


PROGRAM = ("-m", "dptrain.gradcheck.zoo.worker")
