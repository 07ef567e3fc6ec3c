"""Too little memory is told before anything is drawn, in sizes, whatever the exchange."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain.cli.__main__ import main
from dptrain.errors import ResourceError
from dptrain.exchange import needed
from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.needed import memory_needed
from dptrain.exchange.rank import initial_state
from dptrain.exchange.segment import segment_bytes
from dptrain.exchange.star import StarReducer
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.execution import Execution, settle_execution
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.experiment.settling import settled_for
from dptrain.experiment.validate import build
from dptrain.launch import processes
from dptrain.nn import row
from tests.sessions import run, write_dataset

WIDE = "mlp:20-3000-300-3"


def execution(exchange: str, workers: int) -> Execution:
    given = {"exchange": exchange, "workers": workers}
    return settle_execution(build(Execution, given, "the test"), None)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    data = write_dataset(tmp_path / "small.npz", rows=1000)
    given = build(Experiment, {"dataset": str(data), "model": WIDE, "batch_size": 300}, "the test")
    folder = prepared_data(given)
    dataset = opened_data(given, folder)
    return Job(settled_for(given, dataset, 3, None), dataset)


def test_it_is_no_more_than_one_process_takes(job: Job) -> None:
    tracemalloc.start()
    parameters, slots = initial_state(job)
    engine = InlineEngine(job, parameters, slots)
    list(engine.train(0, 1, bool, 1))
    engine.evaluate("train")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.5 * peak < sum(memory_needed(job, execution("inline", 1))) < peak


def test_it_is_no_more_than_the_coordinator_shares_or_keeps(job: Job) -> None:
    vector = job.network.size * job.dtype.itemsize
    begun = 3 * vector  # the weights, and Adam's two
    shared = memory_needed(job, execution("shared", 3))
    taken = segment_bytes(job, 3) + begun
    assert 0.9 * taken < shared.state + shared.gradients <= taken
    tracemalloc.start()
    reducer = StarReducer(job, 3, *initial_state(job))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    star = memory_needed(job, execution("star", 3))
    elsewhere = (3 + job.shards) * vector  # the workers' weights, and their shards' gradients
    assert reducer.state().parameters.size == job.network.size
    assert 0.8 * kept < star.state + star.gradients - elsewhere < 1.05 * kept


SIZES = (
    "mlp:20-1000000-1000000-3",
    "mlp:20-4294967296-4294967296-3",
    "mlp:20-3037000500-3037000500-3",
)


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("model", SIZES)
def test_sizes_that_no_machine_has(
    exchange: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_dataset(tmp_path / "small.npz"), tmp_path / "run"
    how = ["--exchange", exchange, "--workers", "1" if exchange == "inline" else "2"]
    assert main(["train", "--dataset", str(data), "--model", model, *how, "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert "the run needs " in told
    assert " MB of memory or more, but " in told
    assert "a smaller network" in told.rpartition("; use ")[2]
    assert not out.exists()


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"shards": 10_000_000}, "use fewer --shards, or a machine"),
    ({"model": "mlp:20-100000-3", "batch_size": 137}, "use a smaller --batch-size, "),
    ({"model": "mlp:20-2000-2000-3", "shards": 2}, "use a smaller network"),
]


@pytest.mark.parametrize(("settings", "told"), SETTINGS)
def test_a_limit_is_met_with_what_helps(
    settings: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needed, "available_memory", lambda: 50_000_000)
    data = write_dataset(tmp_path / "small.npz")
    for exchange, workers in (("inline", 1), ("star", 2), ("shared", 2)):
        with pytest.raises(ResourceError, match=told):
            run(
                {"dataset": str(data)} | settings,
                tmp_path / exchange,
                exchange=exchange,
                workers=workers,
            )


def test_more_workers_than_there_is_memory_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--workers", "10000000", "--out", str(tmp_path / "run")]) == 1
    assert "10,000,000 workers take 200,000,000 MB of memory or more" in capsys.readouterr().err
    monkeypatch.setattr(processes, "available_memory", lambda: 30 * processes.LEAST_BYTES)
    processes.allow_processes(30)
    with pytest.raises(ResourceError, match=r"use --workers [0-9]+, as many as there are usable"):
        processes.allow_processes(31)


@pytest.mark.parametrize("size", ["9" * 5000, "1" + "0" * 18], ids=["5,000 digits", "19 digits"])
def test_a_size_that_is_no_size(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--model", f"mlp:784-{size}-10"]) == 2
    assert f"one of them of {len(size):,} digits" in capsys.readouterr().err


def test_more_layers_than_anybody_means(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(row, "MOST_LAYERS", 6)
    dense = [dptrain.Dense(2)] * 3
    assert len(dptrain.Network((2,), [*dense, dptrain.Chain(dense)]).row) == 6
    with pytest.raises(dptrain.errors.UsageError, match="a network has at most 6 layers"):
        dptrain.Network((2,), [*dense, dptrain.Chain([*dense, dptrain.Dense(2)])])


def test_memory_that_fails_all_the_same_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("dptrain.coordinator.run.first_state", fails)
    x = np.random.default_rng(0).standard_normal((30, 4))
    with pytest.raises(ResourceError, match="too little memory: Unable to allocate 9 TiB; use"):
        dptrain.fit(
            dptrain.Network((4,), [dptrain.Dense(2)]),
            (x, np.arange(30) % 2),
            out=tmp_path / "run",
            workers=1,
            progress=False,
        )
