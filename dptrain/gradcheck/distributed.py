"""What real workers compute: the gradient that the optimizer gets, and what it makes of it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.coordinator.engines import started
from dptrain.exchange.barrier import BarrierKind
from dptrain.exchange.engine import Engine, TrainingState
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.execution import Execution, settle_execution
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.deadline import Deadline
from dptrain.launch.local import WORKER, Crew, Program

Array = NDArray[Any]


class Way(NamedTuple):
    """How an experiment is carried out.

    Attributes:
        exchange: a name of `EXCHANGES`.
        workers: the world size.
    """

    exchange: str
    workers: int

    def __str__(self) -> str:
        plural = "s" if self.workers != 1 else ""
        return f"{self.exchange}, {self.workers} worker{plural}"


class Step(NamedTuple):
    """A step of a run.

    Attributes:
        number: counted from 0.
        loss: as the run reports it.
        before: weights and optimizer state.
        after: likewise.
    """

    number: int
    loss: float
    before: TrainingState
    after: TrainingState


def recording(experiment: Settled) -> Settled:
    """Return an experiment whose optimizer's state is the reduced gradient, bit by bit.

    Momentum that keeps nothing of its velocity: ``v ← 0 v + g``. The way there is that of every
    optimizer; neither decay nor clipping touches the gradient.
    """
    return replace(
        experiment,
        optimizer="momentum",
        momentum=0.0,
        decay=None,
        beta1=None,
        beta2=None,
        epsilon=None,
        weight_decay=0.0,
        l1=0.0,
        clip_norm=None,
    )


@contextlib.contextmanager
def engine(
    job: Job,
    data: Path,
    way: Way,
    state: TrainingState,
    first_step: int = 0,
    *,
    worker: Program = WORKER,
    timeout: float = 30.0,
    joined: Callable[[Crew], None] = lambda _: None,
    barrier: BarrierKind | None = None,
) -> Iterator[Engine]:
    """Start what carries out a job; end it with the block.

    Args:
        job: settled.
        data: folder of its prepared data.
        way: exchange and workers.
        state: to begin with; it is copied.
        first_step: the first that will be asked for.
        worker: what the worker processes run, as arguments of Python.
        timeout: seconds after which a silent worker is given up.
        joined: is told the worker processes once they are ready; inline there are none.
        barrier: how ranks that share memory wait for each other; by default as in training.
    """
    exchange = EXCHANGES[way.exchange]
    execution = settle_execution(
        Execution(
            workers=way.workers,
            exchange=exchange.name,
            worker_timeout=timeout,
            barrier=barrier if exchange.memory else None,
        ),
        job.shards,
    )
    with started(
        job,
        data,
        execution,
        copied(state),
        first_step,
        stop=Deadline(),
        program=worker,
        joined=joined,
    ) as found:
        yield found


def steps(found: Engine, begin: int, end: int) -> Iterator[Step]:
    """Carry out steps one by one, with copies of what stands before and after each."""
    before = copied(found.state())
    for number in range(begin, end):
        (done,) = found.train(number, number + 1, _never, 1)
        after = copied(found.state())
        yield Step(number, done.loss, before, after)
        before = after


def gradient_of(step: Step) -> Array:
    """Return the reduced gradient of a step of a `recording` run."""
    return np.asarray(step.after.slots[0])


def begin(job: Job, parameters: Array) -> TrainingState:
    """Return weights with an optimizer state that is new."""
    return TrainingState(
        parameters.astype(job.dtype),
        [np.zeros(len(parameters), job.dtype) for _ in job.updater.rule.slots],
    )


def copied(state: TrainingState) -> TrainingState:
    """Return a state that does not change any more."""
    return TrainingState(state.parameters.copy(), [s.copy() for s in state.slots])


def _never() -> bool:
    return False
