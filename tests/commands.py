"""Running the real command line, and waiting for what it does without sleeping blindly."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

DEADLINE = 60.0


def command(*arguments: object) -> list[str]:
    """Return the command line of a verb."""
    return [sys.executable, "-P", "-m", "dptrain.cli", *map(str, arguments)]


def dptrain(*arguments: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end; with settings of `subprocess.run` in a process that is not forked."""
    if _forker is not None and not settings:
        return _forked(_forker, [*map(str, arguments)])
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        stdin=subprocess.DEVNULL,
        **settings,
    )


def _forked(control: socket.socket, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    request = json.dumps([arguments, dict(os.environ), str(Path.cwd())]).encode()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        socket.send_fds(control, [request], [out.fileno(), err.fileno()])
        pid = int(control.recv(32))
        try:
            code = int(control.recv(32))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            control.recv(32)
            raise
        text = [
            os.pread(each.fileno(), os.fstat(each.fileno()).st_size, 0).decode()
            for each in (out, err)
        ]
    return subprocess.CompletedProcess(arguments, code, *text)


_forker: socket.socket | None = None


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Have verbs forked in the block, by a process that is nobody's child, and so no leak."""
    global _forker
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        script = Path(__file__).with_name("forking.py")
        line = [sys.executable, "-P", str(script), str(theirs.fileno())]
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *line],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            check=True,
        )
        theirs.close()
        ours.settimeout(DEADLINE)
        _forker = ours
        try:
            yield
        finally:
            _forker = None
            ours.shutdown(socket.SHUT_WR)
            ours.recv(1)


def result(*arguments: object) -> dict[str, Any]:
    """Run a verb with --json; return its result."""
    done = dptrain(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def start(*arguments: object) -> "subprocess.Popen[str]":
    """Start a verb."""
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for a started verb; return exit code, output and messages."""
    out, err = process.communicate(timeout=DEADLINE)
    return process.returncode, out, err


def wait_until(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something has happened, while the process lives."""
    deadline = time.monotonic() + DEADLINE
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def free_address() -> str:
    """Return a loopback address that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


def steps_logged(run: Path) -> int:
    """Return how many steps a run's metrics tell of."""
    metrics = run / "metrics.jsonl"
    return metrics.read_text().count('"kind":"step"') if metrics.exists() else 0


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Return the worker processes of a coordinator, by rank."""
    return sorted(psutil.Process(process.pid).children(), key=lambda worker: worker.pid)


def records(run: Path, kind: str, keys: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return some values of a run's records of one kind."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [tuple(line[key] for key in keys) for line in lines if line["kind"] == kind]
