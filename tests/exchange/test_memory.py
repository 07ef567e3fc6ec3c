"""Shared memory without a name, and what happens where there is too little of it."""

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dptrain.errors import ResourceError
from dptrain.exchange.memory import SharedMemory, map_memory
from dptrain.machine.memory import available_memory
from dptrain.scratch import scratch_folder
from tests.commands import DEADLINE, dptrain, finish, start, steps_logged, wait_until, workers_of
from tests.sessions import write_dataset

SHM = Path("/dev", "shm")
READER = """
import mmap, os, sys
memory = mmap.mmap(int(sys.argv[1]), 0)
print(len(memory), memory[:5].decode())
memory[:5] = b"there"
"""


@pytest.mark.parametrize("memfd", [True, False], ids=["memfd", "unlinked file"])
def test_a_child_sees_it_and_nothing_else_does(
    memfd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not memfd:
        monkeypatch.delattr(os, "memfd_create")
    before = set(SHM.iterdir()), set(Path(os.environ["TMPDIR"]).iterdir())
    memory = SharedMemory()
    assert memory.nameless == memfd
    memory.reserve(10_000, "the test")
    mapped = map_memory(memory.descriptor)
    mapped[:5] = b"hello"
    done = subprocess.run(
        [sys.executable, "-c", READER, str(memory.descriptor)],
        pass_fds=[memory.descriptor],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["10000", "hello"]
    assert mapped[:5] == b"there"
    after = set(SHM.iterdir()), set(Path(os.environ["TMPDIR"]).iterdir())
    assert after == before
    memory.close()
    memory.close()
    mapped.close()


def test_a_sealed_size_cannot_be_taken_away() -> None:
    memory = SharedMemory()
    memory.reserve(8192, "the test")
    for size in (0, 4096, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(memory.descriptor, size)
    memory.close()


def test_more_than_there_is_is_refused_with_sizes_and_remedy() -> None:
    memory = SharedMemory()
    size = available_memory() + (1 << 40)
    with pytest.raises(ResourceError, match=rf"the test needs {size >> 20:,} MB .* are free"):
        memory.reserve(size, "the test")
    assert os.fstat(memory.descriptor).st_size == 0
    memory.close()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from dptrain.cli.__main__ import main
sys.argv = ["dptrain", *sys.argv[1:]]
sys.exit(main())
"""


def test_what_the_system_refuses_is_told_before_training(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    job = ("--dataset", str(data), "--model", "mlp:20-900-900-3", "--steps", "3")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "train", *job, "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "the network of 832,503 parameters with 4 shards needs" in done.stderr
    assert "MB of shared memory, but the system refuses: file too large" in done.stderr
    assert "Traceback" not in done.stderr


def descriptors(process: psutil.Process) -> list[str]:
    folder = Path(f"/proc/{process.pid}/fd")
    return [str(each.readlink()) for each in folder.iterdir()]


def test_nothing_is_left_when_everybody_is_killed_at_once(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    run = tmp_path / "run"
    endless = ("--epochs", 100000, "--log-every", 1)
    job = ("--dataset", data, "--model", "mlp:20-7-3", *endless, "--out", run)
    process = start("train", *job)
    wait_until(lambda: steps_logged(run) > 3, process)
    workers = workers_of(process)
    for each in workers:
        assert any("memfd:dptrain" in name for name in descriptors(each))
    for pid in [process.pid, *(each.pid for each in workers)]:
        os.kill(pid, signal.SIGKILL)
    finish(process)
    for each in workers:
        each.wait(timeout=DEADLINE)
    assert not [each for each in SHM.iterdir() if "dptrain" in each.name]
    scratch_folder("ipc").rmdir()  # the next start sweeps the folder of the dead one's socket


def test_a_run_gives_its_memory_back(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    script = f"""
import gc, os, json
from dptrain import api
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
for i in range(2):
    api.train(
        Experiment(dataset={str(data)!r}, model="mlp:20-7-3", steps=5),
        Execution(workers=2), out=f"{tmp_path}/run-{{i}}", progress=False,
    )
gc.collect()
maps = open("/proc/self/maps").read().count("memfd:dptrain")
fds = [os.readlink(f"/proc/self/fd/{{d}}") for d in os.listdir("/proc/self/fd")
       if os.path.exists(f"/proc/self/fd/{{d}}")]
print(json.dumps([maps, sum("memfd:dptrain" in fd for fd in fds)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [0, 0]
    gc.collect()


def test_the_doctor_tells_how_ranks_would_meet() -> None:
    done = dptrain("doctor")
    assert "barrier" in done.stdout
    assert "memfd" in done.stdout
