"""The rows that a job has in its steps, in one process and in the shares of several ranks."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job
from dptrain.gradcheck.reference.minibatches import Visits

Array = NDArray[Any]

# The last is a multiple of every small number by which epochs could be counted.
EPOCHS = (0, 1, 2, 3, 4, 720_720)
# Of an epoch with more steps than that, the first ones and the last.
FIRST_STEPS = 2
# Ranks are looked at in one epoch alone: what they do differently is the same in all of them.
EPOCHS_OF_RANKS = (1,)


class Seen(NamedTuple):
    """The rows of a step, as a job has them.

    Attributes:
        step: counted from 0.
        workers: so many ranks had them, one after the other; 0 for one process alone.
        wanted: the stored rows that belong to the step, in order.
        x: inputs ``(rows, *sample)`` of all ranks.
        t: targets of all ranks.
        w: weights of all ranks' rows, 1 where they have none.
        ranks: rows of each rank.
    """

    step: int
    workers: int
    wanted: Array
    x: Array
    t: Array
    w: Array
    ranks: tuple[int, ...]

    @property
    def where(self) -> str:
        """For a reader."""
        return f"{self.workers} ranks, step {self.step}" if self.workers else f"step {self.step}"

    @property
    def whole(self) -> bool:
        """Whether there are as many rows as there should be, and any."""
        return 0 < len(self.x) == len(self.t) == len(self.wanted)


def seen(job: Job, visits: Visits, workers: int = 0) -> Iterator[Seen]:
    """Yield the rows of some steps, ascending, and at last those of the first one again.

    Args:
        job: whose rows are looked at.
        visits: which rows it should have.
        workers: the world size, of which every rank's share is looked at; 0 for none.
    """
    rank = Rank(job, [np.zeros(job.network.size, job.dtype)])
    bounds = assign(job.shards, workers) if workers else ((0, job.shards),)
    steps = _steps(visits, EPOCHS_OF_RANKS if workers else EPOCHS)
    for step in [*steps, steps[0]]:
        xs, ts = [], []
        ws: list[Array] = []
        for low, high in bounds:
            found = rank.gather(Share(step, low, high))
            xs.append(np.array([row for each in found.inputs for row in each]))
            ts.append(np.array([row for each in found.targets for row in each]))
            ws += found.row_weights or [np.ones(len(xs[-1]))]
        x, t = (np.concatenate([p for p in parts if len(p)] or parts[:1]) for parts in (xs, ts))
        w = np.concatenate(ws).astype(float)
        yield Seen(step, workers, visits.minibatch(step), x, t, w, tuple(map(len, xs)))


def _steps(visits: Visits, epochs: Sequence[int]) -> list[int]:
    places = sorted({*range(min(FIRST_STEPS, visits.per_epoch)), visits.per_epoch - 1})
    return [epoch * visits.per_epoch + place for epoch in epochs for place in places]
