"""What one rank computes: gradients of its shards, and pieces of evaluations."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import Split
from dptrain.exchange.engine import ReportAlive, unheard
from dptrain.experiment.job import Job
from dptrain.nn.context import Meeting
from dptrain.nn.passes import Arrangement, ShardedPass, Trouble, evaluation


class Share(NamedTuple):
    """What a rank computes in a step: the shards ``first`` to ``last - 1``."""

    step: int
    first: int
    last: int


class Rank:
    """A replica with the data it is trained on.

    The caller sees to it that NumPy does not warn: infinities are found in the loss, and named.

    Attributes:
        versions: the flat vectors that the replica computes with.
        alive: called after every piece of an evaluation, and within long steps.
    """

    def __init__(
        self,
        job: Job,
        versions: Sequence[NDArray[Any]],
        gradients: NDArray[Any] | None = None,
        meeting: Meeting | None = None,
        *,
        sums: bool = True,
        alive: ReportAlive = unheard,
    ) -> None:
        """Make the replica.

        Args:
            job: of the run.
            versions: as in `Job.replica`; so are ``gradients`` and ``meeting``.
            gradients: as there.
            meeting: as there.
            sums: as in `Arrangement`.
            alive: see the class.
        """
        self.job = job
        self._sums = sums
        self.alive = alive
        self.versions = tuple(versions)
        self._replica = job.replica(versions, gradients, meeting)
        self._passes: dict[tuple[int, int, int, int], ShardedPass] = {}
        self._gathered: tuple[Share, int, ShardedPass] | None = None
        self._augmenter = job.augmenter()
        self._grey: dict[int, NDArray[np.uint8]] = {}

    def gather(self, share: Share, version: int = 0) -> ShardedPass:
        """Return the pass over a step's shards, with their rows in place, augmented.

        They are copied now unless the call before was for the same shards and version.
        """
        if self._gathered is not None and self._gathered[:2] == (share, version):
            return self._gathered[2]
        found = self.place(share, version)
        self.augment(share, found)
        self._gathered = share, version, found
        return found

    def place(self, share: Share, version: int = 0) -> ShardedPass:
        """Return the pass over a step's shards, with their rows in place as the data have them."""
        self._gathered = None
        order = self.job.minibatch(share.step)
        place = (len(order), share.first, share.last, version)
        found = self._passes.get(place)
        if found is None:
            arrangement = Arrangement(
                len(order), self.job.shards, share.first, share.last, sums=self._sums
            )
            found = self._passes[place] = self._replica.pass_over(arrangement, version)
        train = self.job.dataset.train
        self._fill(found, train, order)
        if train.weights is not None:
            for block, weights in zip(found.blocks, found.row_weights, strict=True):
                own = order[block.start : block.start + len(weights)]
                train.gather_weights(own, weights)
        found.moment.step = share.step
        found.alive = self.alive
        return found

    def augment(self, share: Share, found: ShardedPass) -> None:
        """Change the rows in place as augmentation does in this step, if there is any."""
        if self._augmenter is not None:
            self._augmenter.apply(share.step, found.blocks, found.inputs)

    def _fill(self, found: ShardedPass, split: Split, order: NDArray[np.intp]) -> None:
        for block, x, t in zip(found.blocks, found.inputs, found.targets, strict=True):
            rows = order[block.start : block.start + block.shards * block.rows]
            split.gather(rows, x, t, self._grey_buffer(x) if split.grey else None)

    def _grey_buffer(self, x: NDArray[Any]) -> NDArray[np.uint8]:
        found = self._grey.get(len(x))
        if found is None:
            found = self._grey[len(x)] = np.empty(x.shape, np.uint8)
        return found

    def forward(self, found: ShardedPass) -> list[float]:
        """Return the losses of a gathered pass's roots, divided by the global rows."""
        self._gathered = None
        return found.summed_losses(found.forward())

    def backward(self, found: ShardedPass, ready: Callable[[int], None] | None = None) -> None:
        """Compute the gradients after `forward`; ``ready`` is told each layer that is final."""
        found.backward(ready)

    def trouble(self, found: ShardedPass) -> Trouble | None:
        """Return where the first infinity or NaN of a gathered pass stands."""
        return found.trouble()

    def evaluate(
        self, split: str, first: int, last: int, version: int = 0
    ) -> tuple[list[float], list[int]]:
        """Return the losses and correct rows of each piece from ``first`` to ``last - 1``."""
        source = self.job.split(split)
        losses: list[float] = []
        correct: list[int] = []
        for piece in range(first, last):
            start = piece * self.job.evaluation_rows
            rows = min(self.job.evaluation_rows, len(source) - start)
            found = self._replica.pass_over(evaluation(rows), version)
            self._fill(found, source, np.arange(start, start + rows))
            losses += found.forward()
            correct += found.correct() if self.job.scores else [0]
            self.alive(piece + 1 - first)
        return losses, correct


def initial_state(job: Job) -> tuple[NDArray[Any], list[NDArray[Any]]]:
    """Return the parameters and the optimizer's state that a new run begins with."""
    parameters = job.initial_parameters()
    return parameters, [np.zeros_like(parameters) for _ in job.updater.rule.slots]
