"""Workers that are forked begin as those that are started, and are children of this process too."""

import ctypes
import json
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dptrain.launch.fork_server import ForkServer, fork_server
from dptrain.launch.local import Inheritance, LocalWorker, Program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all are started")


@pytest.fixture
def inherited() -> Inheritance:
    """What a worker of the shared exchange inherits: here, memory that says something."""
    found = Inheritance(1, "events")
    assert found.memory is not None
    os.pwrite(found.memory.descriptor, b"shared", 0)
    return found


def run(program: Program, log: Path, inherited: Inheritance) -> tuple[dict[str, Any], str]:
    """Return what a worker tells, and how it ended."""
    worker = LocalWorker(0, log, inherited, program)
    stdin = worker._process.stdin
    assert stdin is not None
    stdin.write(b"an order\n")
    stdin.flush()
    assert select.select([worker.pidfd], [], [], 30.0)[0]
    how = worker.how()[0].replace(str(worker.pid), "PID")
    assert worker.ended()
    worker.release()
    said = log.read_text()
    assert said.count("\n") == 1, said
    return json.loads(said), how


def program(code: int, *descriptors: int) -> Sequence[str]:
    return "-m", "tests.launch.told", str(code), *map(str, descriptors)


def is_subreaper() -> int:
    found = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(found))
    return found.value


def test_a_forked_worker_finds_what_a_started_one_finds(
    tmp_path: Path, inherited: Inheritance
) -> None:
    assert inherited.memory is not None
    told = program(3, inherited.memory.descriptor)
    started, how_started = run(told, tmp_path / "started", inherited)
    with fork_server(told) as forks:
        assert isinstance(forks, ForkServer)
        forked, how_forked = run(forks, tmp_path / "forked", inherited)
    with fork_server(told[:2]) as forks:
        assert isinstance(forks, ForkServer)
        given, how_given = run(forks.given(*told[2:]), tmp_path / "given", inherited)
    inherited.close()
    for found in (started, forked, given):
        del found["drawn"], found["hash"]
    assert forked == given == started
    assert forked["read"] == ["shared"]
    assert forked["parent"] == os.getpid()
    assert how_forked == how_given == how_started == "(pid PID) ended with exit code 3"


def test_every_worker_draws_for_itself(tmp_path: Path, inherited: Inheritance) -> None:
    with fork_server(program(0)) as forks:
        drawn = [run(forks, tmp_path / str(i), inherited)[0]["drawn"] for i in range(3)]
    inherited.close()
    assert len(set(drawn)) == 3


def test_a_worker_hashes_otherwise_than_this_process(
    tmp_path: Path, inherited: Inheritance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So what depends on the order of a set of strings shows, though all workers have one order."""
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with fork_server(program(0)) as forks:
        told, _ = run(forks, tmp_path / "log", inherited)
    inherited.close()
    assert told["hash"] != hash("dptrain")


def test_a_worker_outlives_its_nursery(tmp_path: Path, inherited: Inheritance) -> None:
    assert not is_subreaper()
    with fork_server(program(0)) as forks:
        assert is_subreaper()
        worker = LocalWorker(0, tmp_path / "log", inherited, forks)
    assert not is_subreaper()
    assert not worker.ended()
    worker.release()
    inherited.close()


@pytest.mark.parametrize("missing", ["tests.launch.not_there", "not_there.at_all"])
def test_what_cannot_be_imported_is_started_and_says_so_in_its_log(
    tmp_path: Path, inherited: Inheritance, missing: str
) -> None:
    with fork_server(("-m", missing)) as forks:
        workers = [LocalWorker(r, tmp_path / str(r), inherited, forks) for r in range(2)]
    for worker in workers:
        assert select.select([worker.pidfd], [], [], 30.0)[0]
        assert worker.how()[0].endswith("ended with exit code 1")
        worker.release()
        assert missing.split(".")[0] in (tmp_path / str(worker.rank)).read_text()
    inherited.close()


def test_code_on_the_command_line_is_started(tmp_path: Path, inherited: Inheritance) -> None:
    code = ("-c", "import sys; sys.exit(5)")
    with fork_server(code) as program:
        assert program == code
        worker = LocalWorker(0, tmp_path / "log", inherited, program)
    assert select.select([worker.pidfd], [], [], 30.0)[0]
    assert worker.how()[0].endswith("ended with exit code 5")
    worker.release()
    inherited.close()
