"""What is left of a run, or of a worker, is told as it is, with the way to go on."""

import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dptrain as package
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dptrain.data.prepared import prepare
from dptrain.errors import CheckpointError, Interrupted
from dptrain.runfolder import RunFolder
from dptrain.trained import load_run
from tests.audit.runs import epochs, resumed
from tests.commands import command, dptrain, finish, start, steps_logged, wait_until, workers_of
from tests.sessions import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


def ignoring_children(*arguments: object) -> list[str]:
    """Return the command of a verb whose parent ignores SIGCHLD, as some service managers do."""
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
    return [
        sys.executable,
        "-c",
        code + "os.execv(sys.argv[1], sys.argv[1:])",
        *command(*arguments),
    ]


def test_children_that_the_system_reaps_itself(data: Path, tmp_path: Path) -> None:
    job = ("--dataset", data, "--model", "mlp:20-7-3", "--workers", 2, "--no-curves")
    whole = ignoring_children("train", *job, "--steps", 9, "--out", tmp_path / "whole")
    done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    endless = ("--epochs", 100_000, "--log-every", 1, "--out", tmp_path / "run")
    process = subprocess.Popen(
        ignoring_children("train", *job, *endless),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: steps_logged(tmp_path / "run") > 3, process)
    os.kill(workers_of(process)[0].pid, signal.SIGKILL)
    code, _, told = finish(process)
    assert code == 6, told
    assert "ended, and nothing tells how (SIGCHLD is ignored?)" in told
    assert "is saved; continue with: " in told
    assert "Traceback" not in told


def test_a_damaged_last_tells_how_to_go_on_from_the_best(data: Path, tmp_path: Path) -> None:
    whole, run = epochs(data, tmp_path / "whole", 3), epochs(data, tmp_path / "run", 3)
    folder = RunFolder.open(run)
    step = load_checkpoint(folder.best).step
    with folder.last.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    done = dptrain("train", "--resume", run)
    assert done.returncode == 1
    told, _, way = done.stderr.strip().rpartition(f"of step {step}: ")
    assert "its checksum does not match its content" in told
    subprocess.run(way.split(), check=True)
    assert resumed(run).digest == load_checkpoint(RunFolder.open(whole).last).digest


def test_weights_and_state_that_are_not_finite(data: Path, tmp_path: Path) -> None:
    run = epochs(data, tmp_path / "run", 1)
    last = RunFolder.open(run).last
    saved = load_checkpoint(last)

    def changed(**parts: object) -> Checkpoint:
        return replace(saved, **parts)  # type: ignore[arg-type]

    slots = {name: np.full_like(value, np.nan) for name, value in saved.optimizer.items()}
    save_checkpoint(last, changed(optimizer=slots))
    load_run(run)
    with pytest.raises(CheckpointError, match=r"optimizer state .* holds an infinity or NaN"):
        resumed(run, epochs=2)
    tensors = {name: np.full_like(value, np.inf) for name, value in saved.tensors.items()}
    save_checkpoint(last, changed(tensors=tensors))
    with pytest.raises(CheckpointError, match=r"checkpoint's dense1\.W holds an infinity or NaN"):
        load_run(run)


def test_too_few_open_files_say_nothing_of_the_cache(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare(str(data), dtype="float32")
    before = sorted(folder.iterdir())

    def none_left(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("dptrain.data.folder.np.load", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        prepare(str(data), dtype="float32")
    assert sorted(folder.iterdir()) == before


def test_killed_in_its_first_second_it_can_be_begun_again(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = ("train", "--dataset", data, "--model", "mlp:20-7-3", "--no-curves", "--out", run)
    process = start(*job, "--epochs", 100_000)
    wait_until(lambda: (run / "rank-1.log").exists(), process)
    process.kill()
    finish(process)
    assert not (run / "checkpoints" / "last.safetensors").exists()
    assert dptrain("train", "--resume", run).returncode == 1
    done = dptrain(*job, "--steps", 9)
    assert done.returncode == 0, done.stderr
    assert dptrain("verify", run).returncode == 0


def test_stopped_while_it_joins_fit_raises_what_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr("dptrain.coordinator.run.start_engine", stopped)
    x = np.random.default_rng(0).standard_normal((30, 4))
    network = package.Network((4,), [package.Dense(2)])
    with pytest.raises(KeyboardInterrupt, match="stopped before the first step"):
        package.fit(network, (x, np.arange(30) % 2), out=tmp_path / "run", progress=False)
