"""The experiment decides the numbers: the same weights after every step, whoever computes them."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from dptrain.arithmetic.digest import digest
from dptrain.coordinator.cluster import Cluster, ClusterSetup
from dptrain.coordinator.engines import start_engine
from dptrain.errors import NonFiniteError, WorkersLostError
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.rank import initial_state
from dptrain.experiment.execution import Execution, settle_execution
from dptrain.experiment.job import Job
from dptrain.launch.local import WORKER, Crew, Program
from dptrain.protocol.handshake import new_key
from tests.exchange.build import (
    WITH_WORKERS,
    Data,
    experiments,
    inline_digests,
    lockstep_digests,
    never,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


@contextlib.contextmanager
def cluster(
    job: Job,
    folder: Path,
    logs: Path,
    exchange: str,
    workers: int,
    state: TrainingState | None = None,
    worker: Program = WORKER,
    **ways: Any,
) -> Iterator[tuple[Cluster, Crew]]:
    """Start workers for a job, by default with its initial state; end them with the block."""
    execution = settle_execution(Execution(workers=workers, exchange=exchange, **ways), job.shards)  # type: ignore[arg-type]
    with contextlib.ExitStack() as stack:
        crew = stack.enter_context(Crew.of(execution, lambda rank: logs / f"{rank}.log", worker))
        setting = ClusterSetup(job, execution, str(folder), new_key(), crew, 0, never)
        found = start_engine(stack, setting, state or TrainingState(*initial_state(job)))
        assert isinstance(found, Cluster)
        yield found, crew


def digests(found: Cluster, job: Job) -> list[str]:
    """Return the digest after every step."""
    seen = []
    for step in range(job.total_steps):
        assert [each.end for each in found.train(step, step + 1, never, 1)] == [step + 1]
        seen.append(digest(found.state().parameters))
    return seen


def finite_digests(job: Job) -> list[str]:
    """Return the digest after every step of a drawn experiment; few of them diverge."""
    try:
        return inline_digests(job)
    except NonFiniteError:
        reject()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.integers(1, 5), st.sampled_from(["flags", "events"]), st.integers(0, 2**32))
def test_lockstep_in_any_order_of_arrival_equals_inline(
    data: Data, draws: st.DataObject, workers: int, kind: str, seed: int
) -> None:
    experiment = draws.draw(experiments(st.integers(1, 7)))
    expected = finite_digests(data.job(experiment))
    found = lockstep_digests(lambda: data.job(experiment), workers, kind, Random(seed))
    assert found == expected


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.data(),
    st.sampled_from(WITH_WORKERS),
    st.integers(1, 5),
    st.sampled_from(["flags", "events"]),
)
def test_processes_of_any_number_and_exchange_equal_inline(
    data: Data,
    tmp_path_factory: pytest.TempPathFactory,
    draws: st.DataObject,
    exchange: str,
    workers: int,
    barrier: str,
) -> None:
    experiment = draws.draw(experiments(st.integers(1, 7)))
    job = data.job(experiment)
    ways: dict[str, Any] = {"barrier": barrier} if exchange == "shared" else {}
    expected = finite_digests(data.job(experiment))
    logs = tmp_path_factory.mktemp("logs")
    with cluster(job, data.folder(experiment), logs, exchange, workers, **ways) as (found, _):
        assert digests(found, job) == expected


@pytest.mark.parametrize(
    ("exchange", "barrier"), [("shared", "flags"), ("shared", "events"), ("star", None)]
)
def test_workers_that_are_held_up_at_random_change_nothing(
    exchange: str, barrier: str | None, data: Data, tmp_path: Path, workers: Program
) -> None:
    experiment = {
        "dataset": "classes", "dtype": "float32", "model": "mlp:20-9-3", "optimizer": "adam",
        "batch_size": 20, "shards": 5, "clip_norm": 0.5, "steps": 900,
    }  # fmt: skip
    job = data.job(experiment)
    random, over = Random(3), threading.Event()

    def disturb(crew: Crew) -> None:
        while not over.is_set():
            worker = random.choice(crew.workers)
            worker.signal_group(signal.SIGSTOP)
            time.sleep(random.random() * 0.005)
            worker.signal_group(signal.SIGCONT)
            time.sleep(random.random() * 0.002)

    ways: dict[str, Any] = {"barrier": barrier, "worker": workers}
    with cluster(job, data.folder(experiment), tmp_path, exchange, 3, **ways) as (found, crew):
        thread = threading.Thread(target=disturb, args=[crew])
        thread.start()
        try:
            done = [each.end for each in found.train(0, 900, never, 300)]
        finally:
            over.set()
            thread.join()
        assert done[-1] == 900
        assert digest(found.state().parameters) == inline_digests(data.job(experiment))[-1]


NORMAL: list[dict[str, Any]] = [
    {"layer": "flatten"},
    {"layer": "batchnorm"},
    {"layer": "dense", "units": 300, "init": {"init": "he"}},
    {
        "layer": "residual",
        "layers": [
            {"layer": "batchnorm", "epsilon": 0.01},
            {"layer": "relu"},
            {"layer": "dense", "units": 300, "init": {"init": "he"}},
            {"layer": "dropout"},
        ],
    },
    {"layer": "batchnorm", "momentum": 0.5},
    {"layer": "dense", "units": 3},
]


@pytest.mark.parametrize("exchange", WITH_WORKERS)
@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("batch_size", [25, 4])
def test_ranks_meet_in_the_middle_of_a_pass_also_those_without_rows(
    exchange: str, world: int, batch_size: int, data: Data, tmp_path: Path, workers: Program
) -> None:
    experiment = {
        "dataset": "classes", "dtype": "float32", "layers": NORMAL, "input_shape": [4, 5],
        "optimizer": "momentum", "batch_size": batch_size, "shards": 6, "clip_norm": 0.5,
        "weight_decay": 0.01, "steps": 20,
    }  # fmt: skip
    job = data.job(experiment)
    folder = data.folder(experiment)
    with cluster(job, folder, tmp_path, exchange, world, worker=workers) as (found, _):
        assert digests(found, job) == inline_digests(data.job(experiment))


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_nobody_waits_for_a_rank_whose_loss_is_no_number(
    exchange: str, data: Data, tmp_path: Path
) -> None:
    experiment = {
        "dataset": "classes", "dtype": "float32", "layers": NORMAL, "input_shape": [4, 5],
        "lr": 1e30, "batch_size": 9, "shards": 4, "steps": 50,
    }  # fmt: skip
    job = data.job(experiment)
    with (
        cluster(job, data.folder(experiment), tmp_path, exchange, 3) as (found, _),
        pytest.raises(NonFiniteError, match="has a loss that is not finite: rank"),
    ):
        list(found.train(0, 50, never, 1))


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_a_death_ends_the_wait_for_a_rank_in_the_middle_of_a_pass(
    exchange: str, data: Data, tmp_path: Path
) -> None:
    experiment = {
        "dataset": "classes", "dtype": "float32", "layers": NORMAL, "input_shape": [4, 5],
        "batch_size": 25, "shards": 4, "steps": 1_000_000,
    }  # fmt: skip
    job = data.job(experiment)
    with cluster(job, data.folder(experiment), tmp_path, exchange, 3) as (found, crew):
        steps = found.train(0, job.total_steps, never, 1)
        next(steps)
        crew.workers[1].signal_group(signal.SIGKILL)
        with pytest.raises(WorkersLostError, match=r"rank 1 \(pid \d+\) was killed by SIGKILL"):
            list(steps)
