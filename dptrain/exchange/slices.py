"""The slice of the flat vector that one rank reduces and updates: reduce-scatter and optimizer."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign
from dptrain.arithmetic.tree import remaining_additions
from dptrain.exchange.engine import TrainingState
from dptrain.experiment.job import Job
from dptrain.optim.updater import CHUNK, NORM_CHUNK, Piece, Updater, norm_chunks

Array = NDArray[Any]


def slices(size: int, ranks: int) -> tuple[tuple[int, int], ...]:
    """Return every rank's slice of a flat vector, cut where chunks of the norm begin."""
    edges = assign(norm_chunks(size), ranks)
    return tuple((low * NORM_CHUNK, min(high * NORM_CHUNK, size)) for low, high in edges)


class Sum(NamedTuple):
    """One addition of the tree, on one chunk."""

    into: Array
    other: Array
    out: Array


class Chunk(NamedTuple):
    """The tree's remaining additions on one chunk, and the update of it."""

    sums: list[Sum]
    pieces: list[Piece]


class SliceUpdate:
    """Everything one rank does to its slice, for one number of shards and one pair of states.

    Chunk by chunk, so that a sum is still in the cache when the optimizer reads it. The sums are
    written over the gradients that they are made of: nobody else reads this slice of them.

    Attributes:
        gradient: where the reduced gradient of the slice stands after the additions.
    """

    def __init__(
        self,
        job: Job,
        gradients: Array,
        edges: Sequence[int],
        own: tuple[int, int],
        where: tuple[int, int],
        leaves: int,
        old: TrainingState,
        new: TrainingState,
    ) -> None:
        """Bind.

        Args:
            job: of the run.
            gradients: ``(shards, size)``, every rank's roots among them.
            edges: the ranks' ranges of shards, as `remaining_additions` takes them.
            own: the range of this rank's shards.
            where: first element of the slice, and the one behind its last.
            leaves: how many shards have rows.
            old: parameters and slots to read.
            new: parameters and slots to write.
        """
        self._updater: Updater = job.updater
        additions, row = _plan(remaining_additions(leaves, tuple(edges)), own)
        low, high = where
        self._low = low
        self.gradient = gradients[row, low:high]
        cuts = [*range(low, high, CHUNK), high] if low < high else []
        self._chunks = [
            Chunk(
                [Sum(*(gradients[i, start:stop] for i in each)) for each in additions],
                self._updater.bind(
                    start,
                    stop,
                    old.parameters,
                    gradients[row],
                    old.slots,
                    new.parameters,
                    new.slots,
                ),
            )
            for start, stop in pairwise(cuts)
        ]

    def run(self, step: int) -> None:
        """Reduce and update."""
        for sums, pieces in self._chunks:
            for into, other, out in sums:
                np.add(into, other, out)
            self._updater.update(step, pieces)

    def reduce(self) -> list[float]:
        """Reduce; return the squared norms of the slice's chunks."""
        for sums, _ in self._chunks:
            for into, other, out in sums:
                np.add(into, other, out)
        return self._updater.squared_norms(self.gradient, self._low)

    def update(self, step: int, factor: float) -> None:
        """Update with the reduced gradient times a factor."""
        for _, pieces in self._chunks:
            self._updater.update(step, pieces, factor)


def _plan(
    additions: Sequence[tuple[int, int, int]], own: tuple[int, int]
) -> tuple[list[tuple[int, int, int]], int]:
    """Return the additions as rows ``(into, other, out)``, and the row of the last sum.

    A sum goes to a row of this rank's own shards where it has one: that row is in its own cache
    anyway, and writing to another's would take it out of that rank's. The order of the terms of
    one addition does not change its bits.
    """
    place: dict[int, int] = {}
    planned = []
    for into, other, _ in additions:
        a, b = place.get(into, into), place.get(other, other)
        out = next((row for row in (a, b) if own[0] <= row < own[1]), a)
        planned.append((a, b, out))
        place[into] = out
    return planned, place.get(0, 0)
