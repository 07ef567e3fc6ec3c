"""Private folders for the life of a process, and the removal of those that a killed one left."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from dptrain.errors import ResourceError, UnsuitableError

PREFIX = "dptrain-"
# The longest path of a socket, in bytes: unix(7) has 108 with the zero at its end, BSD's 104.
SOCKET_PATH = 107 if sys.platform == "linux" else 103
# where a socket can be if the folder for temporary files has too long a path
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a private folder is made in it


def scratch_folder(purpose: str, parent: Path | None = None) -> Path:
    """Return a new folder that only this user can enter; whoever asks for it removes it.

    Its name holds this process's pid. Folders of the same purpose whose process has ended are
    removed on the way: no process can clean up after its own SIGKILL.

    Args:
        purpose: a word.
        parent: where to make it; by default among temporary files.

    Raises:
        ResourceError: there is no place for temporary files.
    """
    parent = parent or _temporary()
    for left in parent.glob(f"{PREFIX}{purpose}-*"):
        pid = left.name.split("-")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)  # it may be another user's
    # mkdtemp makes the folder with mode 0700
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-{os.getpid()}-", dir=parent))


def socket_folder(purpose: str, name: str) -> Path:
    """Return a folder as `scratch_folder` does, whose path is short enough for a socket in it.

    Args:
        purpose: a word.
        name: of the socket.

    Raises:
        UnsuitableError: there is none.
    """
    for parent in _parents():
        # mkdtemp adds eight characters
        path = parent / f"{PREFIX}{purpose}-{os.getpid()}-12345678" / name
        if len(os.fsencode(path)) <= SOCKET_PATH and os.access(parent, os.W_OK | os.X_OK):
            return scratch_folder(purpose, parent)
    raise UnsuitableError(
        f"the path of the folder for temporary files, {_temporary()}, is too long for a socket; "
        "set TMPDIR to a folder with a short path, or use --transport tcp"
    )


def _parents() -> Iterator[Path]:
    yield _temporary()
    if "XDG_RUNTIME_DIR" in os.environ:
        yield Path(os.environ["XDG_RUNTIME_DIR"])
    yield from map(Path, SHORT)


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise ResourceError(
            f"{error.strerror}; make room there, or set TMPDIR to a folder that can be written to"
        ) from None
