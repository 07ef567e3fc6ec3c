"""Bisection: the first step at which two runs part, and what in it differs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.audit.bisect import Bisection, bisect
from dptrain.audit.history import read_history
from dptrain.audit.lockstep import Side, first_difference
from dptrain.audit.replay import Replay
from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.coordinator.session import Session
from dptrain.errors import NonFiniteError, UsageError
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.own.origin import Named
from dptrain.report.observers import SilentObserver
from tests.audit.runs import (
    EPOCH,
    bisected,
    edit_checkpoint,
    edit_lines,
    epochs,
    flip_bit,
    keep_lines,
)
from tests.own.nets import EXAMPLE
from tests.sessions import write_dataset

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "one"
    return epochs(data, out, workers=2, keep_checkpoints=True, record_digests=True)


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Train:
    return lambda **settings: epochs(data, tmp_path / "other", **settings)


def found(one: Path, other: Path) -> tuple[int, str, str, int | None]:
    """Return where two runs part, which is the same whichever is named first."""
    result, reverse = bisected(one, other).finding, bisected(other, one).finding
    assert result is not None
    assert reverse is not None
    assert (result.step, result.phase, result.shard) == (reverse.step, reverse.phase, reverse.shard)
    return result.step, result.phase, result.where, result.shard


def test_the_same_experiment(one: Path, train: Train) -> None:
    result = bisected(one, train(workers=3, exchange="star", log_every=3))
    assert result.same
    assert (result.settings, result.begin, result.finding) == ([], None, None)
    # losses of steps 1, 3, 6, 9 and 12, two epochs, and `last`; `best` is of one of them
    assert result.records.compared >= 8
    assert result.records.until == 2 * EPOCH
    assert bisected(one, one).same


def test_a_longer_run_is_the_same_as_far_as_both_go(one: Path, train: Train) -> None:
    result = bisected(one, train(count=3))
    assert result.same
    assert [(each.name, each.one, each.other) for each in result.settings] == [("epochs", 2, 3)]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"seed": 1}, (0, "start", "dense1.W", None)),
        ({"train_rows": 130}, (0, "rows", "minibatch", 0)),
        ({"augment_noise": 0.1}, (0, "inputs", "inputs", 0)),
        ({"augment_shift": 1}, (0, "inputs", "inputs", 0)),
        ({"label_smoothing": 0.1}, (0, "loss", "loss", 0)),
        ({"lr": 0.01}, (0, "update", "learning rate", None)),
        ({"clip_norm": 0.01}, (0, "update", "factor of clipping", None)),
        ({"l1": 0.1}, (0, "update", "dense1.W", None)),
        ({"beta2": 0.9}, (1, "update", "dense1.W", None)),
        ({"optimizer": "sgd", "lr": 0.001}, (0, "update", "dense1.W", None)),
        ({"shards": 2}, (0, "rows", "minibatch", 0)),
        ({"batch_size": 25}, (0, "rows", "minibatch", 0)),
        ({"activation": "leaky-relu"}, (0, "outputs", "relu1 and leaky-relu1", 0)),
        ({"freeze": ["dense2.W"]}, (0, "update", "dense2.W", None)),
        ({"dtype": "float64"}, (0, "network", "dtype", None)),
        ({"model": "mlp:20-8-3"}, (0, "network", "dense1.W", None)),
        ({"norm": "batch"}, (0, "network", "batchnorm1.gamma", None)),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_one_setting(
    settings: dict[str, Any], where: tuple[object, ...], one: Path, train: Train
) -> None:
    other = train(**settings)
    assert found(one, other) == where
    result = bisected(one, other)
    assert next(iter(settings)) in {each.name for each in result.settings}
    assert not result.strays
    assert not result.same


def test_dropout(train: Train, data: Path, tmp_path: Path) -> None:
    little = epochs(data, tmp_path / "little", 1, dropout=0.2, workers=2)
    assert found(little, train(count=1, dropout=0.3)) == (0, "outputs", "dropout1", 0)


def test_how_the_gradient_is_computed(train: Train, data: Path, tmp_path: Path) -> None:
    both: dict[str, Any] = {"model": "mlp:20-3", "count": 1, "dtype": "float64"}
    exact = epochs(data, tmp_path / "exact", **both)
    other = train(gradient="numerical", **both)
    assert found(exact, other) == (0, "shard gradient", "dense1.W", 0)


def test_a_network_of_the_users_own(data: Path, tmp_path: Path) -> None:
    sizes = {"input_size": 20, "hidden_size": 7, "output_size": 3}
    origin = Named(EXAMPLE, sizes)
    runs = []
    for lr in (0.1, 0.2):
        settings = {"dataset": str(data), "model": EXAMPLE, "model_args": sizes, "lr": lr}
        experiment = build(Experiment, settings | {"batch_size": 20, "steps": 9}, "the test")
        out = tmp_path / str(lr)
        session = Session(
            experiment, Execution(workers=2), SilentObserver(), out=out, origin=origin
        )
        session.run(handle_signals=False)
        runs.append(read_history(out))
    result = bisect(runs[0], runs[1], origin).finding
    assert result is not None
    assert (result.step, result.phase, result.where) == (0, "update", "learning rate")
    with pytest.raises(UsageError, match="add --model"):
        bisect(runs[0], runs[1])


@pytest.mark.parametrize("first", [3, 5, 8])
def test_a_schedule_that_differs_from_a_step_on(first: int, one: Path, train: Train) -> None:
    other = train(schedule="step", decay_every=first)
    assert found(one, other) == (first, "update", "learning rate", None)
    result = bisected(one, other)
    assert result.finding is not None
    assert result.finding.difference is not None
    assert result.finding.difference.values == (0.001, 0.0005)
    # `best` of the first epoch stands in both folders
    assert result.begin == (0 if first < EPOCH else EPOCH)


def test_two_warmups(train: Train, data: Path, tmp_path: Path) -> None:
    """Steps rise alike while both warm up: lr (k + 1) / (warmup + 1) is the same for 2 lr."""
    slow = epochs(data, tmp_path / "slow", warmup=3, lr=0.004)
    # rates 1, 2, 3, 4, 4, … and 1, 2, 3, 4, 5, … thousandths
    fast = train(warmup=7, lr=0.008)
    assert found(slow, fast) == (4, "update", "learning rate", None)


def test_it_begins_with_the_last_state_that_both_have(one: Path, train: Train) -> None:
    other = train(schedule="step", decay_every=10, keep_checkpoints=True)
    result = bisected(one, other)
    assert result.begin == EPOCH
    assert found(one, other) == (10, "update", "learning rate", None)
    assert result.records.first is not None
    assert result.records.first.since == 11


def test_tensors_and_steps_from_the_records_alone(one: Path, train: Train) -> None:
    other = train(schedule="step", decay_every=10, record_digests=True, freeze=None, workers=3)
    first = bisected(one, other).records.first
    assert first is not None
    assert (first.step, first.since, first.what) == (11, 10, "the tensors after step 11")
    assert first.tensors == ["dense1.W", "dense1.b", "dense2.W", "dense2.b"]


@pytest.mark.parametrize("norm", [None, "batch"])
def test_weights_that_differ_in_one_layer(
    norm: str | None, data: Path, one: Path, tmp_path: Path
) -> None:
    first = epochs(data, tmp_path / "first", 1, norm=norm)
    second = Path(shutil.copytree(first, tmp_path / "second"))

    def change(checkpoint: Checkpoint) -> None:
        flip_bit(checkpoint.tensors["dense2.W"], 4, 1)

    edit_checkpoint(second, "last", change)
    runs = [
        epochs(data, tmp_path / f"from-{start.name}", norm=norm, init_from=str(start))
        for start in (first, second)
    ]
    result = bisected(*runs).finding
    assert result is not None
    assert (result.step, result.phase, result.where) == (0, "start", "dense2.W")
    assert result.difference is not None
    assert (result.difference.elements, result.difference.at) == (1, (4, 1))


def strayed(data: Path, tmp_path: Path, **settings: Any) -> tuple[Path, Path]:
    """Return a run, and one that says the same of itself but halved its rate at step 10."""
    said = epochs(data, tmp_path / "said", **settings)
    did = epochs(data, tmp_path / "did", schedule="step", decay_every=10, **settings)
    shutil.copy(said / "experiment.toml", did / "experiment.toml")
    return said, did


def test_a_run_that_did_not_compute_what_it_says(data: Path, tmp_path: Path) -> None:
    said, did = strayed(data, tmp_path, record_digests=True)
    result = bisected(said, did)
    assert not result.same
    assert (result.settings, result.finding) == ([], None)
    (stray,) = result.strays
    assert (stray.run, stray.since, stray.check.step) == (1, 10, 11)
    assert stray.check.tensor == "dense1.W"
    reverse = bisected(did, said)
    assert [each.run for each in reverse.strays] == [0]


def test_an_edited_experiment_is_not_the_same(one: Path, tmp_path: Path) -> None:
    """Its records are those of the other run, but not of what it says."""
    edited = tmp_path / "edited"
    shutil.copytree(one, edited)
    file = edited / "experiment.toml"
    (line,) = [each for each in file.read_text().splitlines() if each.startswith("seed =")]
    file.write_text(file.read_text().replace(line, "seed = 77"))
    result = bisected(one, edited)
    assert [each.name for each in result.settings] == ["seed"]
    assert not result.same


def test_the_same_where_only_epochs_are_recorded(data: Path, tmp_path: Path) -> None:
    said, did = strayed(data, tmp_path, log_every=100)
    (stray,) = bisected(said, did).strays
    assert (stray.run, stray.since, stray.check.step) == (1, EPOCH, 2 * EPOCH)
    assert stray.check.what == "epoch 2"


def test_a_damaged_checkpoint_is_not_where_runs_part(one: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(one, tmp_path / "copy"))

    def change(checkpoint: Checkpoint) -> None:
        flip_bit(checkpoint.tensors["dense2.W"], 4, 1)

    edit_checkpoint(copy, "last", change)
    edit_checkpoint(copy, "epoch-0002", change)
    result = bisected(one, copy)
    assert result.finding is None
    assert result.begin == EPOCH
    (stray,) = result.strays
    assert stray.run == 1
    assert stray.check.step == 2 * EPOCH


def test_a_changed_digest(one: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(one, tmp_path / "copy"))

    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "digests" and line["step"] == 9:
            line["tensors"]["dense2.b"] = "0" * 64

    edit_lines(copy, change)
    result = bisected(one, copy)
    assert result.records.first is not None
    assert (result.records.first.step, result.records.first.tensors) == (9, ["dense2.b"])
    (stray,) = result.strays
    assert (stray.run, stray.since, stray.check.tensor) == (1, 8, "dense2.b")


def test_other_data(one: Path, data: Path, tmp_path: Path) -> None:
    with np.load(data) as arrays:
        values = dict(arrays)
    rows = Replay(read_history(one), None).job.minibatch(0)
    values["x_train"][rows[7]] += 0.5
    np.savez(tmp_path / "others.npz", **values)
    other = epochs(tmp_path / "others.npz", tmp_path / "other")
    result = bisected(one, other)
    assert {each.name for each in result.settings} == {"dataset", "dataset_digest"}
    assert result.finding is not None
    assert (result.finding.step, result.finding.phase) == (0, "data")
    assert result.finding.shard == 1  # rows 5 to 9
    assert result.finding.difference is not None
    assert result.finding.difference.at[0] == 2


def test_data_that_have_changed(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "own.npz")
    runs = [epochs(data, tmp_path / str(lr), 1, lr=lr) for lr in (0.1, 0.2)]
    write_dataset(data, rows=138)
    result: Bisection = bisected(*runs)
    assert "is not what the experiment was recorded with" in result.note
    assert result.records.first is not None
    assert not result.same
    assert not result.inconclusive
    same = bisected(runs[0], runs[0])
    assert same.same
    assert not same.inconclusive
    one, other = (Path(shutil.copytree(runs[0], tmp_path / name)) for name in ("one", "other"))
    shutil.rmtree(other / "checkpoints")
    keep_lines(other, lambda line: line["kind"] == "step")
    told = bisected(one, other)
    assert told.inconclusive, "losses alone do not tell the weights"
    assert told.plain()["same"] is None


def test_records_that_do_not_reach_to_the_end(one: Path, tmp_path: Path) -> None:
    """As of a run that was killed: what it did behind its last epoch is done again."""
    killed = Path(shutil.copytree(one, tmp_path / "killed"))
    keep_lines(killed, lambda line: line["step"] <= 10 and line["kind"] != "digests")
    for name in ("last", "epoch-0002"):
        (killed / "checkpoints" / f"{name}.safetensors").unlink()
    result = bisected(one, killed)
    assert (result.same, result.begin, result.end) == (True, EPOCH, 10)


def test_a_run_that_diverged_at_once(one: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "diverged"
    with pytest.raises(NonFiniteError):
        epochs(data, out, lr=1e30)
    shutil.rmtree(out / "checkpoints")
    assert found(one, out) == (0, "update", "learning rate", None)


def test_one_of_two_diverges(one: Path, data: Path, tmp_path: Path) -> None:
    """It is told to have gone on, so its experiment is not what it was."""
    odd = Path(shutil.copytree(one, tmp_path / "odd"))
    file = odd / "experiment.toml"
    file.write_text(file.read_text().replace("lr = 0.001", "lr = 1e30"))
    edit_lines(odd, lambda line: line.update(loss=0.0) if line["kind"] == "step" else None)
    result = bisected(one, odd)
    assert result.finding is not None
    assert (result.finding.step, result.finding.where) == (0, "learning rate")
    assert [(each.run, each.check.step) for each in result.strays] == [(1, 1)]


def test_code_that_does_not_compute_the_same_each_time(one: Path) -> None:
    history = read_history(one)
    replays = Replay(history, None), Replay(history, None)
    sides = [Side(history, each, each.start(), 0) for each in replays]
    result = first_difference((sides[0], sides[1]), 0)
    assert (result.step, result.where) == (0, "unknown")
    assert "does not compute the same each time" in result.problem
