"""Signals beside Ctrl-C and SIGTERM save what there is; so does a terminal that is closed."""

import contextlib
import fcntl
import os
import pty
import signal
import subprocess
import termios
from pathlib import Path
from typing import Any

import psutil
import pytest

from dptrain.coordinator.signals import StopSignal, stop_on_signals
from dptrain.errors import Interrupted
from tests.commands import DEADLINE, command, finish, start, steps_logged, wait_until, workers_of
from tests.sessions import run, write_dataset


@pytest.fixture
def job(tmp_path: Path) -> tuple[object, ...]:
    data = write_dataset(tmp_path / "small.npz")
    model = ("--model", "mlp:20-7-3", "--batch-size", 20, "--log-every", 1)
    return ("train", "--dataset", data, *model, "--epochs", 100000, "--out", tmp_path / "run")


def test_a_hang_up_ends_as_a_termination(job: tuple[object, ...], tmp_path: Path) -> None:
    process = start(*job)
    wait_until(lambda: steps_logged(tmp_path / "run") > 3, process)
    process.send_signal(signal.SIGHUP)
    code, out, err = finish(process)
    assert code == 129, err
    assert f"dptrain train --resume {tmp_path / 'run'}" in out


@pytest.mark.parametrize(
    ("number", "told"), [("SIGTERM", "all"), ("SIGUSR2", "all"), ("SIGXCPU", "a worker")]
)
def test_signals_to_a_whole_job(
    number: str, told: str, job: tuple[object, ...], tmp_path: Path
) -> None:
    """Batch systems and service managers signal every process; CPU time is each one's own."""
    process = start(*job)
    wait_until(lambda: steps_logged(tmp_path / "run") > 3, process)
    rest = [*workers_of(process)[1:], psutil.Process(process.pid)] if told == "all" else []
    for each in (workers_of(process)[0], *rest):
        each.send_signal(signal.Signals[number])
    code, out, err = finish(process)
    assert code == 128 + signal.Signals[number], err
    assert f"stopped by {number}" in out
    assert f"dptrain train --resume {tmp_path / 'run'}" in out


def test_a_closed_terminal(job: tuple[object, ...], tmp_path: Path) -> None:
    """Its process gets SIGHUP, and an error for every byte that it writes from then on."""
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command(*job, "--workers", 1),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        text=True,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    wait_until(lambda: read(ours) and steps_logged(tmp_path / "run") > 3, process)
    os.close(ours)
    assert process.wait(DEADLINE) == 129
    assert (tmp_path / "run" / "checkpoints" / "last.safetensors").exists()


def read(descriptor: int) -> bool:
    """Read what there is, lest the terminal be full."""
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 1 << 16)
    return True


@pytest.mark.parametrize(
    ("numbers", "code", "ends_at_once"),
    [
        ((signal.SIGHUP, signal.SIGHUP), 129, False),
        ((signal.SIGTERM, signal.SIGHUP), 143, False),
        ((signal.SIGHUP, signal.SIGTERM), 129, False),
        ((signal.SIGUSR1,), 138, False),
        ((signal.SIGUSR2,), 140, False),
        ((signal.SIGXCPU, signal.SIGXCPU), 152, False),
        ((signal.SIGINT, signal.SIGINT), 130, True),
        ((signal.SIGHUP, signal.SIGTERM, signal.SIGINT), 129, True),
    ],
)
def test_signals_that_come_together(
    numbers: tuple[signal.Signals, ...], code: int, ends_at_once: bool
) -> None:
    with stop_on_signals() as stop:
        try:
            for number in numbers:
                signal.raise_signal(number)
        except KeyboardInterrupt:
            assert ends_at_once
        else:
            assert not ends_at_once
        assert (stop(), stop.exit_code) == (True, code)


def test_a_signal_that_somebody_has_decided_of_stays_theirs() -> None:
    """Under nohup, or in a program that requeues its job at SIGUSR2."""
    came: list[int] = []
    theirs: dict[int, Any] = {
        signal.SIGHUP: signal.SIG_IGN,
        signal.SIGUSR2: lambda number, _: came.append(number),
    }
    before = {number: signal.signal(number, handler) for number, handler in theirs.items()}
    try:
        with stop_on_signals() as stop:
            for number in theirs:
                signal.raise_signal(number)
            assert not stop()
        assert came == [signal.SIGUSR2]
        assert {number: signal.getsignal(number) for number in theirs} == theirs
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_run_that_is_stopped_while_it_joins_says_by_what(tmp_path: Path) -> None:
    stop = StopSignal()
    stop.receive(signal.SIGTERM)
    data = {"dataset": str(write_dataset(tmp_path / "small.npz"))}
    with pytest.raises(Interrupted) as raised:
        run(data, tmp_path / "run", stop=stop, workers=2)
    assert raised.value.exit_code == 143
