"""A run that was stopped for longer than --worker-timeout goes on, with its workers or alone."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import finish, free_address, start, steps_logged, wait_until, workers_of
from tests.sessions import write_dataset

TIMEOUT, STOPPED = 2.0, 3.0

Process = subprocess.Popen[str]


def begun(tmp_path: Path, *ways: object) -> Process:
    """Start a run that does not end by itself."""
    data = write_dataset(tmp_path / "small.npz")
    job = ("--dataset", data, "--model", "mlp:20-7-3", "--log-every", 1, "--epochs", 100000)
    return start("train", *job, *ways, "--worker-timeout", TIMEOUT, "--out", tmp_path / "run")


def stop(pids: list[int]) -> None:
    """Stop processes, and let them go on."""
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(STOPPED)  # what is tested


def goes_on(process: Process, run: Path) -> None:
    before = steps_logged(run)
    wait_until(lambda: steps_logged(run) > before + 3, process)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err


@pytest.mark.parametrize(("who", "exchange"), [("coordinator", "shared"), ("all", "star")])
def test_it_goes_on(who: str, exchange: str, tmp_path: Path) -> None:
    process, run = begun(tmp_path, "--exchange", exchange), tmp_path / "run"
    wait_until(lambda: steps_logged(run) > 3, process)
    workers = [each.pid for each in workers_of(process)]
    stop([process.pid, *(workers if who == "all" else [])])
    goes_on(process, run)


def joined(tmp_path: Path) -> tuple[Process, Process]:
    """Return a run with a worker that was started by hand, and the worker."""
    address, run = free_address(), tmp_path / "run"
    process, key = begun(tmp_path, "--join", 1, "--listen", address), run / "worker.key"
    wait_until(lambda: key.exists() and bool(key.read_text().strip()), process)
    worker = start("worker", "--connect", address, "--key", key)
    wait_until(lambda: steps_logged(run) > 3, process)
    return process, worker


def test_a_worker_started_by_hand_waits_for_a_coordinator_that_is_stopped(tmp_path: Path) -> None:
    process, worker = joined(tmp_path)
    stop([process.pid])
    goes_on(process, tmp_path / "run")
    assert finish(worker)[0] == 0


def test_a_worker_started_by_hand_leaves_one_that_is_no_more(tmp_path: Path) -> None:
    process, worker = joined(tmp_path)
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    code, _, err = finish(worker)
    assert code == 6
    assert "the coordinator has closed the connection" in err
