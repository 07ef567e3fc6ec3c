"""Write a file so that a death at any moment leaves the old one or the new one, never a mixture.

The order is: write a temporary file in the same folder, flush, fsync, rename over the old file,
fsync the folder. Without the first fsync a power failure after the rename can leave an empty file;
without the second it can undo the rename. An fsync that failed is final: the kernel may have
dropped the pages, so a second one would report success for data that are gone.
"""

import contextlib
import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from dptrain.errors import DiskFullError, RunFolderError

_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP)

Piece = bytes | bytearray | memoryview


def atomic_write(path: Path, data: bytes | Sequence[Piece]) -> None:
    """Make ``data``, one piece or several in order, the content of the file, durably.

    Raises RunFolderError naming the path, the size and the remedy when the disk is full or the
    folder cannot be written. The old file is then intact and the temporary file is gone; only if
    the very last action fails, the fsync of the folder, the new file already stands in its place.
    """
    pieces = [data] if isinstance(data, bytes) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the same call; PTH's spelling hides the verb
        _sync_folder(path.parent)
    except OSError as error:
        size = sum(len(memoryview(piece).cast("B")) for piece in pieces)
        kind = DiskFullError if error.errno in _FULL else RunFolderError
        raise kind(
            f"{path}: cannot write {size:,} bytes: {error.strerror or error}; {_remedy(error)}"
        ) from None
    finally:
        # Also on Ctrl-C; after the rename there is nothing left to remove.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sweep_temporaries(folder: Path) -> None:
    """Remove the temporary files that killed processes left in the folder.

    Call it before this process writes there: a file bearing its own pid is from an earlier process
    of that number, as in a container, where the same program gets the same pid at every start. A
    file that cannot be removed stays, since it costs space and nothing else.
    """
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            match = _TEMPORARY.fullmatch(entry.name)
            if match and not _is_another_live_process(int(match[1])):
                entry.unlink(missing_ok=True)


def _is_another_live_process(pid: int) -> bool:
    import psutil  # here, because its import takes 40 ms and there is rarely anything to sweep

    return pid != os.getpid() and psutil.pid_exists(pid)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems know no fsync of folders: nothing better exists there.
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def _remedy(error: OSError) -> str:
    if error.errno in _FULL:
        return "free some space, or write to a folder on another disk"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "make the folder first, or choose another"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make the folder writable, or choose another"
    return "choose another folder, or see whether its disk is sound"
