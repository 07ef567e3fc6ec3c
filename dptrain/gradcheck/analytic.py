"""The analytic gradient of one process, and its rows: what everything else is compared with."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import shard_sizes
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job
from dptrain.gradcheck.reference.network import Batch, Reference
from dptrain.nn.network import Network
from dptrain.own.passes import OwnPass

Array = NDArray[Any]


class Analytic(NamedTuple):
    """What backpropagation in one process gives.

    Attributes:
        loss: the mean over the minibatch.
        gradient: flat ``(size,)``, in the job's dtype.
    """

    loss: float
    gradient: Array


class Local:
    """A job in this process, with weights that can be set."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._weights = np.zeros(job.network.size, job.dtype)
        self._rank = Rank(job, [self._weights])

    def analytic(self, parameters: Array, step: int) -> Analytic:
        """Return loss and gradient of the minibatch of a step."""
        found = self._gathered(parameters, step)
        with np.errstate(all="ignore"):
            (loss,) = self._rank.forward(found)
            self._rank.backward(found)
        return Analytic(loss, found.gradients[0].copy())

    def shards(self, parameters: Array, step: int) -> Array:
        """Return every shard's part of the gradient, ``(present shards, size)``, bit by bit."""
        weights = parameters.astype(self.job.dtype)
        rank = Rank(self.job, [weights], sums=False)
        found = rank.gather(Share(step, 0, self.job.shards))
        with np.errstate(all="ignore"):
            rank.forward(found)
            rank.backward(found)
        present = len(shard_sizes(found.rows, self.job.shards))
        return found.gradients[:present].copy()

    def with_targets(
        self, parameters: Array, step: int, targets: Iterable[Array]
    ) -> Iterator[tuple[Array, Array]]:
        """Yield what every shard of a step comes to with other targets, one after the other.

        Args:
            parameters: flat ``(size,)``.
            step: whose minibatch.
            targets: each of all rows, ``(rows, *shape)``.

        Yields:
            The mean loss of each shard's rows ``(present shards,)``, and its part of the gradient
            ``(present shards, size)``, to be used before the next.
        """
        rank = Rank(self.job, [parameters.astype(self.job.dtype)], sums=False)
        found = rank.gather(Share(step, 0, self.job.shards))
        sizes = np.array(shard_sizes(found.rows, self.job.shards))
        cuts = np.cumsum([len(block) for block in found.targets])[:-1]
        for each in targets:
            for block, other in zip(found.targets, np.split(each, cuts), strict=True):
                block[...] = other
            with np.errstate(all="ignore"):
                sums = np.array(found.forward(), float)
            yield sums / sizes, found.gradients[: len(sizes)]

    def loss(self, parameters: Array, step: int) -> float:
        """Return the mean loss of the minibatch of a step alone."""
        found = self._gathered(parameters, step)
        if isinstance(found, OwnPass):  # whose forward pass computes gradients, too
            return sum(found.losses()) / found.rows
        with np.errstate(all="ignore"):
            (loss,) = self._rank.forward(found)
        return loss

    def shard_losses(self, parameters: Array, step: int) -> Array:
        """Return the mean loss of every shard's rows, ``(present shards,)``."""
        found = self._gathered(parameters, step)
        with np.errstate(all="ignore"):
            sums = found.losses() if isinstance(found, OwnPass) else found.forward()
        means: Array = np.array(sums, float) / np.array(shard_sizes(found.rows, self.job.shards))
        return means

    def complex_losses(self, parameters: Array, step: int) -> Array:
        """Return every shard's part of the mean loss of a network of the user's own.

        Args:
            parameters: complex, flat ``(size,)``.
            step: whose minibatch.

        Raises whatever the network's code raises.
        """
        found = self._gathered(parameters.real.astype(self.job.dtype), step)
        sizes = np.array(shard_sizes(found.rows, self.job.shards))
        parts: Array = np.array(found.complex_losses(parameters), complex) * sizes / found.rows
        return parts

    def called(
        self, parameters: Array, step: int, seed: int
    ) -> tuple[float, dict[str, Array], list[str]]:
        """Call a network of the user's own with the first shard of a step; see `OwnPass.called`."""
        found = self._gathered(parameters, step)
        assert isinstance(found, OwnPass)
        return found.called(0, seed)

    def batch(self, step: int) -> Batch:
        """Return the rows of a step, augmented, in shards."""
        found = self._gathered(self._weights.copy(), step)
        sizes = shard_sizes(found.rows, self.job.shards)
        cuts = np.cumsum(sizes)[:-1]
        x = np.concatenate([np.array(each, float) for each in found.inputs])
        t = np.concatenate(list(found.targets))
        weights = None
        if found.row_weights:
            weights = np.split(np.concatenate(list(found.row_weights)).astype(float), cuts)
        seed = self.job.experiment.seed
        return Batch(np.split(x, cuts), np.split(t, cuts), seed, step, weights)

    def reference(self, step: int) -> Reference | None:
        """Return the formulas of a step; None where the network is the user's own."""
        network, loss = self.job.network, self.job.loss
        if not isinstance(network, Network) or loss is None:
            return None
        return Reference(network, loss, self.batch(step))

    def _gathered(self, parameters: Array, step: int) -> Any:
        np.copyto(self._weights, parameters)
        return self._rank.gather(Share(step, 0, self.job.shards))
