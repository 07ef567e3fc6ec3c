"""Private folders for the life of a process, and the removal of those that a killed one left.

Whether a folder is in use is told by a lock on it, which ends with the process that holds it. A pid
in its name would not tell: containers that share a folder for temporary files do not see each
other's processes.
"""

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from dptrain.errors import ResourceError, UnsuitableError

PREFIX = "dptrain-"
# The longest path of a socket, in bytes: unix(7) has 108 with the zero at its end, BSD's 104.
SOCKET_PATH = 107 if sys.platform == "linux" else 103
# where a socket can be if the folder for temporary files has too long a path
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a private folder is made in it


# Where nothing can be locked, as on some network file systems, silence for so long means death.
_STALE_SECONDS = 3600

# The descriptors that hold the locks of this process's folders.
_held: dict[Path, int] = {}


def scratch_folder(purpose: str, parent: Path | None = None) -> Path:
    """Return a new folder that only this user can enter; whoever asks for it removes it.

    It is locked while this process lives. Folders of the same purpose whose process has ended are
    removed on the way: no process can clean up after its own SIGKILL.

    Args:
        purpose: a word.
        parent: where to make it; by default among temporary files.

    Raises:
        ResourceError: there is no place for temporary files.
    """
    return held_folder(f"{PREFIX}{purpose}-", parent or _temporary())


def held_folder(prefix: str, parent: Path) -> Path:
    """Return a new folder of a name that begins so, as `scratch_folder` does.

    Raises:
        OSError: it cannot be made.
    """
    _forget_removed()
    for left in parent.glob(f"{prefix}*"):
        _remove_unless_held(left, left.name.removeprefix(prefix).partition("-")[0])
    while True:
        # mkdtemp makes the folder with mode 0700
        folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _lock(descriptor, wait=True)
        # in between another process may have taken it for one that was left
        with contextlib.suppress(OSError):
            if os.path.samestat(folder.stat(), os.fstat(descriptor)):
                _held[folder] = descriptor
                return folder
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool | None:
    """Lock a folder; return False where another process has, None where nothing can be locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_unless_held(folder: Path, pid: str) -> None:
    if pid.isdigit() and psutil.pid_exists(int(pid)):
        return
    with contextlib.suppress(OSError):  # it may be another user's, or be gone by now
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            locked = _lock(descriptor, wait=False)
            if locked or (locked is None and _silent_for(folder) > _STALE_SECONDS):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _silent_for(folder: Path) -> float:
    """Return how many seconds ago something was written there."""
    return time.time() - max(each.stat().st_mtime for each in (folder, *folder.iterdir()))


def _forget_removed() -> None:
    for folder in [each for each in list(_held) if not each.exists()]:
        with contextlib.suppress(KeyError):  # another thread was quicker
            os.close(_held.pop(folder))


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
