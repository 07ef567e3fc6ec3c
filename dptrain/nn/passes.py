"""One pass over given blocks of shards: fixed buffers, and the operations between them.

A `Replica` is a network bound to a flat parameter vector; for every arrangement of shards that it
meets (the full minibatch, the ragged last one, evaluation) it makes a `Pass` once and keeps it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import Block, blocks, present_shards, shard_sizes
from dptrain.arithmetic.tree import owned_additions, roots
from dptrain.nn.calls import Call, call, run
from dptrain.nn.context import Alone, Context, Meet, Meeting, Moment
from dptrain.nn.layer import Blocks, Site
from dptrain.nn.losses import AnyLoss
from dptrain.nn.network import Network
from dptrain.nn.row import Bound, bind_row
from dptrain.nn.workspace import Workspace, aligned_empty


class TargetForm(NamedTuple):
    """The shape and kind of targets: class labels where ``shape`` is ``()``."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Arrangement(NamedTuple):
    """Which shards of a minibatch of ``rows`` rows a replica computes, and what for.

    In training there are gradients, and layers such as dropout do what they do in training. They
    are summed over the shards as they are computed, unless each shard's own are wanted.
    """

    rows: int
    shards: int
    first: int
    last: int
    training: bool = True
    sums: bool = True


def evaluation(rows: int) -> Arrangement:
    """Return the arrangement of rows of which only the outputs or losses are wanted."""
    return Arrangement(rows, 1, 0, 1, training=False)


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


class ShardedPass(ABC):
    """What is computed of one arrangement of shards, whatever the network is made of.

    Attributes:
        rows: of the whole minibatch.
        blocks: of the arrangement.
        inputs: where the samples go, flat over a block's rows: ``(shards * rows, *sample)``.
        targets: where the targets go, likewise.
        row_weights: where the weights of the rows go, likewise, ``(shards * rows,)`` of the
            parameters' dtype; empty where every row counts the same.
        gradients: ``(local shards, network.size)``; after `backward` the rows `roots` hold the
            sums of complete subtrees of shards, or each shard's own where nothing is summed.
        roots: rows of ``gradients`` to hand in, as indices among the local shards.
        first: the first local shard's index in the minibatch.
        additions: the tree's additions among the local shards.
        moment: to be set before the pass is computed.
        alive: called now and then by passes that may take long.
    """

    inputs: Sequence[NDArray[Any]]
    targets: Sequence[NDArray[Any]]
    row_weights: Sequence[NDArray[Any]] = ()

    def __init__(self, arrangement: Arrangement, gradients: NDArray[Any]) -> None:
        self.rows, shards, self.first, last = arrangement[:4]
        self.blocks = blocks(*arrangement[:4])
        leaves = present_shards(self.rows, shards)
        self.roots = tuple(range(min(last, leaves) - self.first))
        self.additions: list[tuple[int, int]] = []
        if arrangement.sums:
            self.roots = tuple(i - self.first for i in roots(leaves, self.first, last))
            pairs = owned_additions(leaves, self.first, last)
            self.additions = [(a.into - self.first, a.other - self.first) for a in pairs]
        self.gradients = gradients
        self.moment = Moment()
        self.alive: Callable[[], None] = _unheard

    @abstractmethod
    def forward(self) -> list[float]:
        """Return each local shard's sum of its rows' losses."""

    @abstractmethod
    def backward(self, ready: Callable[[int], None] | None = None) -> None:
        """Compute the gradients, and sum them over the tree.

        Args:
            ready: told the index of each group of tensors whose gradients are final, last first.
        """

    @abstractmethod
    def correct(self) -> list[int]:
        """Return for each shard how many rows `forward` has given their own class."""

    @abstractmethod
    def trouble(self) -> Trouble | None:
        """Return where the first infinity or NaN stands, if anywhere."""

    def summed_losses(self, losses: Sequence[float]) -> list[float]:
        """Return the losses of `forward`, divided by the global rows and summed to the roots."""
        shares = [each / self.rows for each in losses]
        for into, other in self.additions:
            shares[into] += shares[other]
        return [shares[i] for i in self.roots]


def _unheard() -> None:
    """Tell nobody."""


class Pass(ShardedPass):
    """The buffers and operations for one arrangement of shards; see `ShardedPass`."""

    def __init__(
        self,
        network: Network,
        loss: AnyLoss,
        parameters: NDArray[Any],
        gradients: NDArray[Any],
        arrangement: Arrangement,
        targets: TargetForm,
        workspace: Workspace,
        *,
        seed: int = 0,
        meeting: Meeting | None = None,
        weighted: bool = False,
    ) -> None:
        super().__init__(arrangement, gradients)
        empty = workspace.empty
        training = arrangement.training
        self.names = network.names
        self._tensors = network.tensors
        context = Context(
            training,
            self.blocks,
            shard_sizes(self.rows, arrangement.shards),
            seed,
            self.moment,
            meeting if meeting is not None and training else Alone(),
        )
        dtype = parameters.dtype
        samples = [empty((b.shards, b.rows, *network.input_shape), dtype) for b in self.blocks]
        goals = [empty((b.shards, b.rows, *targets.shape), targets.dtype) for b in self.blocks]
        self.inputs = [x.reshape(-1, *network.input_shape) for x in samples]
        self.targets = [t.reshape(-1, *targets.shape) for t in goals]
        counted = self.blocks if weighted and training else ()  # evaluations count rows alike
        self._row_weights = [empty((b.shards, b.rows), dtype) for b in counted]
        self.row_weights = [w.reshape(-1) for w in self._row_weights]
        self.operations, self.outputs = self._bind(network, parameters, samples, workspace, context)
        self.loss = loss.bind(self.outputs, goals, workspace)
        self._forward = [each for bound in self.operations for each in bound.forward_calls]
        self._sums = self._tree_sums(network)
        self._backward = self._bind_backward() if training else []
        self.weights = [[parameters[t.start : t.stop] for t in own] for own in network.tensors]

    def _bind(
        self,
        network: Network,
        parameters: NDArray[Any],
        samples: Blocks,
        workspace: Workspace,
        context: Context,
    ) -> tuple[list[Bound], Blocks]:
        tensors = network.all_tensors()
        site = Site(
            inputs=samples,
            weights=[parameters[t.start : t.stop].reshape(t.shape) for t in tensors],
            gradients=[self._gradient_blocks(t.start, t.stop, t.shape) for t in tensors],
            overwrites=False,
            passes_back=False,
            workspace=workspace,
            span=parameters,
            span_gradients=self._gradient_blocks(0, network.size, (network.size,)),
            context=context,
            place=(),
            frozen=[t.frozen for t in tensors],
        )
        operations, end = bind_row(network.row, site)
        return operations, end.inputs

    def _gradient_blocks(self, start: int, stop: int, shape: tuple[int, ...]) -> Blocks:
        local = [(b.first - self.first, b.shards) for b in self.blocks]
        return [self.gradients[i : i + n, start:stop].reshape(n, *shape) for i, n in local]

    def _tree_sums(self, network: Network) -> list[tuple[int, list[Call]]]:
        """Return the calls that sum each layer's gradients over its shards, last layer first."""
        found: list[tuple[int, list[Call]]] = []
        for i in range(len(network.row) - 1, -1, -1):
            own = network.tensors[i]
            rows = self.gradients[:, own[0].start : own[-1].stop] if own else self.gradients[:, :0]
            additions = self.additions if own else []
            found.append((i, [call(np.add, rows[a], rows[b], rows[a]) for a, b in additions]))
        return found

    def _bind_backward(self) -> list[tuple[int, list[Call]]]:
        """Return each layer's calls, the last layer first, with the sums over its shards."""
        found = []
        gradients = self.loss.gradients
        for i, sums in self._sums:
            operation, learns = self.operations[i]
            calls: list[Call] = []
            if learns:
                calls, gradients = operation.backward_calls(gradients)
            else:  # nobody computes the gradients of frozen layers at the bottom
                self._clear(i)
            found.append((i, [*calls, *sums]))
        return found

    def _clear(self, layer: int) -> None:
        for tensor in self._tensors[layer]:
            self.gradients[:, tensor.start : tensor.stop] = 0

    def stages(self) -> Iterator[tuple[str, Blocks]]:
        """Run forward, and yield each layer's name and outputs, which the next may overwrite."""
        for name, operation in zip(self.names, self.operations, strict=True):
            run(operation.forward_calls)
            yield name, operation.operation.outputs

    def infer(self) -> Blocks:
        """Compute the outputs of the inputs, and return them."""
        run(self._forward)
        return self.outputs

    def forward(self) -> list[float]:
        """Return each local shard's sum of its rows' losses."""
        self.infer()
        return self._losses()

    def _losses(self) -> list[float]:
        weights = self._row_weights
        return self.loss.weighted_losses(weights) if weights else self.loss.losses()

    def backward(self, ready: Callable[[int], None] | None = None) -> None:
        """Compute the gradients, each layer's summed over the tree while they are in the cache.

        Args:
            ready: told the index of each layer whose gradients are final, last layer first.
        """
        self.output_gradients()
        for layer, calls in self._backward:
            run(calls)
            if ready is not None:
                ready(layer)

    def output_gradients(self) -> Blocks:
        """Return the gradients of the outputs; call `forward` before."""
        weights = self._row_weights
        if weights:
            return self.loss.weighted_backward(self.rows, weights)
        return self.loss.backward(self.rows)

    def correct(self) -> list[int]:
        """Return for each shard how many rows have their largest output at their label."""
        return self.loss.correct()

    def trouble(self) -> Trouble | None:
        """Run forward again and return where the first infinity or NaN stands, if anywhere.

        Without meeting anybody: what other ranks' shards came to is still there.
        """
        for block, x in zip(self.blocks, self.inputs, strict=True):
            if (shard := _bad_shard(block, x)) is not None:
                return Trouble(shard, "input", "value")
        for i, (operation, _) in enumerate(self.operations):
            if not all(np.isfinite(w).all() for w in self.weights[i]):
                return Trouble(self.first, self.names[i], "weights")
            run(each for each in operation.forward_calls if not isinstance(each, Meet))
            for block, y in zip(self.blocks, operation.outputs, strict=True):
                if (shard := _bad_shard(block, y)) is not None:
                    return Trouble(shard, self.names[i], "output")
        for local, value in enumerate(self._losses()):
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
        versions: flat vectors ``(network.size,)``; if one is updated in place, later
            passes compute with the new values.
    """

    def __init__(
        self,
        network: Network,
        loss: AnyLoss,
        versions: Sequence[NDArray[Any]],
        targets: TargetForm,
        gradients: NDArray[Any] | None = None,
        *,
        seed: int = 0,
        meeting: Meeting | None = None,
        kind: type[Pass] = Pass,
        weighted: bool = False,
    ) -> None:
        """Bind.

        Args:
            network: the description.
            loss: the description.
            versions: of the parameters.
            targets: what the data set's targets look like.
            gradients: ``(shards, network.size)``, for at least as many shards as any arrangement
                has; by default memory of the replica's own.
            seed: of the experiment.
            meeting: with the other ranks of a training step; by default there are none.
            kind: of the passes in training.
            weighted: whether rows have weights in training.
        """
        self.network = network
        self.loss = loss
        self.versions = tuple(versions)
        self.targets = targets
        self._gradients = gradients
        self._seed = seed
        self._kind = kind
        self._weighted = weighted
        self._meeting = meeting or Alone()
        self._workspaces: dict[Arrangement, Workspace] = {}
        self._passes: dict[tuple[Arrangement, int], Pass] = {}

    def pass_over(self, arrangement: Arrangement, version: int = 0) -> Pass:
        """Return the pass for an arrangement of shards, made at the first call and then kept."""
        found = self._passes.get((arrangement, version))
        if found is None:
            workspace = self._workspaces.setdefault(arrangement, Workspace())
            workspace.rewind()
            self._meeting.rewind()
            kind = self._kind if arrangement.training else Pass
            found = kind(
                self.network,
                self.loss,
                self.versions[version],
                self._gradient_rows(arrangement),
                arrangement,
                self.targets,
                workspace,
                seed=self._seed,
                meeting=self._meeting,
                weighted=self._weighted,
            )
            self._passes[arrangement, version] = found
        return found

    def _gradient_rows(self, arrangement: Arrangement) -> NDArray[Any]:
        dtype = self.versions[0].dtype
        local = arrangement.last - arrangement.first
        if not arrangement.training:  # nothing is ever written there
            return np.broadcast_to(np.zeros((), dtype), (local, self.network.size))
        if self._gradients is None or local > len(self._gradients):
            self._gradients = aligned_empty((local, self.network.size), dtype)
        return self._gradients
