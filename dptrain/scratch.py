"""Private folders for the life of a process, and the removal of those that a killed one left."""

import os
import shutil
import tempfile
from pathlib import Path

import psutil

PREFIX = "dptrain-"


def scratch_folder(purpose: str) -> Path:
    """Return a new folder that only this user can enter; whoever asks for it removes it.

    Its name holds this process's pid. Folders of the same purpose whose process has ended are
    removed on the way: no process can clean up after its own SIGKILL.
    """
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{PREFIX}{purpose}-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)  # it may be another user's
    # mkdtemp makes the folder with mode 0700
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-{os.getpid()}-"))
