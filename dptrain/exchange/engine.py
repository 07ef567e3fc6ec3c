"""What carries out an experiment, as the trainer sees it: the same for one process or many."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from dptrain.arithmetic.tree import tree_sum
from dptrain.experiment.job import Job


class StepDone(NamedTuple):
    """A committed step.

    Attributes:
        step: counted from 0.
        loss: mean over the global minibatch.
        compute: seconds the slowest rank took for forward and backward.
        exchange: seconds in which nothing was computed: moving arrays, waiting.
        update: seconds to reduce the last sums and apply the optimizer.
    """

    step: int
    loss: float
    compute: float
    exchange: float
    update: float


class Score(NamedTuple):
    """The evaluation of a split: mean loss, and the fraction correct where there are classes."""

    loss: float
    accuracy: float | None


class State(NamedTuple):
    """Where training stands after a committed step: flat arrays, not to be written to."""

    parameters: NDArray[Any]
    slots: Sequence[NDArray[Any]]


class Engine(Protocol):
    """Carries out steps and evaluations."""

    workers: int
    exchange: str

    def train(self, begin: int, end: int) -> Iterator[StepDone]:
        """Carry out the steps ``begin`` to ``end - 1``; whoever iterates may stop in between."""
        ...

    def evaluate(self, split: str) -> Score:
        """Evaluate the present weights."""
        ...

    def state(self) -> State:
        """Return the weights and the optimizer's state after the last committed step."""
        ...


def score(job: Job, split: str, losses: Sequence[float], correct: Sequence[int]) -> Score:
    """Return the score of a split from the sums of its pieces, in order."""
    rows = len(job.split(split))
    accuracy = sum(correct) / rows if job.dataset.classes else None
    return Score(tree_sum(losses) / rows if losses else math.nan, accuracy)
