"""The experiment decides the numbers: the same digests for any workers, exchange and transport."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.metrics.records import StepRecord
from dptrain.optim.rules import RULES
from tests.sessions import run, write_dataset

OPTIMIZERS = list(RULES)
# Each optimizer in turn has another mixture of everything else, so that somebody meets all of it.
MIXTURES: list[dict[str, Any]] = [
    {"activation": "sigmoid", "clip_norm": 0.4, "schedule": "step", "decay_every": 2},
    {"weight_decay": 0.01, "schedule": "cosine", "warmup": 3},
    {"loss": "sum-of-squares", "activation": "tanh"},
    {"validation": 0.2, "schedule": "exponential"},
    {"shards": 7, "weight_decay": 0.1, "activation": "silu", "loss": "log-cosh"},
    {"batch_size": 3, "steps": 50, "clip_norm": 1.0},
    {"weight_decay": 0.1, "model": "mlp:20-300-300-3", "shards": 5},
    {"weight_decay": 0.3, "clip_norm": 0.5, "warmup": 2},
]
EXECUTIONS: list[dict[str, Any]] = [
    {"workers": 2, "transport": "ipc"},
    {"workers": 3, "transport": "tcp"},
    {"workers": 4, "transport": "ipc"},
    {"workers": 1, "exchange": "star", "transport": "tcp"},
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


def epochs(folder: Path) -> list[dict[str, Any]]:
    """Return a run's epoch records without what may differ: the times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if "second" not in key}
        for line in lines
        if line["kind"] == "epoch"
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_digests_do_not_depend_on_the_execution(
    optimizer: str, dtype: str, dataset: Path, tmp_path: Path
) -> None:
    named = {"dataset": str(dataset), "optimizer": optimizer, "dtype": dtype}
    place = OPTIMIZERS.index(optimizer)
    experiment = named | MIXTURES[place % len(MIXTURES)]
    inline = run(experiment, tmp_path / "inline", workers=1)
    assert inline.steps == inline.job.total_steps
    turn = place + (dtype == "float64")
    execution = EXECUTIONS[turn % len(EXECUTIONS)]
    star = run(experiment | {"shards": inline.job.shards}, tmp_path / "star", **execution)
    assert star.digest == inline.digest
    losses = [
        [record.loss for record in outcome.records if isinstance(record, StepRecord)]
        for outcome in (inline, star)
    ]
    assert losses[0] == losses[1]
    assert epochs(tmp_path / "star") == epochs(tmp_path / "inline")


def test_every_worker_count_agrees_by_default(dataset: Path, tmp_path: Path) -> None:
    experiment = {"dataset": str(dataset)}
    digests = {
        workers: run(experiment, tmp_path / str(workers), workers=workers).digest
        for workers in (1, 2, 3, 4)
    }
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_l1_penalty_is_added_once(optimizer: str, dataset: Path, tmp_path: Path) -> None:
    experiment = {"dataset": str(dataset), "optimizer": optimizer, "l1": 0.02, "shards": 5}
    digests = {
        workers: run(experiment, tmp_path / str(workers), workers=workers).digest
        for workers in (1, 2, 3)
    }
    assert len(set(digests.values())) == 1, digests
    plain = run(experiment | {"l1": 0.0}, tmp_path / "plain", workers=1).digest
    assert digests[1] != plain


def test_another_experiment_has_another_digest(dataset: Path, tmp_path: Path) -> None:
    plain = run({"dataset": str(dataset)}, tmp_path / "plain", workers=1).digest
    changes: list[dict[str, Any]] = [{"seed": 1}, {"shards": 3}, {"batch_size": 21}, {"lr": 0.002}]
    for i, change in enumerate(changes):
        assert run({"dataset": str(dataset)} | change, tmp_path / str(i), workers=1).digest != plain


def test_regression_runs_on_several_workers(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "regression.npz", regression=True)
    experiment = {"dataset": str(data), "model": "mlp:20-7-2"}
    inline = run(experiment, tmp_path / "inline", workers=1)
    assert run(experiment, tmp_path / "star", workers=2).digest == inline.digest
    assert inline.evaluation is not None
    assert inline.evaluation.test_accuracy is None


def applied_gradient(experiment: dict[str, Any], out: Path, workers: int) -> np.ndarray:
    """Return what one step of gradient descent at lr 1 has taken off the weights."""
    settings = {"optimizer": "sgd", "lr": 1.0, "steps": 1, "dtype": "float64"} | experiment
    outcome = run(settings, out, workers=workers)
    return np.asarray(outcome.job.initial_parameters() - outcome.parameters)


@pytest.mark.parametrize(
    ("batch_size", "shards"), [(20, 4), (18, 4), (3, 5)], ids=["even", "uneven", "empty"]
)
def test_the_applied_gradient(batch_size: int, shards: int, dataset: Path, tmp_path: Path) -> None:
    experiment = {
        "dataset": str(dataset),
        "batch_size": batch_size,
        "shards": shards,
        "activation": "tanh",
    }
    single = applied_gradient(experiment, tmp_path / "1", 1)
    for workers in (2, 3):
        found = applied_gradient(experiment, tmp_path / str(workers), workers)
        assert found.tobytes() == single.tobytes()
    np.testing.assert_allclose(single, differences(experiment, tmp_path), rtol=1e-5, atol=1e-8)


def differences(experiment: dict[str, Any], tmp_path: Path) -> np.ndarray:
    """Return central differences of the first minibatch's mean loss, by plain NumPy."""
    outcome = run(experiment | {"steps": 1, "dtype": "float64"}, tmp_path / "setting", workers=1)
    job = outcome.job
    order = job.minibatch(0)
    x = np.asarray(job.dataset.train.inputs)[order].reshape(len(order), -1)
    t = np.asarray(job.dataset.train.targets)[order]
    w = job.initial_parameters()

    def loss() -> float:
        views = job.network.views(w)
        hidden = np.tanh(x @ views["dense1.W"] + views["dense1.b"])
        y = hidden @ views["dense2.W"] + views["dense2.b"]
        return float((np.log(np.exp(y).sum(axis=1)) - y[np.arange(len(t)), t]).mean())

    found = np.empty_like(w)
    for i, value in enumerate(w.copy()):
        w[i] = value + 1e-6
        above = loss()
        w[i] = value - 1e-6
        found[i] = (above - loss()) / 2e-6
        w[i] = value
    return found
