"""Limits of the operating system are met with another way or one message; never with a verdict."""

import errno
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from dptrain import scratch
from dptrain.cli.__main__ import main
from dptrain.errors import ResourceError, UnsuitableError, machine_limit
from dptrain.launch import descriptors
from dptrain.scratch import SOCKET_PATH, socket_folder
from tests.exchange.build import WITH_WORKERS
from tests.sessions import run, write_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "small.npz")


@pytest.fixture
def far_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files lie where no socket can be."""
    folder = tmp_path / ("scratch-of-a-project-" * 6)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_a_run_whose_temporary_files_lie_deep(
    exchange: str, far_away: Path, data: Path, tmp_path: Path
) -> None:
    whole = run({"dataset": str(data)}, tmp_path / "whole", workers=1)
    deep = run({"dataset": str(data)}, tmp_path / "deep", workers=2, exchange=exchange)
    assert deep.digest == whole.digest


def test_another_verb_whose_temporary_files_lie_deep(
    far_away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(far_away)
    line = "scaling --dataset iris --model linear --kind strong --workers 1,2 --steps 3 --rounds 1"
    assert main(line.split()) == 0, capsys.readouterr()


def test_without_a_place_for_the_socket_there_is_one_message(
    far_away: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scratch, "SHORT", ())
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(UnsuitableError, match="set TMPDIR to a folder with a short path"):
        socket_folder("test", "coordinator")
    job = ["--dataset", str(data), "--model", "mlp:20-7-3"]
    assert main(["train", *job, "--steps", "2", "--out", str(tmp_path / "run")]) == 2
    assert main(["gradcheck", *job, "--workers", "2", "--exchange", "star"]) == 2
    assert main(["doctor"]) == 3
    told = capsys.readouterr()
    assert told.err.count("set TMPDIR to a folder with a short path") == 2
    assert "set TMPDIR to a folder with a short path" in told.out


def test_a_path_of_the_greatest_length_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = SOCKET_PATH - len(f"/dptrain-test-{os.getpid()}-12345678/coordinator")
    for length, fits in ((room, True), (room + 1, False)):
        with tempfile.TemporaryDirectory(dir="/tmp") as base:
            folder = Path(base) / ("d" * (length - len(base) - 1))
            folder.mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            found = socket_folder("test", "coordinator")
            assert (found.parent == folder) == fits
            found.rmdir()


def test_no_place_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> NoReturn:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(ResourceError, match=r"No usable temporary .*; make room there, or set TMP"):
        scratch.scratch_folder("test")


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
from dptrain.cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_too_few_open_files(data: Path, tmp_path: Path) -> None:
    job = ["train", "--dataset", str(data), "--model", "mlp:20-7-3", "--steps", "2"]
    for workers, code in ((2, 1), (1, 0)):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, *job, "--workers", str(workers)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert ("only 20 are allowed; raise the limit with ulimit -n" in done.stderr) == (code == 1)
        assert "Traceback" not in done.stderr


def test_a_soft_limit_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        descriptors.allow_descriptors(30)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64 + 30
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "x"), "ulimit -n"),
        (BlockingIOError(errno.EAGAIN, "x"), "ulimit -u"),
        (OSError(errno.ENOSPC, "x", "/full"), "(/full); make room"),
        (MemoryError("Unable to allocate 9 TiB"), "too little memory: Unable to allocate 9 TiB"),
        (OSError(errno.ENOENT, "x"), ""),
        (ValueError(), ""),
    ],
)
def test_what_limits_are_said_to_be(error: Exception, words: str) -> None:
    told = machine_limit(error)
    assert words in told
    assert bool(told) == bool(words)
