"""Signals ask for a clean end; Ctrl-C or SIGTERM once more ends at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from dptrain.machine.signals import INSISTENT, ONCE


class StopSignal:
    """Whether somebody has asked the run to stop.

    Attributes:
        exit_code: 128 and the number of the first signal, such as 130 after SIGINT and 143 after
            SIGTERM; 0 before.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._insisted = False

    def __call__(self) -> bool:
        """Return whether the run should stop after the present step."""
        return self.exit_code != 0

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Note a signal; SIGINT or SIGTERM raises where it strikes if one of them came before.

        Other signals come in company: a terminal that is closed has its shell send SIGHUP again,
        a service manager sends it with SIGTERM, and SIGXCPU comes again every second.
        """
        if number in INSISTENT:
            if self._insisted:
                raise KeyboardInterrupt
            self._insisted = True
        self.exit_code = self.exit_code or 128 + number


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Handle signals for the time of a run; outside the main thread, leave them be.

    But for SIGINT and SIGTERM, those of which somebody has decided already stay as they are:
    ignored, as SIGHUP under nohup, or handled by the program that trains.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    heeded = [each for each in ONCE if signal.getsignal(each) is signal.SIG_DFL]
    before = {each: signal.signal(each, stop.receive) for each in (*INSISTENT, *heeded)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
