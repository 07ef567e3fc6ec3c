"""What one rank computes: gradients of its shards, and pieces of evaluations."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import Split
from dptrain.experiment.job import EVALUATION_ROWS, Job
from dptrain.nn.passes import Arrangement, Pass, Trouble


class Rank:
    """A replica with the data it is trained on.

    The caller sees to it that NumPy does not warn: infinities are found in the loss, and named.

    Attributes:
        parameters: the flat vector that the replica computes with.
        seconds: what the present step has taken so far, gathering its rows included.
    """

    def __init__(self, job: Job, parameters: NDArray[Any]) -> None:
        self.job = job
        self.parameters = parameters
        self._replica = job.replica(parameters)
        self.seconds = 0.0
        self._since: float | None = None
        self._passes: dict[tuple[int, int, int], Pass] = {}
        self._gathered: tuple[tuple[int, int, int], Pass] | None = None

    def gather(self, step: int, first: int, last: int) -> Pass:
        """Copy the rows of a step's shards to where they are computed, if that is not done yet."""
        key = (step, first, last)
        if self._gathered is not None and self._gathered[0] == key:
            return self._gathered[1]
        started = time.perf_counter()
        order = self.job.minibatch(step)
        place = (len(order), first, last)
        found = self._passes.get(place)
        if found is None:
            arrangement = Arrangement(len(order), self.job.shards, first, last)
            found = self._passes[place] = self._replica.pass_over(arrangement)
        self._fill(found, self.job.dataset.train, order)
        self._gathered = (key, found)
        self.seconds = time.perf_counter() - started
        return found

    def _fill(self, found: Pass, split: Split, order: NDArray[np.intp]) -> None:
        for block, x, t in zip(found.blocks, found.inputs, found.targets, strict=True):
            split.gather(order[block.start : block.start + block.shards * block.rows], x, t)

    def forward(self, found: Pass) -> list[float]:
        """Return the losses of a gathered pass's roots, divided by the global rows."""
        self._gathered = None
        started = time.perf_counter()
        losses = found.summed_losses(found.forward())
        self.seconds += time.perf_counter() - started
        return losses

    def backward(self, found: Pass, ready: Callable[[int], None] | None = None) -> None:
        """Compute the gradients after `forward`; ``ready`` is told each layer that is final."""
        self._since = time.perf_counter()
        found.backward(ready)
        self.seconds = self.elapsed()
        self._since = None

    def elapsed(self) -> float:
        """Return what the present step has taken so far, also in the middle of `backward`."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self.seconds + running

    def trouble(self, found: Pass) -> Trouble | None:
        """Return where the first infinity or NaN of a gathered pass stands."""
        return found.trouble()

    def evaluate(self, split: str, first: int, last: int) -> tuple[list[float], list[int]]:
        """Return the losses and correct rows of each piece from ``first`` to ``last - 1``."""
        source = self.job.split(split)
        losses: list[float] = []
        correct: list[int] = []
        for piece in range(first, last):
            start = piece * EVALUATION_ROWS
            rows = min(EVALUATION_ROWS, len(source) - start)
            found = self._replica.pass_over(Arrangement(rows, 1, 0, 1))
            self._fill(found, source, np.arange(start, start + rows))
            losses += found.forward()
            correct += found.loss.correct() if self.job.dataset.classes else [0]
        return losses, correct


def initial_state(job: Job) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return the parameters and the optimizer's state that a new run begins with."""
    parameters = job.initial_parameters()
    return parameters, [np.zeros_like(parameters) for _ in job.updater.rule.slots]
