"""A network and its loss by the formulas of the reference: value, gradients, bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.bounded import Bounded, gamma
from dptrain.gradcheck.reference.layers import row_forward, summed
from dptrain.gradcheck.reference.losses import row_losses
from dptrain.gradcheck.reference.places import with_tensors
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.reference.tape import Node, backward
from dptrain.nn.losses import AnyLoss
from dptrain.nn.network import Network

Array = NDArray[Any]


LOSS = (-1,)  # the place of the loss, among those that can be swapped


class Batch(NamedTuple):
    """The rows of a training step.

    Attributes:
        inputs: of every shard that has rows, ``(rows, *sample)`` float64.
        targets: likewise, labels ``(rows,)`` or values ``(rows, units)``.
        seed: of the experiment.
        step: counted from 0.
        weights: of the rows, ``(rows,)`` of every shard; None where each counts the same.
    """

    inputs: Sequence[Array]
    targets: Sequence[Array]
    seed: int
    step: int
    weights: Sequence[Array] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of every shard."""
        return tuple(len(x) for x in self.inputs)


class Gradient(NamedTuple):
    """What the reference finds.

    Attributes:
        loss: the mean over the minibatch's rows.
        loss_bound: how far any computation of the same formulas may be from it.
        shards: each shard's part of the gradient, ``(shards, size)``; where a running average
            stands, its part of the minibatch's value.
        total: their sum, ``(size,)``.
        bound: of the total, likewise: covers every order of all sums.
        branches: what decided between the sides of kinks.
    """

    loss: float
    loss_bound: float
    shards: Array
    total: Array
    bound: Array
    branches: list[bytes]


class Answers(NamedTuple):
    """What an evaluation finds of each row.

    Attributes:
        losses: ``(rows,)``.
        loss_errors: how far any computation of the same formulas may be from them.
        outputs: ``(rows, units)``.
        errors: likewise.
    """

    losses: Array
    loss_errors: Array
    outputs: Array
    errors: Array


class Reference:
    """A network, its loss and the rows of one step."""

    def __init__(
        self,
        network: Network,
        loss: AnyLoss,
        batch: Batch,
        swaps: Mapping[tuple[int, ...], Any] | None = None,
    ) -> None:
        """Bind.

        Args:
            network: the description.
            loss: the description.
            batch: the rows.
            swaps: what computes a layer in place of its formulas, by its place.
        """
        self._swaps = swaps or {}
        self.network = network
        self.loss = loss
        self.batch = batch
        self._tensors = network.all_tensors()

    def value(self, parameters: Array) -> tuple[Any, list[bytes]]:
        """Return the mean loss, and what decided at kinks.

        Args:
            parameters: flat ``(size,)``, float64 or complex128; the loss has the same kind.
        """
        setting, _, loss = self._forward(parameters, None)
        return loss.value[()], setting.branches

    def gradient(self, parameters: Array, unit: float) -> Gradient:
        """Return the gradient with bounds.

        Args:
            parameters: flat ``(size,)`` float64.
            unit: roundoff of the arithmetic that is judged: 2**-53 or 2**-24.
        """
        with np.errstate(all="ignore"):  # what is unbounded is infinite, and told below
            return self._gradient(parameters, unit)

    def _gradient(self, parameters: Array, unit: float) -> Gradient:
        setting, leaves, loss = self._forward(parameters, unit)
        backward(loss)
        shards = np.zeros((len(self.batch.sizes), self.network.size))
        errors = np.zeros_like(shards)
        for tensor, own in zip(self._tensors, leaves, strict=True):
            for s, leaf in enumerate(own):
                if leaf.gradient is not None and tensor.trained:
                    assert leaf.gradient.error is not None
                    shards[s, tensor.start : tensor.stop] = leaf.gradient.value.reshape(-1)
                    errors[s, tensor.start : tensor.stop] = leaf.gradient.error.reshape(-1)
        self._averages(parameters, setting, shards, errors)
        carried = errors.sum(axis=0)
        size = np.abs(shards).sum(axis=0) + carried
        bound = carried + gamma(max(len(shards) - 1, 0), unit) * size
        bound[np.isnan(bound)] = np.inf
        assert loss.bounded.error is not None
        return Gradient(
            float(loss.value),
            float(np.nan_to_num(loss.bounded.error, nan=np.inf)),
            shards,
            shards.sum(axis=0),
            bound,
            setting.branches,
        )

    def answers(self, parameters: Array, unit: float) -> Answers:
        """Return what an evaluation of the rows finds; arguments as of `gradient`."""
        with np.errstate(all="ignore"):
            setting, leaves, x = self.begin(parameters, unit, training=False)
            outputs = row_forward(self.network.row, x, leaves, setting)
            pairs = zip(outputs, self.batch.targets, strict=True)
            losses = [row_losses(self.loss, y, t, setting) for y, t in pairs]
        return Answers(*_joined(losses), *_joined(outputs))

    def begin(
        self, parameters: Array, unit: float | None = None, *, training: bool = True
    ) -> tuple[Setting, list[list[Node]], list[Node]]:
        """Return what the first layer needs: the setting, every tensor's shards, the inputs."""
        sizes = self.batch.sizes
        frozen = tuple(t.frozen for t in self._tensors)
        where = Setting(sizes, self.batch.seed, self.batch.step, training=training)
        setting = replace(where, frozen=frozen, swaps=self._swaps)
        leaves = [
            [leaf(parameters[t.start : t.stop].reshape(t.shape), unit) for _ in sizes]
            for t in self._tensors
        ]
        return setting, leaves, [leaf(rows, unit) for rows in self.batch.inputs]

    def row_losses(self, shard: int, outputs: Node) -> Node:
        """Return the losses of a shard's rows."""
        targets = self.batch.targets[shard]
        setting = Setting(self.batch.sizes, self.batch.seed, self.batch.step)
        return self.weighed(row_losses(self.loss, outputs, targets, setting), shard)

    def weighed(self, losses: Node, shard: int) -> Node:
        """Return the losses of a shard's rows ``(rows,)``, each times its weight."""
        if self.batch.weights is None:
            return losses
        return losses * losses.constant(self.batch.weights[shard])

    def _forward(
        self, parameters: Array, unit: float | None
    ) -> tuple[Setting, list[list[Node]], Node]:
        setting, leaves, x = self.begin(parameters, unit)
        y = row_forward(self.network.row, x, leaves, setting)
        change = self._swaps.get(LOSS)
        if change is not None:
            y = change(y, self.batch)
        total = summed(
            [
                self.weighed(row_losses(self.loss, outputs, targets, setting), shard).sum(0)
                for shard, (outputs, targets) in enumerate(zip(y, self.batch.targets, strict=True))
            ]
        )
        return setting, leaves, total / total.constant(float(setting.rows))

    def _averages(self, parameters: Array, setting: Setting, shards: Array, errors: Array) -> None:
        """Put the minibatch's statistics where running averages have theirs, as shard 0's part."""
        for place, shares in setting.statistics.items():
            at_mean, at_variance = batch_norms(self.network)[place]
            means, variances = [], []
            for share, mean, variance, count in shares:
                weight = mean.constant(share)
                if count == 1:  # of one value there is no variance: that of before stays
                    own = mean.constant(parameters[slice(*at_variance)])
                else:
                    own = variance * mean.constant(count / (count - 1))
                means.append(mean * weight)
                variances.append(own * weight)
            for (start, stop), each in ((at_mean, means), (at_variance, variances)):
                found = summed(each).bounded
                assert found.error is not None
                shards[0, start:stop], errors[0, start:stop] = found.value, found.error


def _joined(shards: Sequence[Node]) -> tuple[Array, Array]:
    """Return values and errors of all shards' rows."""
    errors = [np.broadcast_to(np.asarray(s.bounded.error), s.shape) for s in shards]
    return (
        np.concatenate([s.value for s in shards]),
        np.nan_to_num(np.concatenate(errors), nan=np.inf),
    )


def leaf(value: Array, unit: float | None) -> Node:
    """Return numbers as they are given; without a unit there is no bound."""
    error = None if unit is None else np.zeros(value.shape)
    return Node(Bounded(value, error, unit or 0.0))


def batch_norms(network: Network) -> dict[tuple[int, ...], tuple[tuple[int, int], tuple[int, int]]]:
    """Return the spans of running mean and variance of every batch norm, by its place."""
    tensors = network.all_tensors()
    found = {}
    for place, _, _, own in with_tensors(network.row):
        spans = {t.name.rpartition(".")[2]: (t.start, t.stop) for t in tensors[own]}
        if "variance" in spans:
            found[place] = (spans["mean"], spans["variance"])
    return found
