"""One measurement: a job trained for some steps by some workers, without evaluations."""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from dptrain.arithmetic.digest import digest
from dptrain.coordinator.cluster import Setting
from dptrain.coordinator.engines import cluster_of, inline_engine
from dptrain.exchange.barrier import suitable
from dptrain.exchange.engine import Engine, State, StepSplit
from dptrain.exchange.rank import initial_state
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Execution
from dptrain.launch.local import Crew
from dptrain.protocol.handshake import new_key

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
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(limits=1, user_api="blas"))
        engine = _engine(stack, job, data, execution)
        for _ in engine.train(0, warm_up, _never, warm_up):
            pass
        began = time.perf_counter()
        done = list(engine.train(warm_up, warm_up + steps, _never, steps))
        seconds = (time.perf_counter() - began) / steps
        parts = [sum(getattr(each, name) for each in done) for name in StepSplit._fields]
        split = StepSplit(*(part / steps for part in parts))
        return Measurement(seconds, split, digest(engine.state().parameters))


def _engine(stack: ExitStack, job: Job, data: Path, execution: Execution) -> Engine:
    logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dptrain-scaling-")))
    inline, shared = execution.exchange == "inline", execution.exchange == "shared"
    count = 0 if inline else int(execution.workers or 1)
    barrier = (execution.barrier or suitable()) if shared else None
    crew = stack.enter_context(Crew([logs / f"rank-{rank}.log" for rank in range(count)], barrier))
    setting = Setting(job, execution, str(data), new_key(), crew, 0, _never)
    state = State(*initial_state(job))
    if inline:
        return inline_engine(setting, state)
    cluster = cluster_of(stack, setting, state)
    cluster.join()
    return cluster


def _never() -> bool:
    return False
