"""Passes over shards with a network of the user's own.

Every shard is given to the network by itself, also where a rank has several, so that what it
computes does not depend on who computes it. Its mean gradient counts by its rows: n / N of the
minibatch's.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.nn.passes import Arrangement, ShardedPass, TargetForm, Trouble
from dptrain.nn.workspace import aligned_empty
from dptrain.own.model import OwnModel
from dptrain.own.network import OwnNetwork, Seeds

Array = NDArray[Any]


class _Shard(NamedTuple):
    """The buffers of one shard.

    Attributes:
        x: what the network gets: rows ``(n, *input_shape)``.
        t: what the network gets: class numbers, one-hot rows or real targets.
        targets: as the data set has them.
        hot: memory behind ``t`` where that is one-hot rows.
        gradients: where the gradients go, by name, and behind them the state.
        share: of the minibatch's rows.
    """

    x: Array
    t: Array
    targets: Array
    hot: Array | None
    gradients: dict[str, Array]
    share: float


def _rows(shard: _Shard) -> tuple[Array, Array]:
    """Return the rows and their targets for a call, one-hot where the network wants that.

    They are new arrays: code that keeps what it has computed of some rows, and looks whether it
    has got the same again, would take other rows in the same memory for them.
    """
    if shard.hot is not None:
        shard.hot[...] = 0
        shard.hot[np.arange(len(shard.targets)), shard.targets] = 1
    return _read_only(shard.x.copy()), _read_only(shard.t.copy())


class OwnPass(ShardedPass):
    """One arrangement of shards."""

    def __init__(
        self,
        network: OwnNetwork,
        sample_shape: tuple[int, ...],
        parameters: Array,
        gradients: Array,
        arrangement: Arrangement,
        targets: TargetForm,
        seeds: Seeds,
    ) -> None:
        super().__init__(arrangement, gradients)
        self._network = network
        self._model = network.model
        self._complex: OwnModel | None = None
        self._shards_of_minibatch = arrangement.shards
        self._training = arrangement.training
        self._seeds = seeds
        self._weights = network.views(parameters)
        counts = [block.shards * block.rows for block in self.blocks]
        self.inputs = [aligned_empty((n, *sample_shape), parameters.dtype) for n in counts]
        self.targets = [aligned_empty((n, *targets.shape), targets.dtype) for n in counts]
        self._shards = [
            self._shard(x[low : low + block.rows], t[low : low + block.rows], block.first + i)
            for block, x, t in zip(self.blocks, self.inputs, self.targets, strict=True)
            for i, low in enumerate(range(0, block.shards * block.rows, block.rows))
        ]
        self._losses: list[float] = []

    def _shard(self, x: Array, targets: Array, shard: int) -> _Shard:
        form = self._network.form
        hot = np.empty((len(x), form.classes), x.dtype) if form.one_hot else None
        plain = targets.reshape(-1) if form.flat else targets
        views = self._network.views(self.gradients[shard - self.first]) if self._training else {}
        return _Shard(
            _read_only(x.reshape(len(x), *form.inputs)),
            _read_only(plain if hot is None else hot),
            targets,
            hot,
            views,
            len(x) / self.rows,
        )

    def forward(self) -> list[float]:
        """Return each local shard's sum of its rows' losses; in training, write its gradients.

        Both at once: the networks themselves compute the one with the other.
        """
        self._model.load(list(self._weights.values()))
        self._losses = [self._computed(i, shard) for i, shard in enumerate(self._shards)]
        return self._losses

    def losses(self) -> list[float]:
        """Return each local shard's sum of its rows' losses, and compute no gradients."""
        self._model.load(list(self._weights.values()))
        return [self._loss(i, shard) for i, shard in enumerate(self._shards)]

    def _loss(self, i: int, shard: _Shard) -> float:
        x, t = _rows(shard)
        loss = self._model.loss(x, t, self._seed(i), training=self._training)
        return loss * len(shard.x)

    def _seed(self, i: int) -> int:
        if not self._training:
            return self._seeds.evaluation
        return self._seeds.training(self.moment.step, self._shards_of_minibatch, self.first + i)

    def _computed(self, i: int, shard: _Shard) -> float:
        if not self._training:
            return self._loss(i, shard)
        x, t = _rows(shard)
        loss, gradients = self._model.loss_and_gradient(x, t, self._seed(i))
        left = [*gradients.values(), *self._model.state()]
        for each, place in zip(left, shard.gradients.values(), strict=True):
            np.multiply(each, shard.share, out=place, casting="same_kind")
        self.alive()
        return loss * len(x)

    def complex_losses(self, parameters: Array) -> list[complex]:
        """Return each shard's mean loss with complex weights ``(size,)``.

        Raises whatever the network's code raises: it may not be made for complex numbers.
        """
        if self._complex is None:
            self._complex = self._model.with_arrays(complex)
        weights = list(self._network.views(parameters).values())[: len(self._complex.params)]
        state = list(self._weights.values())[len(weights) :]
        self._complex.load([*weights, *state])
        return [
            self._complex.complex_loss(*_rows(shard), self._seed(i))
            for i, shard in enumerate(self._shards)
        ]

    def called(self, shard: int, seed: int) -> tuple[float, dict[str, Array], list[str]]:
        """Call the network with one shard's rows.

        Args:
            shard: which, of those of this pass.
            seed: of what the network draws.

        Returns:
            The mean loss, its gradients, and the names of weights that the call has changed.
        """
        own = self._shards[shard]
        self._model.load(list(self._weights.values()))
        now = self._model.params  # which may have fewer digits than what was loaded
        before = {name: each.copy() for name, each in now.items()}
        loss, gradients = self._model.loss_and_gradient(*_rows(own), seed)
        copies = {name: np.array(each) for name, each in gradients.items()}
        changed = [name for name, each in before.items() if not np.array_equal(now[name], each)]
        return loss, copies, changed

    def backward(self, ready: Callable[[int], None] | None = None) -> None:
        """Sum the gradients, which are there already, over the tree; see `ShardedPass`."""
        for i in range(len(self._network.tensors) - 1, -1, -1):
            (tensor,) = self._network.tensors[i]
            rows = self.gradients[:, tensor.start : tensor.stop]
            for into, other in self.additions:
                np.add(rows[into], rows[other], rows[into])
            if ready is not None:
                ready(i)

    def correct(self) -> list[int]:
        """Return for each shard how many rows are given their own class; see `OwnModel.correct`."""
        classes, seed = self._network.form.classes, self._seeds.evaluation
        return [
            self._model.correct(*_rows(shard), shard.targets, classes, seed)
            for shard in self._shards
        ]

    def trouble(self) -> Trouble | None:
        """Return where the first infinity or NaN stands; nobody can look into the network."""
        for i, shard in enumerate(self._shards):
            if not np.isfinite(shard.x).all():
                return Trouble(self.first + i, "input", "value")
        for name, weights in self._weights.items():
            if not np.isfinite(weights).all():
                return Trouble(self.first, name, "weights")
        for i, loss in enumerate(self._losses):
            if not np.isfinite(loss):
                return Trouble(self.first + i, "loss", "value")
        return None


def _read_only(array: Array) -> Array:
    """Return a view through which the network cannot change what others will read."""
    view = array.view()
    view.flags.writeable = False
    return view


class OwnReplica:
    """A network of the user's own bound to flat parameter vectors; as `dptrain.nn.passes.Replica`.

    Attributes:
        network: the description.
        versions: flat vectors ``(network.size,)``.
    """

    def __init__(
        self,
        network: OwnNetwork,
        sample_shape: tuple[int, ...],
        versions: Sequence[Array],
        targets: TargetForm,
        gradients: Array | None = None,
        *,
        seed: int = 0,
    ) -> None:
        """Bind.

        Args:
            network: the description.
            sample_shape: of one sample of the data set.
            versions: of the parameters.
            targets: what the data set's targets look like.
            gradients: ``(shards, network.size)``, for at least as many shards as any arrangement
                has; by default memory of the replica's own.
            seed: of the experiment.
        """
        self.network = network
        self.versions = tuple(versions)
        self._sample_shape = sample_shape
        self._targets = targets
        self._gradients = gradients
        self._seeds = Seeds(seed)
        self._passes: dict[tuple[Arrangement, int], OwnPass] = {}

    def pass_over(self, arrangement: Arrangement, version: int = 0) -> OwnPass:
        """Return the pass for an arrangement of shards, made at the first call and then kept."""
        found = self._passes.get((arrangement, version))
        if found is None:
            found = self._passes[arrangement, version] = OwnPass(
                self.network,
                self._sample_shape,
                self.versions[version],
                self._gradient_rows(arrangement),
                arrangement,
                self._targets,
                self._seeds,
            )
        return found

    def _gradient_rows(self, arrangement: Arrangement) -> Array:
        local = arrangement.last - arrangement.first if arrangement.training else 0
        if self._gradients is None or local > len(self._gradients):
            shape = (local, self.network.size)
            self._gradients = aligned_empty(shape, self.versions[0].dtype)
        return self._gradients
