"""Whatever happens while a file is written, the old one or the new one is there, whole."""

import contextlib
import errno
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dptrain.checkpoint.atomic import atomic_write, sweep_temporaries
from dptrain.errors import RunFolderError

OLD = b"the old content"

# Pauses where argv[2] says, for its parent to kill it there: it never goes on by itself.
CHILD = """
import os, sys
from pathlib import Path
from dptrain.checkpoint.atomic import atomic_write

def pause(*_):
    os.write(1, b"paused")
    sys.stdin.read()

class Pieces(list):
    def __iter__(self):
        yield self[0]
        if where == "between pieces":
            pause()
        yield self[1]

def before(function, call):
    calls = []
    def replacement(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            pause()
        return function(*arguments)
    return replacement

path, where = Path(sys.argv[1]), sys.argv[2]
if where == "before fsync":
    os.fsync = before(os.fsync, 1)
elif where == "before rename":
    os.replace = before(os.replace, 1)
elif where == "after rename":
    os.fsync = before(os.fsync, 2)
atomic_write(path, Pieces([b"x" * 100_000, b"y" * 100_000]))
"""


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Make the system refuse to write beyond ``size``, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, OLD)
    assert path.read_bytes() == OLD
    atomic_write(path, [b"ne", bytearray(b"w"), memoryview(b"est")])
    assert path.read_bytes() == b"newest"
    atomic_write(path, b"")
    assert path.read_bytes() == b""
    assert names(tmp_path) == ["file"]


def test_the_file_is_durable_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").resolve()
        calls.append("fsync folder" if target == tmp_path else f"fsync {target.stat().st_size}")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    atomic_write(path, b"12345")
    assert calls == ["fsync 5", "rename", "fsync folder"]


@pytest.mark.parametrize(
    ("where", "whole"),
    [
        ("between pieces", OLD),
        ("before fsync", OLD),
        ("before rename", OLD),
        ("after rename", b"x" * 100_000 + b"y" * 100_000),
    ],
)
def test_killed_while_writing(tmp_path: Path, where: str, whole: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    command = [sys.executable, "-c", CHILD, str(path), where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(6) == b"paused"
        if whole is OLD:
            sweep_temporaries(tmp_path)
            assert len(names(tmp_path)) == 2, "a living writer's temporary file was swept away"
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert path.read_bytes() == whole
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == ["file"]


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    with largest_file(50_000), pytest.raises(RunFolderError) as caught:
        atomic_write(path, [bytes(30_000), bytes(30_000)])
    assert str(caught.value) == (
        f"{path}: cannot write 60,000 bytes: File too large; "
        "free some space, or write to a folder on another disk"
    )
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("below", "message"),
    [
        ("file/x", "Not a directory; make the folder first, or choose another"),
        ("missing/x", "No such file or directory; make the folder first, or choose another"),
        ("folder", "Is a directory; choose another"),
        ("n" * 255, "File name too long; choose another"),
    ],
)
def test_where_nothing_can_be_written(tmp_path: Path, below: str, message: str) -> None:
    (tmp_path / "file").write_bytes(OLD)
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunFolderError, match=re.escape(message)):
        atomic_write(tmp_path / below, b"new")
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == OLD


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "make the folder writable"),
        (errno.EROFS, "make the folder writable"),
        (errno.EIO, "whether its disk is sound"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_call_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, remedy: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)
    monkeypatch.setattr(os, call, failing(number))
    with pytest.raises(RunFolderError, match=remedy):
        atomic_write(path, b"new")
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


def test_ctrl_c_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, b"new")
    assert path.read_bytes() == OLD
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_cannot_sync_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    expected = (
        pytest.raises(RunFolderError, match="Input/output error")
        if number == errno.EIO
        else contextlib.nullcontext()
    )
    with expected:
        atomic_write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_sweeping_spares_everything_else(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    alive = f".file.{os.getppid()}.tmp"
    kept = ["file", "file.123.tmp", ".file.tmp", ".file.12x.tmp", ".file.123.tmp.bak", alive]
    gone = [f".file.{ended.pid}.tmp", f".a.b.{ended.pid}.tmp", f".file.{os.getpid()}.tmp"]
    for name in kept + gone:
        (tmp_path / name).touch()
    sweep_temporaries(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_sweeping_costs_nothing_where_it_fails(tmp_path: Path) -> None:
    sweep_temporaries(tmp_path / "missing")
    (tmp_path / f".folder.{os.getpid()}.tmp").mkdir()
    sweep_temporaries(tmp_path)


def failing(number: int) -> Callable[..., None]:
    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call
