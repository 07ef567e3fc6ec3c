"""Runs that stop early: where, with which weights, and whatever interrupts them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator.observer import Observer
from dptrain.coordinator.outcome import Outcome
from dptrain.coordinator.session import Session
from dptrain.errors import CheckpointError
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.records import EndRecord, EpochRecord, end_of
from dptrain.report.observers import SilentObserver
from dptrain.runfolder import RunFolder
from dptrain.trained import load_run
from tests.commands import dptrain, result
from tests.sessions import run, write_dataset

PATIENCE = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz", rows=60)


@pytest.fixture
def experiment(data: Path) -> dict[str, Any]:
    """Forty rows, learnt by heart while twenty others are judged by."""
    return {
        "dataset": str(data), "model": "mlp:20-30-3", "validation": 0.34, "batch_size": 10,
        "lr": 0.02, "epochs": 40, "patience": PATIENCE, "loss": "sum-of-squares", "seed": 3,
    }  # fmt: skip


def lasting(experiment: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"steps": None, **experiment, **changes}


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return a run's records of epochs and of its end, without the times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if "second" not in key}
        for line in found
        if line["kind"] != "step"
    ]


def merits(outcome: Outcome) -> list[float]:
    epochs = [each for each in outcome.records if isinstance(each, EpochRecord)]
    return [each.validation_accuracy or 0.0 for each in epochs]


class Crash(Exception):  # noqa: N818 - it stands for a death
    """What no part of the program expects."""


class Crashing(SilentObserver):
    """Ends a run after so many epochs as a death would."""

    def __init__(self, epochs: int) -> None:
        self._left = epochs

    def epoch(self, record: EpochRecord) -> None:  # noqa: ARG002
        """Count down."""
        self._left -= 1
        if not self._left:
            raise Crash


def crashed(experiment: dict[str, Any], out: Path, epochs: int) -> None:
    session = Session(
        Experiment(**experiment), Execution(workers=1, log_every=1), Crashing(epochs), out=out
    )
    with pytest.raises(Crash):
        session.run(handle_signals=False)


def resumed(
    experiment: dict[str, Any], out: Path, observer: Observer | None = None, **changes: Any
) -> Outcome:
    return Session(
        Experiment(**experiment | changes),
        Execution(workers=1, log_every=1),
        observer or SilentObserver(),
        resumed=RunFolder.resume(out),
    ).run(handle_signals=False)


def test_it_stops_and_restores_the_best_epoch(experiment: dict[str, Any], tmp_path: Path) -> None:
    found = run(lasting(experiment), tmp_path / "run", workers=1)
    scores = merits(found)
    best = scores.index(max(scores)) + 1
    assert 1 < best < 20, "the experiment is meant to overfit late enough to be of use"
    assert len(scores) == best + PATIENCE
    end = end_of(found.records)
    assert end == found.end
    assert end is not None
    assert (end.epoch, end.best_epoch, end.stopped_early) == (best + PATIENCE, best, True)
    plain = lasting(experiment, epochs=best, patience=None)
    until_best = run(plain, tmp_path / "plain", workers=1)
    assert until_best.digest == found.digest == end.digest
    assert found.evaluation is not None
    assert found.evaluation.digest == found.digest
    assert found.steps == (best + PATIENCE) * found.job.steps_per_epoch
    last, checkpoint = load_run(tmp_path / "run", "last")
    assert checkpoint.digest == found.digest
    np.testing.assert_array_equal(last.parameters, found.parameters)
    summary = found.summary()
    assert (summary["stopped_early"], summary["best_epoch"]) == (True, best)
    assert summary["test_accuracy"] == found.evaluation.test_accuracy


@pytest.mark.parametrize(
    "execution",
    [{"workers": 3}, {"workers": 2, "exchange": "star"}],
    ids=["shared", "star"],
)
def test_every_execution_ends_alike(
    execution: dict[str, Any], experiment: dict[str, Any], tmp_path: Path
) -> None:
    moved = lasting(
        experiment, augment_shift=1, augment_rotate=10.0, augment_noise=0.05, train_rows=35
    )
    one = run(moved, tmp_path / "one", workers=1)
    assert one.end is not None
    assert one.end.stopped_early
    several = run(moved, tmp_path / "several", **execution)
    assert several.digest == one.digest
    assert lines(tmp_path / "several") == lines(tmp_path / "one")


def test_the_test_rows_decide_nothing(
    experiment: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    with np.load(data) as arrays:
        others = dict(arrays) | {"x_test": -arrays["x_test"]}
    np.savez(tmp_path / "others.npz", **others)
    one = run(lasting(experiment), tmp_path / "one", workers=1)
    changed = lasting(experiment, dataset=str(tmp_path / "others.npz"))
    other = run(changed, tmp_path / "other", workers=1)
    assert other.digest == one.digest
    assert other.end == one.end
    assert other.summary()["test_loss"] != one.summary()["test_loss"]


def test_the_best_is_restored_also_after_all_epochs(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    stopped = run(lasting(experiment), tmp_path / "stopped", workers=1)
    assert stopped.end is not None
    best = int(stopped.end.best_epoch)
    found = run(lasting(experiment, epochs=best + 1), tmp_path / "run", workers=1)
    assert found.end is not None
    assert not found.end.stopped_early
    assert found.digest == stopped.digest
    # given more epochs, it becomes what it would have been
    prolonged = resumed(experiment, tmp_path / "run")
    assert prolonged.digest == stopped.digest
    assert lines(tmp_path / "run") == lines(tmp_path / "stopped")


def test_a_death_after_any_epoch_changes_nothing(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    whole = run(lasting(experiment), tmp_path / "whole", workers=1)
    assert whole.end is not None
    for epochs in range(1, int(whole.end.epoch) + 1):
        out = tmp_path / str(epochs)
        crashed(experiment, out, epochs)
        assert resumed(experiment, out).digest == whole.digest
        assert lines(out) == lines(tmp_path / "whole")


def test_a_run_that_has_ended_says_so_and_more_patience_lets_it_go_on(
    experiment: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = run(lasting(experiment), out, workers=1)
    before = lines(out)
    with pytest.warns(RuntimeWarning, match=r"has ended at epoch .* a --patience above 3"):
        again = resumed(experiment, out, epochs=50)
    assert again.digest == first.digest
    assert again.evaluation == first.evaluation
    assert lines(out) == before
    longer = run(lasting(experiment, patience=6), tmp_path / "longer", workers=1)
    with pytest.raises(Crash):
        resumed(experiment, out, Crashing(1), patience=6)
    assert load_checkpoint(RunFolder.open(out).last).progress["ended"] is None
    assert end_of(read_metrics(out / "metrics.jsonl")) is None
    assert resumed(experiment, out, patience=6).digest == longer.digest
    assert lines(out) == lines(tmp_path / "longer")


def test_a_best_checkpoint_that_is_not_the_best(experiment: dict[str, Any], tmp_path: Path) -> None:
    early, out = tmp_path / "early", tmp_path / "run"
    end = run(lasting(experiment), tmp_path / "whole", workers=1).end
    assert end is not None
    crashed(experiment, early, 1)
    crashed(experiment, out, int(end.best_epoch) + 1)
    folder = RunFolder.open(out)
    folder.best.write_bytes(RunFolder.open(early).best.read_bytes())
    with pytest.raises(CheckpointError, match=r"best.safetensors: is of step \d+, but the best"):
        resumed(experiment, out)
    assert load_checkpoint(folder.last).step == (end.best_epoch + 1) * 4


class Obstructing(Crashing):
    """Lets `best` not be written between two epochs, and ends the run after a third."""

    def __init__(self, best: Path, begin: int, end: int, crash: int) -> None:
        super().__init__(crash)
        self._best, self._begin, self._end, self._done = best, begin, end, 0

    def epoch(self, record: EpochRecord) -> None:
        """Put a folder where `best` should be, or take it away."""
        self._done += 1
        if self._done == self._begin:
            self._best.unlink()
            self._best.mkdir()
        if self._done == self._end:
            self._best.rmdir()
        super().epoch(record)


@pytest.mark.parametrize("lasts", [1, 2])
@pytest.mark.parametrize("later", [1, 2])
def test_a_best_that_could_not_be_written_at_first(
    lasts: int, later: int, experiment: dict[str, Any], tmp_path: Path
) -> None:
    whole = run(lasting(experiment), tmp_path / "whole", workers=1)
    scores = merits(whole)
    best = scores.index(max(scores)) + 1
    out = tmp_path / "run"
    file = RunFolder(out).best
    observer = Obstructing(file, best - 1, best - 1 + lasts, best - 1 + lasts + later)
    session = Session(
        Experiment(**experiment), Execution(workers=1, log_every=1), observer, out=out
    )
    with pytest.raises(Crash), pytest.warns(RuntimeWarning, match="Is a directory"):
        session.run(handle_signals=False)
    if later > 1:
        assert load_checkpoint(file).step == best * whole.job.steps_per_epoch
    assert resumed(experiment, out).digest == whole.digest
    assert load_checkpoint(file).step == best * whole.job.steps_per_epoch


def test_regressions_are_judged_by_loss(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz", rows=60, regression=True)
    found = run(
        {
            "dataset": str(data), "model": "mlp:20-30-2", "validation": 0.34, "steps": None,
            "batch_size": 10, "lr": 0.05, "epochs": 60, "patience": 2, "min_improvement": 0.01,
        },
        tmp_path / "run",
        workers=1,
    )  # fmt: skip
    assert isinstance(found.end, EndRecord)
    epochs = [each for each in found.records if isinstance(each, EpochRecord)]
    losses = [each.validation_loss or 0.0 for each in epochs]
    assert found.end.best_epoch == losses.index(min(losses)) + 1
    assert found.evaluation is not None
    assert found.evaluation.validation_loss == min(losses)


@pytest.fixture
def told(experiment: dict[str, Any]) -> Callable[..., list[object]]:
    def flags(**changes: Any) -> list[object]:
        pairs = ((f"--{key.replace('_', '-')}", value) for key, value in changes.items())
        return [part for pair in pairs for part in pair]

    return lambda **changes: flags(**experiment | changes)


def test_on_the_command_line(told: Callable[..., list[object]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = dptrain("train", *told(), "--workers", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "stopped early at epoch" in done.stdout
    assert "restored" in done.stdout
    assert " gap " in done.stdout
    assert "patience 3" in done.stderr
    ended = dptrain("train", "--resume", out, "--epochs", 90)
    assert ended.returncode == 0, ended.stderr
    assert "training has ended at epoch" in ended.stderr
    assert "stopped early at epoch" in ended.stdout
    assert "restored" in dptrain("inspect", out).stdout
    evaluated, shown = result("evaluate", out), result("inspect", out)
    last = shown["last_epoch"]
    assert evaluated["digest"] == shown["digest"] == last["digest"]
    assert evaluated["test_accuracy"] == last["test_accuracy"]
    refused = dptrain("train", "--resume", out, "--patience", 2)
    assert refused.returncode == 2
    assert "a run with patience=3, which can only be raised, not be made 2" in refused.stderr
