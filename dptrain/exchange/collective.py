"""What ranks that share memory do together in a step: meet, and all-reduce small arrays."""

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign
from dptrain.arithmetic.tree import owned_additions, remaining_additions, roots
from dptrain.exchange.barrier import Barrier
from dptrain.exchange.segment import SMALL, Segment
from dptrain.protocol.events import edges

# A rank's word is its step times this, plus how often it has arrived in the step. So it grows
# from step to step, and its quotient is the number of steps that the rank has completed.
ARRIVALS = 4096


def committed(arrivals: list[int]) -> int:
    """Return how many steps every rank has completed."""
    return min(arrivals) // ARRIVALS


class Collective:
    """One rank's part in what all ranks do in the same order."""

    def __init__(self, shared: Segment, barrier: Barrier, rank: int, ranks: int) -> None:
        self._barrier = barrier
        self._bounds = assign(len(shared.losses), ranks)
        self._edges = edges(self._bounds)
        self._first, self._last = self._bounds[rank]
        self._small = shared.small
        self._turn = 0
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

    def all_reduce(self, values: NDArray[np.float64], leaves: int) -> NDArray[np.float64]:
        """Return the sum over all shards, of every rank's ``values``, by the tree.

        One arrival: every rank writes the sums of its complete subtrees and adds up all ranks'
        itself, W x k x 8 bytes read by each. Two buffers in turns: a rank that is early for the
        next sum cannot write where another still reads this one.

        Args:
            values: ``(local shards with rows, k)``, k at most `SMALL`; used up.
            leaves: how many shards of the minibatch have rows.
        """
        columns = values.shape[1]
        assert columns <= SMALL
        assert values.dtype == np.float64  # one precision for every addition
        for into, other, _ in owned_additions(leaves, self._first, self._last):
            values[into - self._first] += values[other - self._first]
        buffer = self._small[self._turn, :, :columns]
        self._turn = 1 - self._turn
        for root in roots(leaves, self._first, self._last):
            buffer[root] = values[root - self._first]
        self.arrive()
        self.wait()
        sums: dict[int, NDArray[np.float64]] = {}
        for into, other, _ in remaining_additions(leaves, self._edges):
            sums[into] = sums.get(into, buffer[into]) + sums.get(other, buffer[other])
        total: NDArray[np.float64] = sums[0] if sums else buffer[0].copy()
        return total
