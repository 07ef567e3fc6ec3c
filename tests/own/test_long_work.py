"""Networks that take long, or hang, or need much memory for a row."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.rank import initial_state
from dptrain.experiment.defaults import settle
from dptrain.experiment.job import Job
from dptrain.experiment.own_code import evaluation_rows
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.distributed import Way, engine
from dptrain.nn.passes import Arrangement
from dptrain.own.origin import Named
from tests.commands import dptrain, result
from tests.exchange.build import WITH_WORKERS, Told, never
from tests.own.nets import Net, like_the_example
from tests.own.test_passes import filled, own
from tests.sessions import write_dataset

BATCH = 20
SIZES = json.dumps({"input_size": 20, "hidden_size": 7, "output_size": 3})
# shards have 5 rows, so that only evaluations see as many as a minibatch
SLOW = """
    def loss(self, x, t):
        import time
        if len(x) == 20:
            time.sleep(0.3)
        return super().loss(x, t)
"""
HANGS = """
    def loss(self, x, t):
        import threading
        if len(x) == 20:
            threading.Event().wait()
        return super().loss(x, t)
"""
FEW = """
    def predict(self, x):
        assert len(x) <= 20, f"{len(x)} rows at once"
        return super().predict(x)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz", rows=397)


def train(data: Path, net: str, run: Path, *ways: object) -> tuple[object, ...]:
    job = ("train", "--dataset", data, "--model", net, "--model.args", SIZES)
    return (*job, "--batch-size", BATCH, "--shards", 4, "--steps", 3, "--out", run, *ways)


def own_job(data: Path, net: str) -> tuple[Job, Path]:
    """Return the job of a network of one's own, and where its data lie."""
    folder = prepare(str(data), dtype="float32")
    dataset = open_dataset(folder, validation=0.0, test=0.0, seed=0)
    settings = {"model": net, "dataset": str(data), "batch_size": BATCH, "shards": 4, "steps": 1}
    arguments = json.loads(SIZES)
    described = build(Experiment, settings | {"model_args": arguments}, "the test")
    settled = settle(described, 2, dataset.classes, len(dataset.train), dataset.digest)
    return Job(settled, dataset, Named(net, arguments)), folder


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_an_evaluation_may_take_longer_than_the_timeout(
    exchange: str, data: Path, tmp_path: Path
) -> None:
    job, folder = own_job(data, like_the_example(tmp_path, SLOW))
    state = TrainingState(*initial_state(job))
    told = Told()
    # no rehearsal has told what to expect; ten pieces of every rank take 3 s
    with engine(job, folder, Way(exchange, 2), state, timeout=1.5) as found:
        found.evaluate("train", told)
    assert len(told.pieces) > 2
    assert told.pieces == sorted(told.pieces)
    assert told.pieces[-1] <= job.pieces("train")


def test_a_step_in_one_process_is_no_evaluation(data: Path, tmp_path: Path) -> None:
    job, _ = own_job(data, like_the_example(tmp_path, "    pass"))
    found, told = InlineEngine(job, *initial_state(job)), Told()
    found.evaluate("train", told)
    assert told.pieces == list(range(1, job.pieces("train") + 1))
    list(found.train(0, 1, never, 1))
    assert len(told.pieces) == job.pieces("train")


def test_a_network_that_hangs_for_good_is_found(data: Path, tmp_path: Path) -> None:
    net = like_the_example(tmp_path, HANGS)
    done = dptrain(*train(data, net, tmp_path / "run", "--worker-timeout", 1.5))
    assert done.returncode == 6
    # longer than 1.5 s where the rehearsal took long
    assert re.search(r"rank 0 has not been heard of for .* in an evaluation; see", done.stderr)
    assert "its process lives; if its work takes that long, raise --worker-timeout" in done.stderr


def test_a_network_gets_no_more_rows_at_once_than_a_minibatch_has(
    data: Path, tmp_path: Path
) -> None:
    net, run = like_the_example(tmp_path, FEW), tmp_path / "run"
    trained = result(*train(data, net, run))
    alone = result(*train(data, net, tmp_path / "alone", "--workers", 1))
    for key in ("digest", "loss", "test_loss", "test_accuracy"):
        assert trained[key] == alone[key]
    assert result("evaluate", run, "--model", net)["loss"] == trained["loss"]
    np.save(tmp_path / "x.npy", np.zeros((50, 4, 5)))
    result("predict", run, "--input", tmp_path / "x.npy", "--model", net)
    assert dptrain("verify", run, "--model", net).returncode == 0


@pytest.mark.parametrize(
    ("model", "batch", "rows"),
    [
        ("net.py:Net", 1, 1), ("net.py:Net", 100, 100), ("net.py:Net", 4096, 500),
        ("two-layer", 1, 500), ("two-layer", 4096, 500),
    ],
)  # fmt: skip
def test_rows_at_once(model: str, batch: int, rows: int) -> None:
    assert evaluation_rows(Experiment(model=model, batch_size=batch)) == rows


def test_a_long_step_shows_life_after_every_shard() -> None:
    _, replica = own(Net())
    found = filled(replica.pass_over(Arrangement(13, 4, 1, 4)))
    calls: list[int] = []
    found.alive = lambda: calls.append(1)
    found.forward()
    assert len(calls) == 3
