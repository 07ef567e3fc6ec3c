"""A process that has imported the command line, and forks one that runs it for every request.

To start Python and import what a verb needs takes a quarter of a second of CPU time, to fork a
tenth of that. ``python -P tests/forking.py SOCKET`` answers requests one after the other, with the
pid of the process that it forks, and with the exit code once that has ended; it ends when the
socket is closed. A request has two descriptors, for standard output and standard error.
"""

import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np

import dptrain.cli

# Most verbs import these when they are used.
VERBS = ("evaluate", "inspect", "predict", "train", "verify")
IMPORTED = ["cyclopts", "dptrain.cli.verbs", *(f"dptrain.cli.{verb}" for verb in VERBS)]
MOST = 1 << 20  # bytes of a request


def main() -> None:
    """Answer requests."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in IMPORTED:
        importlib.import_module(module)
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, MOST, 2)
        if not request:
            os._exit(0)  # the socket stays open to the very end, which the tests wait for
        pid = os.fork()
        if not pid:
            control.close()
            _begin(descriptors, *json.loads(request))
            runpy.run_module("dptrain.cli", run_name="__main__", alter_sys=True)
            return
        for each in descriptors:
            os.close(each)
        control.send(str(pid).encode())
        control.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _begin(
    descriptors: Sequence[int],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
) -> None:
    """Make of the forked process what Python would have made of a new one."""
    for number, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    # a shell has what it starts in the background ignore these
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    dptrain.cli.BEGAN = time.perf_counter()
    np.random.seed()


if __name__ == "__main__":
    main()
