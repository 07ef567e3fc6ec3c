"""What ranks that share memory do together in a step: meet, and show each other small tables."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.barrier import Barrier
from dptrain.nn.context import Meet, Waits
from dptrain.protocol.lockstep import ARRIVALS


def committed(arrivals: list[int]) -> int:
    """Return how many steps every rank has completed."""
    return min(arrivals) // ARRIVALS


class Collective:
    """One rank's part in what all ranks do in the same order."""

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier
        self._value = 0

    def begin(self, step: int) -> None:
        """Begin a step."""
        self._value = step * ARRIVALS

    def arrive(self) -> None:
        """Tell the others that what they wait for is written."""
        self._value += 1
        self._barrier.arrive(self._value)

    def finish(self) -> None:
        """Tell the others that this rank has completed the step."""
        self._value = (self._value // ARRIVALS + 1) * ARRIVALS
        self._barrier.arrive(self._value)

    def wait(self) -> None:
        """Wait until everybody has arrived as often as this rank; raise `Recalled` otherwise."""
        self._barrier.wait(self._value)

    def meet(self) -> None:
        """Arrive, and wait for everybody else."""
        self.arrive()
        self.wait()


class SharedMeeting:
    """Tables in shared memory, which every rank reads as soon as all have written their rows.

    One arrival, and each rank reads shards x columns x 8 bytes. Nobody can write the next step's
    rows where another still reads this step's: the end of the step lies between.

    Attributes:
        waits: for the others' rows.
    """

    def __init__(self, tables: Sequence[NDArray[np.float64]], collective: Collective) -> None:
        self.waits = Waits()
        self._tables = tables
        self._collective = collective
        self._next = 0

    def rewind(self) -> None:
        """Begin anew with the first table."""
        self._next = 0

    def table(self, shards: int, columns: int) -> tuple[NDArray[np.float64], Meet]:
        """Return the next table, and the call that waits for the others' rows."""
        found = self._tables[self._next]
        assert found.shape[1] == columns
        self._next += 1
        return found[:shards], Meet(self._collective.meet, self.waits)
