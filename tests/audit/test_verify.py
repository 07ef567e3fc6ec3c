"""Verification: everything that a run recorded is found again, and what is not is named."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.audit.history import read_history
from dptrain.audit.verify import chosen, windows_of
from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.errors import DamageWarning, DataError, RunFolderError
from dptrain.metrics.records import ProlongedRecord, end_of
from tests.audit.runs import EPOCH, edit_checkpoint, edit_lines, epochs, flip_bit, resumed, verified
from tests.data.test_checksums import rot
from tests.sessions import run, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def three(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs by three workers over the star, with all there is to record."""
    out = tmp_path_factory.mktemp("runs") / "three"
    return epochs(
        data, out, 3, workers=3, exchange="star", keep_checkpoints=True, record_digests=True
    )


@pytest.fixture
def copy(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "copy"))


def test_a_run_of_three_workers_is_found_again_by_one(three: Path) -> None:
    found = verified(three)
    assert found.same
    assert [(w.window.begin, w.window.end) for w in found.windows] == [(0, 7), (7, 14), (14, 21)]
    compared = [check.what for each in found.windows for check in each.checks]
    assert {f"epoch {i}" for i in (1, 2, 3)} < set(compared)
    assert {f"checkpoint epoch {i}" for i in (1, 2, 3)} < set(compared)
    assert {"checkpoint best", "checkpoint last"} < set(compared)
    assert {f"the tensors after step {i}" for i in range(1, 22)} < set(compared)
    assert {f"the loss of step {i}" for i in range(1, 22)} < set(compared)
    assert len(compared) == 3 + 3 + 2 + 21 + 21


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "batch", "dropout": 0.2, "augment_noise": 0.1, "workers": 3},
        {"augment_shift": 1, "augment_rotate": 5.0, "schedule": "step", "decay_every": 5},
        {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 0.5, "workers": 2},
        {"gradient": "numerical", "dtype": "float64", "model": "mlp:20-3"},
        {"record_digests": True, "log_every": 5, "workers": 2, "checkpoint_every": 4},
    ],
    ids=["batch-norm", "moved", "clipped", "numerical", "digests-in-shared-memory"],
)
def test_whatever_the_experiment(settings: dict[str, Any], data: Path, tmp_path: Path) -> None:
    found = verified(epochs(data, tmp_path / "run", **settings))
    assert found.same, found.first


def test_digests_are_recorded_at_logged_steps_only(data: Path, tmp_path: Path) -> None:
    out = epochs(data, tmp_path / "run", record_digests=True, log_every=5, workers=2)
    told = read_history(out).told
    assert [step for step, each in told.items() if any("tensors" in t.what for t in each)] == [
        1, 5, 10,
    ]  # fmt: skip


def test_a_bit_of_a_weight(copy: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        flip_bit(checkpoint.tensors["dense1.W"], 3, 2)

    edit_checkpoint(copy, "epoch-0002", change)
    found = verified(copy)
    assert not found.same
    assert found.first is not None
    wrong = [check for each in found.windows for check in each.checks if not check.same]
    assert [each.what for each in wrong] == [
        "the digest in checkpoint epoch 2",
        "checkpoint epoch 2",
    ], "the epoch after it begins with what the run had, not with the damaged weights"
    check = wrong[1]
    assert (check.step, check.epoch, check.tensor) == (2 * EPOCH, 2.0, "dense1.W")
    assert check.difference is not None
    assert (check.difference.elements, check.difference.at) == (1, (3, 2))
    assert 0 < check.difference.largest < 1e-6


def test_the_optimizers_state(copy: Path) -> None:
    def change(checkpoint: Checkpoint) -> None:
        next(iter(checkpoint.optimizer.values()))[-1] += 1

    edit_checkpoint(copy, "last", change)
    first = verified(copy).first
    assert first is not None
    assert first.what == "checkpoint last"
    assert first.tensor.startswith("dense2.b, ")


def test_a_changed_digest(copy: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "epoch" and line["step"] == 2 * EPOCH:
            line["digest"] = "0" * 64

    edit_lines(copy, change)
    found = verified(copy)
    assert found.first is not None
    assert (found.first.what, found.first.step) == ("epoch 2", 2 * EPOCH)
    assert found.first.recorded == "0" * 64

    assert [each.same for each in found.windows] == [True, False, True]


def test_a_changed_digest_of_a_tensor_and_a_changed_loss(copy: Path) -> None:
    def change(line: dict[str, Any]) -> None:
        if line["kind"] == "digests" and line["step"] == 10:
            line["tensors"]["dense2.W"] = "0" * 64
        if line["kind"] == "step" and line["step"] == 12:
            line["loss"] = float(np.nextafter(line["loss"], 1))

    edit_lines(copy, change)
    checks = [check for each in verified(copy).windows for check in each.checks if not check.same]
    assert [(each.step, each.tensor) for each in checks] == [(10, "dense2.W"), (12, "")]


def test_a_damaged_file_is_a_finding(copy: Path) -> None:
    file = copy / "checkpoints" / "epoch-0001.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    found = verified(copy)
    assert not found.same
    assert found.first is not None
    assert "its checksum does not match" in found.first.problem
    assert [each.same for each in found.windows] == [False, True, True]
    picked = verified(copy, count=3, seed=1)  # the window after it cannot begin
    assert not picked.same
    file.write_bytes(b"nothing")
    assert list(verified(copy).damaged) == ["epoch 1"]


def test_a_run_that_did_not_do_what_its_experiment_says(data: Path, tmp_path: Path) -> None:
    said = epochs(data, tmp_path / "said", keep_checkpoints=True)
    did = epochs(data, tmp_path / "did", schedule="step", decay_every=10, keep_checkpoints=True)
    shutil.copy(said / "experiment.toml", did / "experiment.toml")
    found = verified(did)
    assert [each.same for each in found.windows] == [True, False]
    assert found.first is not None
    assert (found.first.what, found.first.step) == ("the loss of step 12", 12)


def test_what_comes_after_a_difference_is_judged_by_itself(data: Path, tmp_path: Path) -> None:
    """Weights that were changed between two epochs are the second one's fault alone."""

    def change(checkpoint: Checkpoint) -> None:
        checkpoint.tensors["dense2.W"][0, 0] += 1

    out = epochs(data, tmp_path / "run", 1, keep_checkpoints=True)
    edit_checkpoint(out, "last", change)
    resumed(out, epochs=3, keep_checkpoints=True)
    found = verified(out)
    assert [each.same for each in found.windows] == [True, False, True]
    assert found.first is not None
    assert found.first.what == "the loss of step 8"


def test_some_windows(three: Path) -> None:
    every = windows_of(read_history(three))
    found = verified(three, count=2, seed=5)
    assert found.same
    assert [each.window for each in found.windows] == chosen(every, 2, 5)
    assert (found.there, found.seed) == (3, 5)
    assert len({tuple(chosen(every, 2, seed)) for seed in range(20)}) == 3
    assert len(verified(three, count=9).windows) == 3


def test_a_window_begins_with_what_its_checkpoint_has(copy: Path) -> None:
    """A damaged beginning shows even where the epoch before it is not re-executed."""

    def change(checkpoint: Checkpoint) -> None:
        flip_bit(checkpoint.tensors["dense2.b"], 0)

    edit_checkpoint(copy, "epoch-0002", change)
    seed = next(
        s for s in range(99) if chosen(windows_of(read_history(copy)), 1, s)[0].begin == 2 * EPOCH
    )
    first = verified(copy, count=1, seed=seed).first
    assert first is not None
    assert (first.step, first.what) == (2 * EPOCH, "the tensors after step 14")
    assert first.tensor == "dense2.b"


def test_resumed_and_prolonged_runs(data: Path, tmp_path: Path) -> None:
    out = epochs(data, tmp_path / "run", schedule="cosine")
    resumed(out, epochs=4)
    history = read_history(out)
    assert [(first, e.epochs) for first, e in history.phases] == [(0, 2), (2 * EPOCH, 4)]
    assert verified(out).same
    again = epochs(data, tmp_path / "again", 4, schedule="cosine")
    assert read_history(again).told != history.told, "else there was nothing to test"
    resumed(out)  # with nothing to do, and nothing changed
    resumed(out, epochs=5)
    assert [first for first, _ in read_history(out).phases] == [0, 2 * EPOCH, 4 * EPOCH]
    assert verified(out).same


def test_nothing_is_recorded_where_more_steps_change_none(data: Path, tmp_path: Path) -> None:
    out = epochs(data, tmp_path / "run", 1)
    records = resumed(out, epochs=2).records
    assert not any(isinstance(each, ProlongedRecord) for each in records)
    assert verified(out).same


def test_early_stopping(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    experiment = {
        "dataset": str(data), "model": "mlp:20-30-3", "validation": 0.3, "patience": 1,
        "lr": 0.02, "seed": 3, "steps": None, "epochs": 20,
    }  # fmt: skip
    end = end_of(run(experiment, out, workers=2, keep_checkpoints=True).records)
    assert end is not None
    assert end.best_step < end.step
    found = verified(out)
    assert found.same
    assert found.windows[-1].window.end == end.step
    resumed(out, patience=3)
    assert verified(out).same


def test_kept_checkpoints_that_will_be_done_again_are_removed(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    experiment = {
        "dataset": str(data), "model": "mlp:20-30-3", "validation": 0.3, "patience": 1,
        "lr": 0.02, "seed": 3, "steps": None, "epochs": 20, "schedule": "cosine",
    }  # fmt: skip
    end = run(experiment, out, workers=1, keep_checkpoints=True).end
    assert end is not None
    assert (out / "checkpoints" / f"epoch-{int(end.epoch):04}.safetensors").is_file()
    resumed(out, patience=2, epochs=30)
    assert verified(out).same


def test_saved_weights_to_begin_with(three: Path, data: Path, tmp_path: Path) -> None:
    start = Path(shutil.copytree(three, tmp_path / "start"))
    out = epochs(data, tmp_path / "run", init_from=str(start), freeze=["dense1"], workers=2)
    assert verified(out).same
    shutil.rmtree(start)
    assert verified(out).same, "the run has kept what it began with"
    (out / "initial.safetensors").unlink()
    with pytest.raises(RunFolderError, match="there is no such run"):
        verified(out)


def test_other_data_are_refused(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "own.npz")
    out = epochs(data, tmp_path / "run", 1)
    write_dataset(data, rows=138)
    with pytest.raises(DataError, match="is not what the experiment was recorded with"):
        verified(out)


def test_a_stopped_run_and_records_behind_its_checkpoint(data: Path, tmp_path: Path) -> None:
    out = epochs(data, tmp_path / "run", keep_checkpoints=True)
    shutil.copy(
        out / "checkpoints" / "epoch-0001.safetensors", out / "checkpoints/last.safetensors"
    )
    (out / "checkpoints" / "epoch-0002.safetensors").unlink()
    found = verified(out)
    assert found.same
    assert found.windows[-1].window.name.endswith("to end of the records")


def test_a_checkpoint_of_another_network(copy: Path, data: Path, tmp_path: Path) -> None:
    other = epochs(data, tmp_path / "other", 1, model="mlp:20-8-3")
    shutil.copy(other / "checkpoints" / "last.safetensors", copy / "checkpoints/best.safetensors")
    first = verified(copy).first
    assert first is not None
    assert "the checkpoint is of another network" in first.problem


def test_a_re_execution_that_diverges(copy: Path) -> None:
    file = copy / "experiment.toml"
    file.write_text(file.read_text().replace("lr = 0.001", "lr = 1e30"))
    found = verified(copy)
    assert [each.same for each in found.windows] == [False, False, False]
    assert found.first is not None
    assert found.first.what == "the tensors after step 1"
    problems = [check.problem for each in found.windows for check in each.checks]
    assert any("not finite" in each for each in problems), problems


def test_data_that_were_damaged_when_a_run_was_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("DPTRAIN_CACHE", str(cache))
    sound = epochs(data, tmp_path / "sound")
    (folder,) = cache.iterdir()
    rot(folder / "x_train.npy")
    damaged = epochs(data, tmp_path / "damaged")
    with pytest.warns(DamageWarning, match=r"x_train\.npy: its bytes are not"):
        assert not verified(damaged).same
    assert verified(sound).same
