"""Shared memory without a name: it cannot be left behind, squatted or found by anybody else.

The coordinator makes it before the workers are started, so that they inherit its file descriptor,
and gives it a size once it knows the network. It is gone with the last process that has it, however
that process ends, and does not depend on the size of /dev/shm.

Imports no mathematics: the workers wait for this.
"""

import errno
import fcntl
import mmap
import os
import tempfile

from dptrain.errors import ResourceError
from dptrain.machine.memory import available_memory


class SharedMemory:
    """Anonymous memory that child processes can inherit.

    Attributes:
        descriptor: of the file that it is, to be passed to the children.
        nameless: whether it never had a name (memfd_create(2)). Where the system has no such
            memory, or forbids it, it is a temporary file that is unlinked at once, and whose pages
            may reach the disk.
    """

    def __init__(self) -> None:
        """Make memory of no size yet."""
        try:
            self.descriptor = os.memfd_create("dptrain", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            self.nameless = True
        except (AttributeError, OSError):
            self.nameless = False
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
            _fill(self.descriptor, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EINVAL):
                raise
            reason = os.strerror(error.errno).lower()
            limit = "; raise the limit of file sizes (ulimit -f)" * (error.errno == errno.EFBIG)
            raise _too_little(what, size, f"the system refuses: {reason}{limit}") from None
        if self.nameless:  # nobody can take the pages away again
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


def _fill(descriptor: int, size: int) -> None:
    """Give an empty file pages of zeros; where the system has or allows no call for it, by hand."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
            raise
        block = bytes(1 << 20)
        for start in range(0, size, len(block)):
            os.pwrite(descriptor, block[: size - start], start)


def map_memory(descriptor: int) -> mmap.mmap:
    """Return the memory behind an inherited descriptor, for reading and writing."""
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size)


def _too_little(what: str, size: int, why: str) -> ResourceError:
    return ResourceError(
        f"{what} needs {size >> 20:,} MB of shared memory, but {why}; use a smaller network, fewer "
        "--shards, --exchange star, or a machine with more memory"
    )
