"""The process of a `dptrain.launch.fork_server.ForkServer`.

``python -m dptrain.launch.fork_server_process SOCKET MODULE`` imports the module. A message is a
list of numbers with as many descriptors, and a list of arguments: it forks a process that has these
descriptors under these numbers and runs the module with the arguments as Python's ``-m`` does. The
process answers with its pid.
"""

import fcntl
import gc
import importlib
import importlib.util
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Sequence

from dptrain.launch.fork_server import MOST_DESCRIPTORS


def main() -> int:
    """Fork until nobody asks any more; return the exit code."""
    # Ctrl-C is for whoever asks
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    number, module = sys.argv[1:]
    control = socket.socket(fileno=int(number))
    main_module = _main_of(module)
    importlib.import_module(main_module)
    gc.freeze()  # what is never touched is never copied
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1 << 16, MOST_DESCRIPTORS)
        if not message:
            return 0
        if _is_forked():
            os.setsid()
            control.send(str(os.getpid()).encode())
            control.close()
            numbers, sys.argv[1:] = json.loads(message)
            _place(descriptors, numbers)
            _draw_anew()
            del sys.modules[main_module]  # it is run anew, which runpy would warn of
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return 0
        for each in descriptors:
            os.close(each)


def _main_of(module: str) -> str:
    """Return the module that Python runs for ``-m``: of a package, its ``__main__``."""
    found = importlib.util.find_spec(module)
    is_package = found is not None and found.submodule_search_locations is not None
    return f"{module}.__main__" if is_package else module


def _is_forked() -> bool:
    """Fork a process that this one's parent adopts; return whether this is the new one."""
    waits, waited_for = os.pipe()
    between = os.fork()
    if between:
        os.close(waits)
        os.waitpid(between, 0)
        os.close(waited_for)  # the new process goes on, an orphan that was adopted
        return False
    if os.fork():
        os._exit(0)
    os.close(waited_for)
    os.read(waits, 1)
    os.close(waits)
    return True


def _place(descriptors: Sequence[int], numbers: Sequence[int]) -> None:
    """Have these descriptors under these numbers alone."""
    above = max(numbers) + 1
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, above) for each in descriptors]
    for each in descriptors:
        os.close(each)
    for each, number in zip(moved, numbers, strict=True):
        os.dup2(each, number)
        os.close(each)


def _draw_anew() -> None:
    """Seed NumPy's global generator anew, as in a process that was started."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


if __name__ == "__main__":
    sys.exit(main())
