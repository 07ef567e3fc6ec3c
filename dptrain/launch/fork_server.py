"""Workers for many short runs: forked from a process that has imported all that they need.

To start Python and import NumPy takes a worker 0.2 s, to be forked 0.01 s. The nursery is a process
that never computes anything, so every worker begins as it would from the program itself. Workers
become children of this process, as if it had started them: for the life of a nursery it is made the
one that adopts orphans (prctl(2), ``PR_SET_CHILD_SUBREAPER``), and every worker is made one.

What workers forked from one nursery have in common, and started ones have not, is the seed of the
hashes of strings. It is not that of this process.
"""

import contextlib
import copy
import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Self

from dptrain.launch.environment import worker_environment

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
FORKING = "dptrain.launch.fork_server_process"
# Seconds after which a nursery that does not answer is given up.
PATIENCE = 30.0
# Descriptors in a message are no more than Linux lets through.
MOST_DESCRIPTORS = 253


class ForkedWorker:
    """A worker process that was forked.

    Attributes:
        pid: of the process.
        stdin: the pipe to its standard input.
    """

    def __init__(self, pid: int, stdin: BinaryIO) -> None:
        self.pid = pid
        self.stdin = stdin

    def wait(self) -> None:
        """Wait until it has ended, and reap it."""
        os.waitpid(self.pid, 0)


class ForkServer:
    """A process that forks workers.

    Attributes:
        program: what they run, as arguments of Python.
    """

    def __init__(self, program: Sequence[str]) -> None:
        """Start it; it imports the program while this process goes on.

        Args:
            program: ``-m``, a module and its arguments.
        """
        self.program = program
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(PATIENCE)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", FORKING, str(theirs.fileno()), program[1]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=worker_environment(),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.kill()  # it may still import what nobody will need
        self._process.wait()

    def given(self, *arguments: str) -> Self:
        """Return this nursery once more, whose workers are given these arguments, too."""
        found = copy.copy(self)
        found.program = (*self.program, *arguments)
        return found

    def fork(self, log: Path, descriptors: Sequence[int]) -> ForkedWorker | None:
        """Fork a worker; None where the nursery has failed, which is then never asked again.

        Args:
            log: where its standard output and error go.
            descriptors: that it has under the same numbers.
        """
        theirs, ours = os.pipe()
        stdin = os.fdopen(ours, "wb")
        try:
            with log.open("ab") as sink:
                outputs = [sink.fileno()] * 2
                message = json.dumps([[0, 1, 2, *descriptors], self.program[2:]]).encode()
                socket.send_fds(self._control, [message], [theirs, *outputs, *descriptors])
            answer = self._control.recv(32)
        except OSError:
            answer = b""
        finally:
            os.close(theirs)
        if answer:
            return ForkedWorker(int(answer), stdin)
        stdin.close()
        self._control.close()
        return None


@contextlib.contextmanager
def fork_server(program: Sequence[str] | ForkServer) -> Iterator[Sequence[str] | ForkServer]:
    """Have a nursery for the block: this one, or one of its own; the program where none can be."""
    if sys.platform != "linux" or isinstance(program, ForkServer) or program[0] != "-m":
        yield program
        return
    libc, before = ctypes.CDLL(None), ctypes.c_int()
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1):
        yield program
        return
    try:
        with ForkServer(program) as found:
            yield found
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value)
