"""A run that was stopped for longer than --worker-timeout goes on, whoever was stopped."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.commands import finish, start, steps_logged, wait_until, workers_of
from tests.sessions import write_dataset

TIMEOUT, STOPPED = 2.0, 3.0


@pytest.mark.parametrize(("who", "exchange"), [("coordinator", "shared"), ("all", "star")])
def test_it_goes_on(who: str, exchange: str, tmp_path: Path) -> None:
    run, data = tmp_path / "run", write_dataset(tmp_path / "small.npz")
    job = ("--dataset", data, "--model", "mlp:20-7-3", "--log-every", 1, "--epochs", 100000)
    ways = ("--exchange", exchange, "--worker-timeout", TIMEOUT, "--out", run)
    process = start("train", *job, *ways)
    wait_until(lambda: steps_logged(run) > 3, process)
    workers = [each.pid for each in workers_of(process)]
    stopped = [process.pid, *(workers if who == "all" else [])]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in stopped:
            os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(STOPPED)  # what is tested
    before = steps_logged(run)
    wait_until(lambda: steps_logged(run) > before + 3, process)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
