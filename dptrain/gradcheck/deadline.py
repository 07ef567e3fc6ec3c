"""When a run that is checked has gone on for too long: ranks wait for what nobody computes."""

import time

from dptrain.coordinator.signals import StopSignal
from dptrain.errors import WorkersLostError
from dptrain.protocol.patience import Silence

# A run under check has a few dozen steps, and takes a few seconds.
LONGEST = 60.0


class Deadline(StopSignal):
    """A run asks it whether to stop, as long as it waits for anything.

    Time in which nobody asks, such as that for which this process is stopped, hardly counts.
    """

    def __init__(self, seconds: float = LONGEST) -> None:
        super().__init__()
        self._seconds = seconds
        self._waits = Silence(1, time.monotonic())

    def __call__(self) -> bool:
        """Return whether somebody has asked for it.

        Raises:
            WorkersLostError: the time is over.
        """
        self._waits.listen(time.monotonic())
        if self._waits.clock > self._seconds:
            raise WorkersLostError(
                f"the run has not ended after {self._seconds:g} s, although all workers are alive: "
                "ranks wait for what nobody computes or sends"
            )
        return super().__call__()
