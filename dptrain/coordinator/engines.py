"""The engine that carries out a job in the way that its execution says: one starter for all."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from dptrain.coordinator.cluster import Cluster, ClusterSetup
from dptrain.coordinator.shared import SharedCluster
from dptrain.coordinator.star import StarCluster
from dptrain.exchange.engine import Engine, ShouldStop, TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.exchanges import ExchangeName
from dptrain.experiment.execution import Execution, exchange_of
from dptrain.experiment.job import Job
from dptrain.launch.local import WORKER, Crew, Program
from dptrain.machine.blas import one_blas_thread
from dptrain.protocol.handshake import new_key
from dptrain.scratch import scratch_folder

# Is told an address that workers can connect to, before they are waited for.
Bound = Callable[[str], None]
Start = Callable[[ExitStack, ClusterSetup, TrainingState, Bound], Engine]


def start_engine(
    stack: ExitStack, setting: ClusterSetup, state: TrainingState, bound: Bound = lambda _: None
) -> Engine:
    """Return an engine that is ready to train; the stack closes it.

    Args:
        stack: closes whatever is opened.
        setting: of the run; its crew has the workers that are launched.
        state: what the first step begins with.
        bound: is told where workers that are started by hand can connect.

    Raises:
        ResourceError: there is too little memory, or nowhere to listen.
        UsageError: the address to listen on is taken.
        WorkersLostError: a worker died, or was refused, before it was ready.
        Interrupted: the user asked to stop.
    """
    return ENGINES[exchange_of(setting.execution).name](stack, setting, state, bound)


@contextmanager
def started(
    job: Job,
    data: Path,
    execution: Execution,
    state: TrainingState,
    first_step: int = 0,
    *,
    stop: ShouldStop = bool,
    program: Program = WORKER,
    joined: Callable[[Crew], None] = lambda _: None,
) -> Iterator[Engine]:
    """Start what carries out a job, with all of its workers; end it with the block.

    Args:
        job: settled.
        data: folder of its prepared data.
        execution: settled.
        state: to begin with.
        first_step: the first that will be asked for.
        stop: as in `ClusterSetup`; by default never.
        program: what the worker processes run.
        joined: is told the worker processes once they are ready.

    Raises:
        DptrainError: as `start_engine`; nothing that was started is left.
    """
    with ExitStack() as stack:
        stack.enter_context(one_blas_thread())
        logs = scratch_folder("workers")
        stack.callback(shutil.rmtree, logs, ignore_errors=True)
        crew = stack.enter_context(
            Crew.of(execution, lambda rank: logs / f"rank-{rank}.log", program)
        )
        key = new_key()
        setting = ClusterSetup(
            job, execution, str(data), key, crew, first_step, stop, keeps_logs=False
        )
        found = start_engine(stack, setting, state)
        joined(crew)
        yield found


def _inline(_: ExitStack, setting: ClusterSetup, state: TrainingState, __: Bound) -> Engine:
    return InlineEngine(setting.job, state.parameters, state.slots, setting.timeline)


def _cluster(
    kind: Callable[[ClusterSetup, TrainingState], Cluster],
    stack: ExitStack,
    setting: ClusterSetup,
    state: TrainingState,
    bound: Bound,
) -> Engine:
    found = kind(setting, state)
    stack.callback(found.close)
    bound(found.address)
    found.join()
    return found


ENGINES: dict[ExchangeName, Start] = {
    "inline": _inline,
    "star": partial(_cluster, StarCluster),
    "shared": partial(_cluster, SharedCluster),
}
