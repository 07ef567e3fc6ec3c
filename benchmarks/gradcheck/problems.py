"""Small functions whose gradients are checked: networks with a loss over a few rows, in float64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.oracles.differences import UNIT
from dptrain.gradcheck.reference.network import Batch, Reference
from dptrain.nn.activations import ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense
from dptrain.nn.losses import AnyLoss, SoftmaxCrossEntropy, SumOfSquares
from dptrain.nn.network import AnyLayer, Network, Tensor
from dptrain.nn.passes import Arrangement, Replica, TargetForm

Array = NDArray[Any]

INPUTS = 6
SHARD_ROWS = (4, 3)
DEEP: list[AnyLayer] = [layer for _ in range(4) for layer in (Dense(4), Sigmoid())]
# Layers, loss, and the deviation of the weights
KINDS: dict[str, tuple[Sequence[AnyLayer], AnyLoss, float]] = {
    "relu": ([Dense(5), ReLU(), Dense(3)], SoftmaxCrossEntropy(), 0.7),
    "tanh": ([Dense(5), Tanh(), Dense(3)], SumOfSquares(), 0.7),
    "deep sigmoid": ([*DEEP, Dense(3)], SumOfSquares(), 0.5),
}
# A unit of the ReLU network, and its bias in the flat vector: the kink of `kinked`
UNIT_AT_KINK = 2
KINK = INPUTS * 5 + UNIT_AT_KINK


class Problem:
    """A function of a flat vector, with the gradient that dptrain's backpropagation gives.

    Attributes:
        kind: one of `KINDS`.
        reference: its formulas.
        x: where the gradient is checked, ``(size,)``.
        right: the gradient, ``(size,)``.
        bound: of the rounding error of any computation of it, ``(size,)``.
        noise: of the rounding error of the value near x.
        factor: of the loss.
        evaluations: of the value, so far.
    """

    def __init__(self, kind: str, batch: Batch, x: Array) -> None:
        layers, loss, _ = KINDS[kind]
        network = Network(INPUTS, layers)
        self.kind = kind
        self.reference = Reference(network, loss, batch)
        self.x = x
        found = self.reference.gradient(x, UNIT)
        self.right = _backpropagated(network, loss, batch, x)
        self.bound = found.bound
        self.noise = 2 * found.loss_bound
        self.factor = 1.0
        self.evaluations = 0
        self.known: dict[bytes, tuple[float, list[bytes]]] | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Of the network."""
        return tuple(self.reference.network.all_tensors())

    @property
    def spans(self) -> list[slice]:
        """Where they are in the flat vector."""
        return [slice(t.start, t.stop) for t in self.tensors]

    def value(self, x: Array) -> float:
        """Return the loss."""
        return self.branched(x)[0]

    def branched(self, x: Array) -> tuple[float, list[bytes]]:
        """Return the loss, and what decided at kinks; values seen before only once `remember`."""
        self.evaluations += 1
        key = x.tobytes() if self.known is not None else b""
        if self.known is not None and key in self.known:
            return self.known[key]
        loss, branches = self.reference.value(np.array(x, float))
        found = self.factor * float(loss), branches
        if self.known is not None:
            self.known[key] = found
        return found

    def remember(self) -> None:
        """Compute no value twice from now on: many gradients will be checked, none is timed."""
        self.known = {}

    def times(self, factor: float) -> "Problem":
        """Return the same with a multiple of the loss."""
        found = object.__new__(Problem)
        found.__dict__.update(self.__dict__)
        found.factor = factor
        found.right = factor * self.right
        found.bound = factor * self.bound + 2 * UNIT * np.abs(found.right)
        found.noise = factor * self.noise + UNIT * factor * abs(self.value(self.x))
        found.known = None if self.known is None else {}
        return found


def problem(kind: str, seed: int) -> Problem:
    """Return a problem with random weights and rows, everywhere smooth near x."""
    return _drawn(kind, seed, kinked=False)


def kinked(seed: int) -> Problem:
    """Return a ReLU network with a row of zeros and a unit without bias.

    The unit is exactly 0 on that row, whoever computes it.
    """
    return _drawn("relu", seed, kinked=True)


def _drawn(kind: str, seed: int, *, kinked: bool) -> Problem:
    layers, loss, deviation = KINDS[kind]
    rng = np.random.default_rng([list(KINDS).index(kind), seed])
    network = Network(INPUTS, layers)
    units = network.output_shape[0]
    rows = [rng.standard_normal((n, INPUTS)) for n in SHARD_ROWS]
    labelled = isinstance(loss, SoftmaxCrossEntropy)
    targets = [
        rng.integers(units, size=n) if labelled else rng.standard_normal((n, units))
        for n in SHARD_ROWS
    ]
    x = deviation * rng.standard_normal(network.size)
    if kinked:
        rows[0][0] = 0
        x[KINK] = 0
    return Problem(kind, Batch(rows, targets, seed, 0), x)


def _backpropagated(network: Network, loss: AnyLoss, batch: Batch, x: Array) -> Array:
    targets = np.concatenate(list(batch.targets))
    replica = Replica(network, loss, [x.copy()], TargetForm(targets.shape[1:], targets.dtype))
    found = replica.pass_over(Arrangement(sum(batch.sizes), len(batch.sizes), 0, len(batch.sizes)))
    for block, rows in zip(found.inputs, batch.inputs, strict=True):
        block[...] = rows.reshape(block.shape)
    for block, values in zip(found.targets, batch.targets, strict=True):
        block[...] = values.reshape(block.shape)
    found.forward()
    found.backward()
    return np.array(found.gradients[0])
