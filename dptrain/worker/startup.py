"""How a launched worker begins: orders from standard input, and a tie to its parent's life."""

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable

from dptrain.machine.cores import usable_cores
from dptrain.machine.signals import leave_to_parent
from dptrain.own.object_origin import origin_of
from dptrain.worker.shell import Connection, Inherited, WorkerShell

_PR_SET_PDEATHSIG = 1


def main(shell: Callable[[Connection], WorkerShell] = WorkerShell) -> int:
    """Run the worker; return its exit code.

    Args:
        shell: makes what serves the run, once it is known which rank this is.
    """
    leave_to_parent()  # the coordinator, which tells its workers in its own way
    _die_with_parent()
    line = sys.stdin.buffer.readline()
    if not line:
        return 0  # the coordinator gave up before it needed workers
    orders = json.loads(line)
    told = sys.stdin.buffer.read(orders["origin"])
    if os.getppid() != orders["parent"]:
        return 1  # the parent died before the tie was made
    cores = usable_cores()
    if orders["pin"]:
        with contextlib.suppress(AttributeError, OSError):  # of which the coordinator has told
            allowed = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {allowed[orders["rank"] % len(allowed)]})
    inherited = None
    if orders["memory"] >= 0:
        bells = tuple(orders["bells"])
        inherited = Inherited(orders["memory"], bells, cores, orders["parent"])
    connection = Connection(
        endpoint=orders["connect"],
        key=bytes.fromhex(orders["key"]),
        rank=orders["rank"],
        parent_pipe=sys.stdin.fileno(),
        max_frame=orders["max_frame"],
        inherited=inherited,
        origin=origin_of(told),
    )
    return shell(connection).run()


def _die_with_parent() -> None:
    """Ask Linux for SIGKILL when the parent ends; elsewhere the end of the pipe must do."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
