"""What the reference needs to know of a minibatch beside its rows, and what it notes down."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.reference.streams import DROPOUT, stream_at

Array = NDArray[Any]


@dataclass(frozen=True)
class Setting:
    """A training step, as the layers of the reference see it.

    Attributes:
        sizes: rows of every shard.
        seed: of the experiment.
        step: counted from 0.
        place: of the layer in the network.
        frozen: whether the layer's tensors stay as they are, one for each.
        swaps: what computes a layer in place of its formulas, by its place.
        branches: what decided on which side of a kink each element lies, in order.
        statistics: values of the minibatch that running averages move towards, by place.
        training: whether it is one; otherwise an evaluation.
    """

    sizes: tuple[int, ...]
    seed: int
    step: int
    place: tuple[int, ...] = ()
    frozen: tuple[bool, ...] = ()
    swaps: Mapping[tuple[int, ...], Any] = field(default_factory=dict)
    branches: list[bytes] = field(default_factory=list)
    statistics: dict[tuple[int, ...], list[Any]] = field(default_factory=dict)
    training: bool = True

    @property
    def rows(self) -> int:
        """Of the whole minibatch."""
        return sum(self.sizes)

    def at(self, *place: int, frozen: tuple[bool, ...]) -> "Setting":
        """Return the same for a layer further down."""
        return replace(self, place=(*self.place, *place), frozen=frozen)

    def branched(self, decided: Array) -> None:
        """Note down what depends on a comparison."""
        self.branches.append(np.ascontiguousarray(decided).tobytes())

    def uniform(self, shard: int, shape: tuple[int, ...]) -> Array:
        """Return the numbers from 0 to 1 that dropout draws for a shard, float32."""
        stream = stream_at(self.seed, self.step, DROPOUT, *self.place, shard)
        return stream.random(shape, dtype=np.float32)
