"""Signals ask for a clean end; Ctrl-C or SIGTERM once more ends at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# What people, service managers, closed terminals and batch systems send.
INSISTENT = (signal.SIGINT, signal.SIGTERM)
ONCE = (signal.SIGHUP, signal.SIGUSR1)


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
        and a service manager sends it with SIGTERM.
        """
        if number in INSISTENT:
            if self._insisted:
                raise KeyboardInterrupt
            self._insisted = True
        self.exit_code = self.exit_code or 128 + number


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Handle signals for the time of a run; outside the main thread, leave them be.

    SIGHUP that is ignored, as under nohup, stays ignored.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    heeded = [each for each in ONCE if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, stop.receive) for each in (*INSISTENT, *heeded)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
