"""Ranks that own no shard: they sum, update, evaluate and hand over as all others do."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from dptrain.arithmetic.digest import digest
from dptrain.coordinator.cluster import ClusterSetup
from dptrain.coordinator.star import StarCluster
from dptrain.exchange.barrier import BarrierKind
from dptrain.exchange.engine import Engine, TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.rank import initial_state
from dptrain.experiment.execution import Execution, settle_execution
from dptrain.experiment.job import Job
from dptrain.gradcheck.distributed import Way, copied, engine
from dptrain.launch.local import Crew
from dptrain.protocol.handshake import new_key
from tests.commands import finish, start
from tests.exchange.build import Data, never
from tests.exchange.test_contract import NORMAL

STOP, STEPS = 7, 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    # six pieces of an evaluation, and a ragged last minibatch
    return Data(tmp_path_factory.mktemp("data"), rows=2503)


def job(data: Data, shards: int) -> tuple[Job, Path]:
    """Return a job with running averages, tables in the middle of a pass, and clipping."""
    experiment: dict[str, Any] = {
        "dataset": "classes", "dtype": "float32", "layers": NORMAL, "input_shape": [4, 5],
        "optimizer": "adam", "batch_size": 500, "shards": shards, "clip_norm": 0.5,
        "weight_decay": 0.01, "steps": STEPS,
    }  # fmt: skip
    return data.job(experiment), data.folder(experiment)


def told(found: Engine, begin: int, end: int) -> tuple[list[Any], TrainingState]:
    """Train; return all that is to be equal for every execution, and a copy of the state."""
    losses = [each.loss for each in found.train(begin, end, never, 1)]
    scores = [found.evaluate("train"), found.evaluate("test")]
    state = copied(found.state())
    return [losses, scores, *map(digest, chain([state.parameters], state.slots))], state


def inline(given: Job) -> list[list[Any]]:
    found = InlineEngine(given, *initial_state(given))
    return [told(found, begin, end)[0] for begin, end in ((0, STOP), (STOP, STEPS))]


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize(
    ("exchange", "barrier"), [("shared", "flags"), ("shared", "events"), ("star", None)]
)
def test_more_workers_than_shards_stop_and_go_on(
    exchange: str, barrier: BarrierKind | None, shards: int, data: Data
) -> None:
    given, folder = job(data, shards)
    state, found = TrainingState(*initial_state(given)), []
    for begin, end, workers in ((0, STOP, 4), (STOP, STEPS, 3)):
        way = Way(exchange, workers)
        with engine(given, folder, way, state, begin, barrier=barrier) as each:
            results, state = told(each, begin, end)
            found.append(results)
    assert found == inline(job(data, shards)[0])


def test_workers_started_by_hand_that_own_no_shard(data: Data, tmp_path: Path) -> None:
    given, folder = job(data, 1)
    execution = settle_execution(Execution(workers=3, join=2), given.shards)
    key = new_key()
    (file := tmp_path / "worker.key").touch(0o600)
    file.write_text(key.hex())
    with Crew([tmp_path / "rank-0.log"]) as crew:
        setting = ClusterSetup(given, execution, str(folder), key, crew, 0, never)
        cluster = StarCluster(setting, TrainingState(*initial_state(given)))
        workers = [start("worker", "--connect", cluster.address, "--key", file) for _ in range(2)]
        try:
            cluster.join()
            found = [told(cluster, *span)[0] for span in ((0, STOP), (STOP, STEPS))]
        finally:
            cluster.close()
    assert [finish(worker)[0] for worker in workers] == [0, 0]
    assert found == inline(job(data, 1)[0])
