"""What carries out an experiment, as the trainer sees it: the same for one process or many."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from dptrain.arithmetic.tree import tree_sum
from dptrain.experiment.job import Job


class StepsDone(NamedTuple):
    """Committed steps, ``begin`` to ``end - 1``.

    Attributes:
        begin: counted from 0.
        end: behind the last.
        loss: of the last, the mean over its global minibatch.
        compute: seconds a rank took, on average, to gather its rows and for both passes.
        exchange: seconds that are none of the others: moving arrays and messages, keeping records.
        wait: seconds a rank waited for others, on average.
        update: seconds to finish the sums and apply the optimizer.
    """

    begin: int
    end: int
    loss: float
    compute: float
    exchange: float
    wait: float
    update: float

    @property
    def seconds(self) -> float:
        """All that the steps took."""
        return self.compute + self.exchange + self.wait + self.update


def is_logged(done: int, every: int) -> bool:
    """Return whether a run logs the step after which ``done`` steps are done."""
    return done % every == 0 or done == 1


class StepSplit(NamedTuple):
    """Seconds of an average step; see `StepsDone`."""

    compute: float
    exchange: float
    wait: float
    update: float


class SplitScore(NamedTuple):
    """The evaluation of a split.

    Attributes:
        loss: the mean.
        accuracy: the fraction of rows answered correctly; None for a regression.
        r2: the coefficient of determination of a regression, where the loss tells it.
    """

    loss: float
    accuracy: float | None
    r2: float | None = None


class TrainingState(NamedTuple):
    """Where training stands after a committed step: flat arrays, not to be written to."""

    parameters: NDArray[Any]
    slots: Sequence[NDArray[Any]]


class ShouldStop(Protocol):
    """Whether somebody wants the run to stop."""

    def __call__(self) -> bool:
        """Return whether to stop soon."""
        ...


class ReportAlive(Protocol):
    """Is told now and then that somebody is at work."""

    def __call__(self, pieces: int = 0) -> None:
        """Hear that so many pieces of an evaluation are done."""
        ...


def unheard(pieces: int = 0) -> None:
    """Tell nobody."""


class Engine(Protocol):
    """Carries out steps and evaluations."""

    workers: int
    exchange: str

    def train(self, begin: int, end: int, stop: ShouldStop, every: int) -> Iterator[StepsDone]:
        """Carry out the steps ``begin`` to ``end - 1``, or fewer where ``stop`` says so.

        Every committed step is yielded, also those before an error: one by one, or those from one
        logged step to the next together, as `is_logged` has it for ``every``.
        """
        ...

    def evaluate(self, split: str, alive: ReportAlive = unheard) -> SplitScore:
        """Evaluate the present weights; ``alive`` is told how far it has come, now and then."""
        ...

    def state(self) -> TrainingState:
        """Return the weights and the optimizer's state after the last committed step."""
        ...


def score(job: Job, split: str, losses: Sequence[float], correct: Sequence[int]) -> SplitScore:
    """Return the score of a split from the sums of its pieces, in order."""
    rows = len(job.split(split))
    accuracy = sum(correct) / rows if job.scores else None
    loss = tree_sum(losses) / rows if losses else math.nan
    return SplitScore(loss, accuracy, job.r2(split, loss))
