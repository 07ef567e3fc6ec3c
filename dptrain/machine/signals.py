"""Signals by which people, service managers, closed terminals and batch systems end a run."""

import functools
import os
import signal
from types import FrameType

# Of these, a second one ends at once.
INSISTENT = (signal.SIGINT, signal.SIGTERM)
# SIGUSR1 and SIGUSR2 warn of the end of a job's time, SIGXCPU comes at a limit of CPU time.
ONCE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


def leave_to_parent() -> None:
    """Leave them all to the process that has started this one and speaks for the run.

    Who ends a job may signal every process in it. But CPU time is limited for each by itself, so
    that SIGXCPU is passed on.
    """
    # handlers that do nothing, since children of the user's own code would inherit SIG_IGN
    for number in (*INSISTENT, *ONCE):
        signal.signal(number, _nothing)
    signal.signal(signal.SIGXCPU, functools.partial(_pass_on, os.getppid()))


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _pass_on(parent: int, number: int, _frame: FrameType | None) -> None:
    if os.getppid() == parent:
        os.kill(parent, number)
