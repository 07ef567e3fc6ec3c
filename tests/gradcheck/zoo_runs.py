"""Runs of the zoo's habitats: in one process, or in worker processes that are kept between runs."""

import contextlib
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from dptrain.coordinator.cluster import Setting
from dptrain.coordinator.engines import start_engine
from dptrain.errors import DptrainError
from dptrain.exchange.barrier import suitable
from dptrain.exchange.engine import Engine, State
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.execution import Execution, settle_execution
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.experiment.settle import settle
from dptrain.experiment.validate import build
from dptrain.gradcheck.distributed import begin, recording, steps
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.habitats import HABITATS, RESUMED, weights
from dptrain.gradcheck.zoo.seams import WORLD
from dptrain.launch.local import Crew
from dptrain.protocol.handshake import new_key
from tests.gradcheck.bugs_in_turn import NONE, OVER

PATIENCE = 8.0
GRACE = 1.0
MEMORY = 4 << 20


class Habitat(NamedTuple):
    """A habitat, settled; `begins` is what its run starts from at step `first`."""

    name: str
    job: Job
    data: Path
    first: int
    begins: State


class Outcome(NamedTuple):
    """What a run came to: loss, and bytes of weights and optimizer state, after each step.

    Of the optimizer's state only what belongs to trained tensors; the rest is nobody's.
    """

    steps: list[tuple[float, bytes, list[bytes]]]
    accuracy: float | None
    error: str | None


def habitat(name: str, *, records: bool) -> Habitat:
    """Return a habitat; with ``records`` its optimizer's state is the reduced gradient."""
    experiment = build(Experiment, HABITATS[name], name)
    data = prepared_data(experiment)
    dataset = opened_data(experiment, data)
    settled = settle(experiment, WORLD, dataset.classes, len(dataset.train), dataset.digest)
    job = Job(recording(settled) if records else settled, dataset)
    state = begin(job, weights(name, job))
    first = RESUMED.get(name, 0)
    for each in steps(InlineEngine(job, state.parameters, state.slots), 0, first):
        state = each.after
    return Habitat(name, job, data, first, State(state.parameters, list(state.slots)))


def outcome(engine: Engine, place: Habitat) -> Outcome:
    """Carry out the steps of a habitat, and say what they came to."""
    found: list[tuple[float, bytes, list[bytes]]] = []
    tensors = [t for t in place.job.network.all_tensors() if t.trained]
    trained = np.concatenate([np.arange(t.start, t.stop) for t in tensors])
    try:
        for step in steps(engine, place.first, place.job.total_steps):
            slots = [slot[trained].tobytes() for slot in step.after.slots]
            found.append((step.loss, step.after.parameters.tobytes(), slots))
        accuracy = engine.evaluate("train").accuracy
    except DptrainError as error:
        return Outcome(found, None, type(error).__name__)
    return Outcome(found, accuracy, None)


def alone(place: Habitat) -> Outcome:
    """Return the outcome in this process."""
    state = place.begins
    engine = InlineEngine(place.job, state.parameters.copy(), [s.copy() for s in state.slots])
    with _one_thread():
        return outcome(engine, place)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    with threadpool_limits(limits=1, user_api="blas"):
        yield


class Kept:
    """Shared memory that has its size already."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def reserve(self, size: int, what: str) -> None:
        """Do nothing."""
        assert size <= MEMORY, what


class Crowd(Crew):
    """Workers that outlive a run."""

    def __init__(self, folder: Path) -> None:
        self._logs = [folder / f"rank-{rank}.log" for rank in range(WORLD)]
        self._left = [0] * WORLD  # runs that each worker has left
        self._runs = 0
        super().__init__(self._logs, suitable(), ("-m", "tests.gradcheck.bugs_in_turn"))
        self._told = [log.open() for log in self._logs]
        assert self.memory is not None
        self.memory.reserve(MEMORY, "the tests")
        self._mapped = mmap.mmap(self.memory.descriptor, MEMORY)
        self.memory = Kept(self.memory.descriptor)  # type: ignore[assignment]

    def end(self, grace: float = GRACE) -> None:
        """Wait until the workers have left the run, but not longer; they stay."""
        deadline = time.monotonic() + grace
        while not self._over() and time.monotonic() < deadline:
            time.sleep(1e-3)

    def close(self) -> None:
        """End the workers."""
        super().end(0.0)
        self._mapped.close()
        for each in self._told:
            each.close()

    @contextlib.contextmanager
    def run(self, bug: str, place: Habitat, exchange: str) -> Iterator[Engine]:
        """Have the workers serve one run, with a bug or `NONE`."""
        self._runs += 1
        self._mapped[:] = bytes(MEMORY)
        for bell in self._inheritance.bells:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(bell)
        for worker in self.workers:
            assert worker._process.stdin is not None
            worker._process.stdin.write(f"{bug}\n".encode())
        execution = settle_execution(
            Execution(workers=WORLD, exchange=exchange, worker_timeout=PATIENCE),  # type: ignore[arg-type]
            place.job.shards,
        )
        never = bool
        setting = Setting(
            place.job, execution, str(place.data), new_key(), self, place.first, never
        )
        state = State(place.begins.parameters.copy(), [s.copy() for s in place.begins.slots])
        try:
            with contextlib.ExitStack() as stack:
                yield start_engine(stack, setting, state)
        finally:
            assert self._over(), [log.read_text()[-2000:] for log in self._logs]

    def _over(self) -> bool:
        """Return whether every worker has left as many runs as were begun."""
        for rank, told in enumerate(self._told):
            self._left[rank] += told.read().count(f"{OVER}\n")
        return min(self._left) == self._runs

    def outcome(self, bug: Bug | None, place: Habitat, exchange: str) -> Outcome:
        """Return the outcome of a run with a bug, put in where it belongs."""
        patches = Patches()
        in_workers = NONE
        if bug is not None and bug.place != "coordinator":
            in_workers = bug.name
        if bug is not None and bug.place != "worker":
            bug.patch(patches)
        try:
            with _one_thread(), self.run(in_workers, place, exchange) as cluster:
                return outcome(cluster, place)
        except DptrainError as error:
            return Outcome([], None, type(error).__name__)
        finally:
            patches.undo()
