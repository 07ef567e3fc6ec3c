"""When a run that is checked has gone on for too long: ranks wait for what nobody computes."""

import time

from dptrain.coordinator.signals import StopSignal
from dptrain.errors import WorkersLostError

# A run under check has a few dozen steps, and takes a few seconds.
LONGEST = 60.0


class Deadline(StopSignal):
    """A run asks it whether to stop, as long as it waits for anything."""

    def __init__(self, seconds: float = LONGEST) -> None:
        super().__init__()
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    def __call__(self) -> bool:
        """Return whether somebody has asked for it.

        Raises:
            WorkersLostError: the time is over.
        """
        if time.monotonic() > self._until:
            raise WorkersLostError(
                f"the run has not ended after {self._seconds:g} s, although all workers are alive: "
                "ranks wait for what nobody computes or sends"
            )
        return super().__call__()
