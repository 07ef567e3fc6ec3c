"""How runs end: deaths, signals, resumption. Real processes throughout."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dptrain.checkpoint.checkpoint import load_checkpoint
from tests.commands import (
    DEADLINE,
    dptrain,
    finish,
    free_address,
    records,
    result,
    start,
    steps_logged,
    wait_until,
    workers_of,
)
from tests.exchange.build import WITH_WORKERS
from tests.sessions import write_dataset

ENDLESS = ("--epochs", 100000, "--log-every", 1)
EPOCH = ("epoch", "step", "train_loss", "test_accuracy", "digest")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    data = write_dataset(tmp_path_factory.mktemp("data") / "small.npz")
    return ("--dataset", data, "--model", "mlp:20-7-3", "--batch-size", 20)


@pytest.mark.parametrize("exchange", WITH_WORKERS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_ends_the_run_and_its_last_step_is_saved(
    number: signal.Signals, exchange: str, job: tuple[object, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start("train", *job, *ENDLESS, "--exchange", exchange, "--out", run)
    wait_until(lambda: steps_logged(run) > 3, process)
    os.kill(workers_of(process)[1].pid, number)
    code, _, err = finish(process)
    assert code == 6
    assert "rank 1 (pid" in err
    assert f"was killed by {number.name}" in err
    assert "rank-1.log" in err
    assert "Traceback" not in err
    assert "dptrain train --resume" in err
    saved = re.search(r"step (\d+) is saved", err)
    assert saved
    steps = ("--steps", saved[1])
    complete = result("train", *job, *steps, "--workers", 1, "--out", tmp_path / "whole")
    assert load_checkpoint(run / "checkpoints" / "last.safetensors").digest == complete["digest"]


def test_a_worker_killed_while_joining(job: tuple[object, ...], tmp_path: Path) -> None:
    process = start("train", *job, "--out", tmp_path / "run")
    wait_until(lambda: len(workers_of(process)) == 2, process)
    os.kill(workers_of(process)[0].pid, signal.SIGKILL)
    code, _, err = finish(process)
    assert code == 6
    assert "rank 0" in err
    assert "SIGKILL" in err


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_a_silent_worker_is_given_up(
    exchange: str, job: tuple[object, ...], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ways = ("--exchange", exchange, "--worker-timeout", 1.5)
    process = start("train", *job, *ENDLESS, "--out", run, *ways)
    wait_until(lambda: steps_logged(run) > 3, process)
    os.kill(workers_of(process)[0].pid, signal.SIGSTOP)
    code, _, err = finish(process)
    assert code == 6
    assert "rank 0 has not been heard of for " in err  # longer than 1.5 s where steps took long
    assert "its process is stopped, as by kill -STOP; if that may take so long, raise --w" in err


@pytest.mark.parametrize(
    ("number", "expected", "exchange"),
    [(signal.SIGINT, 130, "shared"), (signal.SIGTERM, 143, "shared"), (signal.SIGINT, 130, "star")],
)
def test_a_signal_stops_cleanly_and_the_run_goes_on(
    number: signal.Signals, expected: int, exchange: str, job: tuple[object, ...], tmp_path: Path
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    length = ("--epochs", 30, "--log-every", 1)
    complete = result("train", *job, *length, "--workers", 1, "--out", whole)
    process = start("train", *job, *length, "--exchange", exchange, "--out", run)
    wait_until(lambda: steps_logged(run) > 10, process)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == expected, err
    assert "Traceback" not in err
    assert f"--resume {run}" in out
    resumed = result("train", "--resume", run, "--workers", 3)
    assert resumed["digest"] == complete["digest"]
    assert records(run, "epoch", EPOCH) == records(whole, "epoch", EPOCH)
    assert records(run, "step", ("step", "loss")) == records(whole, "step", ("step", "loss"))


def test_a_killed_coordinator_leaves_no_worker_and_can_be_resumed(
    job: tuple[object, ...], tmp_path: Path
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    length = ("--epochs", 60, "--log-every", 1, "--checkpoint-every", 5)
    complete = result("train", *job, *length, "--workers", 1, "--out", whole)
    process = start("train", *job, *length, "--out", run)
    wait_until(lambda: steps_logged(run) > 20, process)
    workers = workers_of(process)
    process.kill()
    finish(process)
    for worker in workers:
        worker.wait(timeout=DEADLINE)
    resumed = result("train", "--resume", run)
    assert resumed["digest"] == complete["digest"]
    assert records(run, "epoch", EPOCH) == records(whole, "epoch", EPOCH)


def test_a_finished_run_can_be_resumed_and_prolonged(
    job: tuple[object, ...], tmp_path: Path
) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    first = result("train", *job, "--epochs", 2, "--workers", 1, "--out", short)
    again = result("train", "--resume", short)
    assert again["digest"] == first["digest"]
    assert again["test_accuracy"] == first["test_accuracy"]
    prolonged = result("train", "--resume", short, "--epochs", 4)
    complete = result("train", *job, "--epochs", 4, "--workers", 1, "--out", long)
    assert prolonged["digest"] == complete["digest"]


def test_a_worker_started_by_hand(job: tuple[object, ...], tmp_path: Path) -> None:
    run, key = tmp_path / "run", tmp_path / "run" / "worker.key"
    address = free_address()
    alone = result("train", *job, "--epochs", 3, "--workers", 1, "--out", tmp_path / "alone")
    coordinator = start(
        "train", *job, "--epochs", 3, "--join", 1, "--listen", address, "--out", run, "--json"
    )
    wait_until(lambda: key.exists() and bool(key.read_text().strip()), coordinator)
    assert key.stat().st_mode & 0o077 == 0
    wrong = tmp_path / "wrong.key"
    wrong.write_text("00" * 32)
    wrong.chmod(0o600)
    refused = dptrain("worker", "--connect", address, "--key", wrong)
    assert refused.returncode == 6
    assert "does not hold the key" in refused.stderr
    garbage = socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])))
    garbage.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    worker = start("worker", "--connect", address, "--key", key)
    code, out, err = finish(coordinator)
    garbage.close()
    assert code == 0, err
    assert alone["digest"] in out
    assert f"dptrain worker --connect {address} --key {key}" in err
    assert finish(worker)[0] == 0
    assert not key.exists()


def test_a_worker_started_by_hand_that_goes_away(job: tuple[object, ...], tmp_path: Path) -> None:
    run, key = tmp_path / "run", tmp_path / "run" / "worker.key"
    address = free_address()
    coordinator = start("train", *job, *ENDLESS, "--join", 1, "--listen", address, "--out", run)
    wait_until(lambda: key.exists() and bool(key.read_text().strip()), coordinator)
    worker = start("worker", "--connect", address, "--key", key)
    wait_until(lambda: steps_logged(run) > 3, coordinator)
    worker.kill()
    finish(worker)
    code, _, err = finish(coordinator)
    assert code == 6
    assert "rank 1 has closed its connection" in err


RAISES = """
def forward(self, found):
    raise ZeroDivisionError("one too many")

rank.Rank.forward = forward
"""
DIFFERS = """
shell.fingerprint = lambda: "another"
"""
FIRST = """
import sys
from pathlib import Path
from dptrain.exchange import rank
from dptrain.worker import shell
"""
LAST = """
key = bytes.fromhex(Path(sys.argv[2]).read_text())
sys.exit(shell.WorkerShell(shell.Connection(sys.argv[1], key)).run())
"""


def by_hand(change: str, address: str, key: Path) -> "subprocess.CompletedProcess[str]":
    """Run a worker in whose program something is changed."""
    return subprocess.run(
        [sys.executable, "-c", FIRST + change + LAST, address, str(key)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_worker_that_raises(job: tuple[object, ...], tmp_path: Path) -> None:
    run, key = tmp_path / "run", tmp_path / "run" / "worker.key"
    address = free_address()
    coordinator = start("train", *job, *ENDLESS, "--join", 1, "--listen", address, "--out", run)
    wait_until(lambda: key.exists() and bool(key.read_text().strip()), coordinator)
    worker = by_hand(RAISES, address, key)
    code, _, err = finish(coordinator)
    assert code == 6
    assert "rank 1 raised ZeroDivisionError: one too many in step 1" in err
    assert "in forward" in err
    assert worker.returncode == 6
    assert "ZeroDivisionError: one too many" in worker.stderr


def test_a_worker_whose_arithmetic_differs_is_refused(
    job: tuple[object, ...], tmp_path: Path
) -> None:
    run, key = tmp_path / "run", tmp_path / "run" / "worker.key"
    address = free_address()
    coordinator = start("train", *job, *ENDLESS, "--join", 1, "--listen", address, "--out", run)
    wait_until(lambda: key.exists() and bool(key.read_text().strip()), coordinator)
    refused = by_hand(DIFFERS, address, key)
    assert refused.returncode == 6
    assert "its arithmetic differs" in refused.stderr
    coordinator.send_signal(signal.SIGINT)
    assert finish(coordinator)[0] == 130


def test_two_coordinators_never_share_a_run(job: tuple[object, ...], tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("train", *job, *ENDLESS, "--checkpoint-every", 1, "--out", run)
    wait_until((run / "checkpoints" / "last.safetensors").exists, process)
    second = dptrain("train", "--resume", run)
    assert second.returncode == 1
    assert str(process.pid) in second.stderr
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130


def test_a_taken_port_is_named(job: tuple[object, ...], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = dptrain("train", *job, "--listen", address, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert f"cannot listen on {address}: address already in use" in done.stderr


def test_only_loopback_is_listened_on(job: tuple[object, ...], tmp_path: Path) -> None:
    done = dptrain("train", *job, "--listen", "tcp://0.0.0.0:5555", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "beyond this machine" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_key_is_in_no_argument_list(job: tuple[object, ...], tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("train", *job, *ENDLESS, "--out", run)
    wait_until(lambda: steps_logged(run) > 1, process)
    for worker in workers_of(process):
        assert worker.cmdline()[1:] == ["-P", "-m", "dptrain.worker"]
        assert not any("KEY" in name.upper() and "DPT" in name for name in worker.environ())
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
