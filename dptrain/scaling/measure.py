"""One measurement: a job trained for some steps by some workers, without evaluations."""

import time
from pathlib import Path
from typing import NamedTuple

from dptrain.arithmetic.digest import digest
from dptrain.coordinator.engines import started
from dptrain.exchange.engine import StepSplit, TrainingState
from dptrain.exchange.rank import initial_state
from dptrain.experiment.execution import Execution
from dptrain.experiment.job import Job

WARM_UP = 0.2  # of the steps, before those that are measured


class Measurement(NamedTuple):
    """What one run of some steps took.

    Attributes:
        seconds: of a step, on average.
        split: what it consisted of.
        digest: of the weights at the end.
    """

    seconds: float
    split: StepSplit
    digest: str


def measure(job: Job, data: Path, execution: Execution, steps: int) -> Measurement:
    """Train a new network for some steps after a warm-up, and return what a step took.

    Args:
        job: what to train.
        data: the folder of its prepared data set.
        execution: settled.
        steps: to be measured.

    Raises:
        WorkersLostError, ResourceError: the run could not be carried out.
    """
    warm_up = max(3, int(WARM_UP * steps))
    with started(job, data, execution, TrainingState(*initial_state(job))) as engine:
        for _ in engine.train(0, warm_up, _never, warm_up):
            pass
        began = time.perf_counter()
        done = list(engine.train(warm_up, warm_up + steps, _never, steps))
        seconds = (time.perf_counter() - began) / steps
        parts = [sum(getattr(each, name) for each in done) for name in StepSplit._fields]
        split = StepSplit(*(part / steps for part in parts))
        return Measurement(seconds, split, digest(engine.state().parameters))


def _never() -> bool:
    return False
