"""Folders of processes that live are left alone, whether their pids are seen here or not."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dptrain import scratch
from dptrain.scratch import scratch_folder

UNSEEN = 2**30  # above any pid that Linux gives

HOLDS = """
from dptrain.scratch import scratch_folder
print(scratch_folder("test"), flush=True)
input()
"""


def unseen(name: str) -> Path:
    """Make a folder as a process of another PID namespace does."""
    folder = Path(tempfile.gettempdir()) / f"dptrain-test-{UNSEEN}-{name}"
    folder.mkdir()
    (folder / "data").touch()
    return folder


def test_it_is_private_and_held_while_it_is_there() -> None:
    folder = scratch_folder("test")
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)
    held = len(scratch._held)
    for _ in range(3):
        shutil.rmtree(scratch_folder("test"))
    assert len(scratch._held) <= max(1, held), "the locks of removed folders are given up"


def test_what_is_held_stays_and_what_was_left_goes() -> None:
    held, left = unseen("held"), unseen("left")
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    shutil.rmtree(scratch_folder("test"))
    assert not left.exists()
    assert (held / "data").exists()
    os.close(descriptor)
    shutil.rmtree(scratch_folder("test"))
    assert not held.exists()


def test_the_folder_of_another_process_lives_as_long_as_that_does() -> None:
    command = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        name = it.stdout.readline().strip()
        # renamed, so that its pid is not seen
        folder = Path(name).rename(Path(tempfile.gettempdir()) / f"dptrain-test-{UNSEEN}-x")
        shutil.rmtree(scratch_folder("test"))
        assert folder.exists()
        it.kill()
    shutil.rmtree(scratch_folder("test"))
    assert not folder.exists()
