"""Passes over random data, for the tests of layers and losses."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import blocks
from dptrain.nn.layer import Operation, Site
from dptrain.nn.losses import AnyLoss, BinaryCrossEntropy, SoftmaxCrossEntropy, SumOfSquares
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.passes import Arrangement, Pass, Replica, TargetForm
from tests.nn.losses import CASES

CLASSIFY = SoftmaxCrossEntropy()
REGRESS = SumOfSquares()
# What takes labels of any number of classes, and what takes values, by the names of the tests.
LABELLED: dict[str, AnyLoss] = {
    name: case.loss
    for name, case in CASES.items()
    if case.labelled and not getattr(case.loss, "class_weights", None)
}
VALUED: dict[str, AnyLoss] = {name: case.loss for name, case in CASES.items() if not case.labelled}


def weighted(units: int) -> AnyLoss:
    """Return a cross-entropy with different weights for the classes, and smoothing."""
    return SoftmaxCrossEntropy(0.1, tuple(0.5 + 0.25 * k for k in range(units)))


class Problem:
    """A network with random weights, and a minibatch of random rows.

    ``misaligned`` moves the parameters by so many elements from where NumPy would put them.
    """

    def __init__(
        self,
        network: Network,
        loss: AnyLoss,
        rows: int,
        *,
        labels: bool,
        dtype: str = "float64",
        seed: int = 0,
        misaligned: int = 0,
    ) -> None:
        random = np.random.default_rng(seed)
        self.network = network
        self.rows = rows
        self.labels = labels
        self.parameters: NDArray[Any] = np.empty(network.size + misaligned, dtype)[misaligned:]
        self.parameters[...] = random.standard_normal(network.size)
        self.x = random.standard_normal((rows, *network.input_shape)).astype(dtype)
        units = network.output_shape[0]
        self.t: NDArray[Any]
        if labels:
            self.t = random.integers(0, 2 if loss.binary and units == 1 else units, rows)
            targets = TargetForm((), np.dtype(np.int64))
        else:
            self.t = random.standard_normal((rows, units)).astype(dtype)
            if isinstance(loss, BinaryCrossEntropy):
                self.t = (self.t > 0).astype(dtype)
            targets = TargetForm((units,), np.dtype(dtype))
        self.replica = Replica(network, loss, [self.parameters], targets)

    def filled(self, shards: int, first: int = 0, last: int | None = None) -> Pass:
        """Return the pass over some shards, with their rows in place."""
        end = shards if last is None else last
        found = self.replica.pass_over(Arrangement(self.rows, shards, first, end))
        for block, x, t in zip(
            blocks(self.rows, shards, first, end), found.inputs, found.targets, strict=True
        ):
            part = slice(block.start, block.start + block.shards * block.rows)
            x[...] = self.x[part]
            t[...] = self.t[part]
        return found

    def gradient(self, shards: int) -> NDArray[Any]:
        """Return the gradient of the mean loss over the minibatch."""
        found = self.filled(shards)
        found.forward()
        found.backward()
        total: NDArray[Any] = found.gradients[0].copy()
        return total

    def loss(self, shards: int = 1) -> float:
        """Return the mean loss over the minibatch."""
        return sum(self.filled(shards).forward()) / self.rows

    def differences(self, shards: int, step: float = 1e-5) -> NDArray[Any]:
        """Return central differences of the mean loss in every parameter."""
        found = np.empty(self.network.size)
        for i, value in enumerate(self.parameters.copy()):
            self.parameters[i] = value + step
            above = self.loss(shards)
            self.parameters[i] = value - step
            found[i] = (above - self.loss(shards)) / (2 * step)
            self.parameters[i] = value
        return found


def problem(
    layers: Sequence[AnyLayer], input_shape: Any, rows: int, *, labels: bool, **settings: Any
) -> Problem:
    """Return a problem for layers, with the loss that fits its targets unless one is given."""
    loss = settings.pop("loss", CLASSIFY if labels else REGRESS)
    return Problem(Network(input_shape, layers), loss, rows, labels=labels, **settings)


def bound(
    layer: AnyLayer,
    *blocks: NDArray[Any],
    weights: NDArray[Any] | None = None,
    passes_back: bool = True,
) -> Operation:
    """Bind a layer to blocks; where it has parameters, ``weights`` are its flat vector."""
    shape = blocks[0].shape[2:]
    parameters = layer.parameters(shape)
    size = sum(math.prod(each.shape) for each in parameters)
    flat = np.empty(0) if weights is None else weights[:size]
    assert len(flat) == size
    rows = [np.empty((len(x), len(flat)), x.dtype) for x in blocks]
    tensors, gradients, start = [], [], 0
    for parameter in parameters:
        stop = start + math.prod(parameter.shape)
        tensors.append(flat[start:stop].reshape(parameter.shape))
        gradients.append([row[:, start:stop].reshape(-1, *parameter.shape) for row in rows])
        start = stop
    site = Site(
        inputs=list(blocks),
        weights=tensors,
        gradients=gradients,
        overwrites=False,
        passes_back=passes_back,
        span=flat,
        span_gradients=rows,
    )
    return layer.bind(site)
