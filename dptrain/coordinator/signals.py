"""Ctrl-C and SIGTERM: the first asks for a clean end, the second ends at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from dptrain.errors import EXIT_SIGINT, EXIT_SIGTERM


class StopSignal:
    """Whether somebody has asked the run to stop.

    Attributes:
        exit_code: 130 after SIGINT, 143 after SIGTERM, 0 before either.
    """

    def __init__(self) -> None:
        self.exit_code = 0

    def __call__(self) -> bool:
        """Return whether the run should stop after the present step."""
        return self.exit_code != 0

    def receive(self, number: int, _frame: FrameType | None = None) -> None:
        """Note a signal; the second one raises where it strikes."""
        if self.exit_code:
            raise KeyboardInterrupt
        self.exit_code = EXIT_SIGINT if number == signal.SIGINT else EXIT_SIGTERM


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Handle SIGINT and SIGTERM for the time of a run; outside the main thread, leave them be."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, stop.receive) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
