"""The inline exchange: one process computes, sums and updates; nothing travels.

The reference that every other exchange must equal bit for bit.
"""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import NonFiniteError
from dptrain.exchange.engine import (
    ReportAlive,
    ShouldStop,
    SplitScore,
    StepsDone,
    TrainingState,
    score,
    unheard,
)
from dptrain.exchange.marks import Marks
from dptrain.exchange.rank import Rank, Share
from dptrain.exchange.timeline import Timeline
from dptrain.experiment.job import Job
from dptrain.nn.passes import ShardedPass
from dptrain.optim.updater import Piece


class InlineEngine:
    """Trains in this process; the caller sees to it that BLAS has one thread.

    Attributes:
        workers: always 1.
        exchange: ``"inline"``.
    """

    workers = 1
    exchange = "inline"

    def __init__(
        self,
        job: Job,
        parameters: NDArray[Any],
        slots: Sequence[NDArray[Any]],
        timeline: Timeline | None = None,
    ) -> None:
        self.job = job
        self._timeline = timeline
        self.parameters = parameters
        self.slots = list(slots)
        self._rank = Rank(job, [parameters])
        self._pieces: list[Piece] = []

    def train(self, begin: int, end: int, stop: ShouldStop, every: int) -> Iterator[StepsDone]:  # noqa: ARG002
        """Carry out steps, until ``stop``."""
        since = time.perf_counter()
        for step in range(begin, end):
            if stop():
                return
            with np.errstate(all="ignore"):  # not around the yield: the caller would inherit it
                loss, marks = self._step(step)
            if self._timeline is not None:
                self._timeline.add_steps(step, [[marks]])
            compute, update = marks.computed - marks.began, marks.updated - marks.computed
            rest = marks.updated - since - compute - update
            since = marks.updated
            yield StepsDone(step, step + 1, loss, compute, rest, 0.0, update)

    def _step(self, step: int) -> tuple[float, Marks]:
        rank, now = self._rank, time.perf_counter
        began = now()
        found = rank.gather(Share(step, 0, self.job.shards))
        gathered = now()
        (loss,) = rank.forward(found)
        if not math.isfinite(loss):
            self._non_finite(step, found)
        forwarded = now()
        rank.backward(found)
        computed = now()
        self._update(step, found.gradients[0])
        updated = now()
        return loss, Marks._make(
            [began, gathered, forwarded, forwarded, *[computed] * 6, updated, updated],
        )

    def _update(self, step: int, gradient: NDArray[Any]) -> None:
        updater = self.job.updater
        factor = updater.clip_factor(updater.squared_norms(gradient)) if updater.clips else 1.0
        if not self._pieces:  # the gradient stands in the same place in every step
            w, slots = self.parameters, self.slots
            self._pieces = updater.bind(0, len(w), w, gradient, slots, w, slots)
        updater.update(step, self._pieces, factor)

    def _non_finite(self, step: int, found: ShardedPass) -> NoReturn:
        trouble = self._rank.trouble(found)
        if trouble is None:
            raise NonFiniteError.at(step, "rank 0", "sum over the shards", "value")
        raise NonFiniteError.at(step, f"rank 0, shard {trouble.shard}", trouble.layer, trouble.what)

    def evaluate(self, split: str, alive: ReportAlive = unheard) -> SplitScore:
        """Evaluate the present weights."""
        self._rank.alive = alive
        began = time.perf_counter()
        with np.errstate(all="ignore"):
            found = self._rank.evaluate(split, 0, self.job.pieces(split))
        self._rank.alive = unheard  # of steps, every one is yielded
        if self._timeline is not None:
            self._timeline.add(0, "evaluate", began, time.perf_counter(), None)
        return score(self.job, split, *found)

    def state(self) -> TrainingState:
        """Return the present weights and optimizer state."""
        return TrainingState(self.parameters, self.slots)
