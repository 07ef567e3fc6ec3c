"""A pass whose gradients are central differences of losses, as in the first part of the notes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.nn.calls import run
from dptrain.nn.layer import Blocks
from dptrain.nn.losses import AnyLoss
from dptrain.nn.network import Network
from dptrain.nn.passes import Arrangement, Pass, TargetForm
from dptrain.nn.workspace import Workspace

STEP = 1e-4  # the notes' and the book's


def check(network: Network) -> None:
    """Raise `UsageError` where a network has no gradient of a single shard's loss."""
    averages = [t.name for t in network.all_tensors() if t.average]
    if averages:
        raise UsageError(
            f"gradient='numerical' cannot train a network with running averages ({averages[0]}); "
            "use backprop, or leave out the batch normalisation"
        )


class NumericalPass(Pass):
    """Central differences ``(L(w + h) - L(w - h)) / 2h`` in every parameter, h = 1e-4.

    It takes two forward passes for each parameter, so it is for small networks. The weights are
    moved in a copy, since others compute with the very same ones.
    """

    def __init__(
        self,
        network: Network,
        loss: AnyLoss,
        parameters: NDArray[Any],
        gradients: NDArray[Any],
        arrangement: Arrangement,
        targets: TargetForm,
        workspace: Workspace,
        **others: Any,
    ) -> None:
        self._weights = parameters
        self._moved = workspace.empty(parameters.shape, parameters.dtype)
        self._trained = [t for t in network.all_tensors() if t.trained]
        super().__init__(
            network, loss, self._moved, gradients, arrangement, targets, workspace, **others
        )

    def stages(self) -> Iterator[tuple[str, Blocks]]:
        """Run forward with the weights as they are; see `Pass.stages`."""
        np.copyto(self._moved, self._weights)
        yield from super().stages()

    def forward(self) -> list[float]:
        """Return each local shard's sum of its rows' losses."""
        np.copyto(self._moved, self._weights)
        return super().forward()

    def backward(self, ready: Callable[[int], None] | None = None) -> None:
        """Compute the gradients of every shard, and sum them over the tree."""
        self.gradients[...] = 0
        if self.blocks:
            for tensor in self._trained:
                for i in range(tensor.start, tensor.stop):
                    self._difference(i)
        for layer, additions in self._sums:
            run(additions)
            if ready is not None:
                ready(layer)

    def _difference(self, i: int) -> None:
        value = self._moved[i]
        self._moved[i] = value + STEP
        above, losses = self._moved[i], super().forward()
        self._moved[i] = value - STEP
        distance = float(above) - float(self._moved[i])  # not 2 h, after rounding
        for shard, (high, low) in enumerate(zip(losses, super().forward(), strict=True)):
            self.gradients[shard, i] = (high - low) / (distance * self.rows)
        self._moved[i] = value
        self.alive()
