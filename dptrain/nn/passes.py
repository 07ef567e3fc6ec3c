"""One pass over given blocks of shards: fixed buffers, and the operations between them.

A `Replica` is a network bound to a flat parameter vector; for every arrangement of shards that it
meets (the full minibatch, the ragged last one, evaluation) it makes a `Pass` once and keeps it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import Block, blocks, present_shards
from dptrain.arithmetic.tree import owned_additions, roots
from dptrain.nn.calls import Call, call, run
from dptrain.nn.layer import Blocks, Operation, Site
from dptrain.nn.losses import AnyLoss
from dptrain.nn.network import Network
from dptrain.nn.workspace import Workspace, aligned_empty


class Targets(NamedTuple):
    """What the targets of a data set look like: class labels where ``shape`` is ``()``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Arrangement(NamedTuple):
    """Which shards of a minibatch of ``rows`` rows a replica computes."""

    rows: int
    shards: int
    first: int
    last: int


class Trouble(NamedTuple):
    """Where the first infinity or NaN of a pass stands.

    Attributes:
        shard: index in the minibatch.
        layer: name of the layer, ``"loss"``, or ``"input"``.
        what: ``"weights"``, ``"output"`` or ``"value"``.
    """

    shard: int
    layer: str
    what: str


class Pass:
    """The buffers and operations for one arrangement of shards.

    Attributes:
        blocks: of the arrangement.
        inputs: where the samples go, flat over a block's rows: ``(shards * rows, *sample)``.
        targets: where the targets go, likewise.
        gradients: ``(local shards, network.size)``; after `backward` the rows `roots` hold the
            sums of complete subtrees of shards.
        roots: rows of ``gradients`` to hand in, as indices among the local shards.
        first: the first local shard's index in the minibatch.
        additions: the tree's additions among the local shards.
    """

    def __init__(
        self,
        network: Network,
        loss: AnyLoss,
        parameters: NDArray[Any],
        gradients: NDArray[Any],
        arrangement: Arrangement,
        targets: Targets,
        workspace: Workspace,
    ) -> None:
        empty = workspace.empty
        rows, shards, self.first, last = arrangement
        self.rows = rows
        self.names = network.names
        # below the first layer with parameters nobody needs a gradient
        self.lowest = next(i for i, own in enumerate(network.tensors) if own)
        self.blocks = blocks(*arrangement)
        leaves = present_shards(rows, shards)
        self.roots = tuple(i - self.first for i in roots(leaves, self.first, last))
        pairs = owned_additions(leaves, self.first, last)
        self.additions = [(a.into - self.first, a.other - self.first) for a in pairs]
        self.gradients = gradients
        dtype = parameters.dtype
        samples = [empty((b.shards, b.rows, *network.input_shape), dtype) for b in self.blocks]
        goals = [empty((b.shards, b.rows, *targets.shape), targets.dtype) for b in self.blocks]
        self.inputs = [x.reshape(-1, *network.input_shape) for x in samples]
        self.targets = [t.reshape(-1, *targets.shape) for t in goals]
        self.operations = self._bind(network, parameters, samples, workspace)
        self.loss = loss.bind(self.outputs, goals, workspace)
        self._forward = [each for op in self.operations for each in op.forward_calls]
        self._backward = self._bind_backward(network)
        self.weights = [[parameters[t.start : t.stop] for t in own] for own in network.tensors]

    @property
    def outputs(self) -> Blocks:
        """The network's outputs, blocks of shape ``(shards, rows, *output_shape)``."""
        return self.operations[-1].outputs

    def _bind(
        self, network: Network, parameters: NDArray[Any], x: Blocks, workspace: Workspace
    ) -> list[Operation]:
        operations: list[Operation] = []
        overwrites = passes_back = False
        for layer, tensors in zip(network.layers, network.tensors, strict=True):
            start, stop = (tensors[0].start, tensors[-1].stop) if tensors else (0, 0)
            site = Site(
                inputs=x,
                weights=[parameters[t.start : t.stop].reshape(t.shape) for t in tensors],
                gradients=[self._gradient_blocks(t.start, t.stop, t.shape) for t in tensors],
                overwrites=overwrites,
                passes_back=passes_back,
                workspace=workspace,
                span=parameters[start:stop],
                span_gradients=self._gradient_blocks(start, stop, (stop - start,)),
            )
            operation = layer.bind(site)
            operations.append(operation)
            x = operation.outputs
            overwrites = not layer.keeps_output and (overwrites or not layer.aliases_input)
            passes_back = passes_back or bool(tensors)
        return operations

    def _gradient_blocks(self, start: int, stop: int, shape: tuple[int, ...]) -> Blocks:
        local = [(b.first - self.first, b.shards) for b in self.blocks]
        return [self.gradients[i : i + n, start:stop].reshape(n, *shape) for i, n in local]

    def _bind_backward(self, network: Network) -> list[tuple[int, list[Call]]]:
        """Return each layer's calls, the last layer first, with the sums over its shards."""
        found = []
        gradients = self.loss.gradients
        for i in range(len(self.operations) - 1, self.lowest - 1, -1):
            calls, gradients = self.operations[i].backward_calls(gradients)
            if network.tensors[i]:
                rows = self.gradients[:, network.tensors[i][0].start : network.tensors[i][-1].stop]
                calls += [call(np.add, rows[a], rows[b], rows[a]) for a, b in self.additions]
            found.append((i, calls))
        return found

    def infer(self) -> Blocks:
        """Compute the outputs of the inputs, and return them."""
        run(self._forward)
        return self.outputs

    def forward(self) -> list[float]:
        """Return each local shard's sum of its rows' losses."""
        self.infer()
        return self.loss.losses()

    def backward(self, ready: Callable[[int], None] | None = None) -> None:
        """Compute the gradients, each layer's summed over the tree while they are in the cache.

        Args:
            ready: told the index of each layer whose gradients are final, last layer first.
        """
        self.loss.backward(self.rows)
        for layer, calls in self._backward:
            run(calls)
            if ready is not None:
                ready(layer)

    def summed_losses(self, losses: Sequence[float]) -> list[float]:
        """Return the losses of `forward`, divided by the global rows and summed to the roots."""
        shares = [each / self.rows for each in losses]
        for into, other in self.additions:
            shares[into] += shares[other]
        return [shares[i] for i in self.roots]

    def trouble(self) -> Trouble | None:
        """Run forward again and return where the first infinity or NaN stands, if anywhere."""
        for block, x in zip(self.blocks, self.inputs, strict=True):
            if (shard := _bad_shard(block, x)) is not None:
                return Trouble(shard, "input", "value")
        for i, operation in enumerate(self.operations):
            if not all(np.isfinite(w).all() for w in self.weights[i]):
                return Trouble(self.first, self.names[i], "weights")
            operation.forward()
            for block, y in zip(self.blocks, operation.outputs, strict=True):
                if (shard := _bad_shard(block, y)) is not None:
                    return Trouble(shard, self.names[i], "output")
        for local, value in enumerate(self.loss.losses()):
            if not np.isfinite(value):
                return Trouble(self.first + local, "loss", "value")
        return None


def _bad_shard(block: Block, values: NDArray[Any]) -> int | None:
    finite = np.isfinite(values.reshape(block.shards, -1)).all(axis=1)
    return None if finite.all() else block.first + int(np.argmin(finite))


class Replica:
    """A network bound to flat parameter vectors of its own.

    There is more than one vector where a step reads one and writes another. The passes over all of
    them compute in the same buffers.

    Attributes:
        network: the description.
        versions: flat vectors ``(network.size,)``; whoever updates one in place changes what is
            computed with it.
    """

    def __init__(
        self,
        network: Network,
        loss: AnyLoss,
        versions: Sequence[NDArray[Any]],
        targets: Targets,
        gradients: NDArray[Any] | None = None,
    ) -> None:
        """Bind.

        Args:
            network: the description.
            loss: the description.
            versions: of the parameters.
            targets: what the data set's targets look like.
            gradients: ``(shards, network.size)``, for at least as many shards as any arrangement
                has; by default memory of the replica's own.
        """
        self.network = network
        self.loss = loss
        self.versions = tuple(versions)
        self.targets = targets
        self._gradients = gradients
        self._workspaces: dict[Arrangement, Workspace] = {}
        self._passes: dict[tuple[Arrangement, int], Pass] = {}

    def pass_over(self, arrangement: Arrangement, version: int = 0) -> Pass:
        """Return the pass for an arrangement of shards, made at the first call and then kept."""
        found = self._passes.get((arrangement, version))
        if found is None:
            workspace = self._workspaces.setdefault(arrangement, Workspace())
            workspace.rewind()
            found = Pass(
                self.network,
                self.loss,
                self.versions[version],
                self._gradient_rows(arrangement.last - arrangement.first),
                arrangement,
                self.targets,
                workspace,
            )
            self._passes[arrangement, version] = found
        return found

    def _gradient_rows(self, local: int) -> NDArray[Any]:
        if self._gradients is None or local > len(self._gradients):
            shape = (local, self.network.size)
            self._gradients = aligned_empty(shape, self.versions[0].dtype)
        return self._gradients
