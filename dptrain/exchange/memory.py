"""Shared memory without a name: it cannot be left behind, squatted or found by anybody else.

The coordinator makes it before the workers are started, so that they inherit its file descriptor,
and gives it a size once it knows the network. It is gone with the last process that has it, however
that process ends, and does not depend on the size of /dev/shm.

Imports no mathematics: the workers wait for this.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import tempfile
from pathlib import Path

import psutil

from dptrain.errors import ResourceError


class SharedMemory:
    """Anonymous memory that child processes can inherit.

    Attributes:
        descriptor: of the file that it is, to be passed to the children.
    """

    def __init__(self, *, memfd: bool = hasattr(os, "memfd_create")) -> None:
        """Make memory of no size yet.

        Args:
            memfd: False for systems without memfd: a temporary file that is unlinked at once, and
                whose pages may reach the disk.
        """
        self._memfd = memfd
        if memfd:
            self.descriptor = os.memfd_create("dptrain", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())

    def reserve(self, size: int, what: str) -> None:
        """Give the memory its size, with every page of it reserved.

        Writing to it can therefore never end a process with SIGBUS.

        Args:
            size: in bytes.
            what: needs it, for the message.

        Raises:
            ResourceError: there is not so much.
        """
        free = available_memory()
        if size > free:
            raise _too_little(what, size, f"{free >> 20:,} MB are free")
        try:
            os.posix_fallocate(self.descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EINVAL):
                raise
            reason = os.strerror(error.errno).lower()
            raise _too_little(what, size, f"the system refuses: {reason}") from None
        if self._memfd:  # nobody can take the pages away again
            fcntl.fcntl(
                self.descriptor,
                fcntl.F_ADD_SEALS,
                fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL,
            )

    def close(self) -> None:
        """Give up the descriptor; what is mapped stays mapped."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def map_memory(descriptor: int) -> mmap.mmap:
    """Return the memory behind an inherited descriptor, for reading and writing."""
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size)


def available_memory() -> int:
    """Return how many bytes this process can still take: the machine's, or its control group's."""
    return min([psutil.virtual_memory().available, *_left_in_groups()])


def _left_in_groups() -> list[int]:
    """Return what the limits of the control groups leave, version 2 and 1."""
    found = []
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        with contextlib.suppress(OSError, ValueError):  # absent, or "max"
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return found


def _too_little(what: str, size: int, why: str) -> ResourceError:
    return ResourceError(
        f"{what} needs {size >> 20:,} MB of shared memory, but {why}; use a smaller network, fewer "
        "--shards, --exchange star, or a machine with more memory"
    )
