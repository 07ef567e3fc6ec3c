"""What is known of a step whose gradient is wrong."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.nn.network import Tensor

Array = NDArray[Any]


class Hypothesis(NamedTuple):
    """A bug, and the gradient that it would lead to.

    Attributes:
        kind: as of `Diagnosis`.
        sentence: likewise.
        predicted: flat ``(size,)``.
    """

    kind: str
    sentence: str
    predicted: Array


class Past(NamedTuple):
    """An earlier step.

    Attributes:
        parameters: before it.
        gradient: that it should have had.
        parts: each rank's part of it.
    """

    parameters: Array
    gradient: Array
    parts: Sequence[Array] = ()


@dataclass(frozen=True)
class Evidence:
    """A wrong gradient, and what the right one is made of.

    Attributes:
        tensors: those that are trained.
        found: the wrong gradient, flat ``(size,)``.
        shards: each shard's part of the right one, ``(present shards, size)``.
        sizes: rows of these shards.
        ranks: each rank's range of shards, with those that are empty.
        batch_size: rows of a full minibatch.
        past: the steps before, the first first.
        at: computes the shards' parts with other weights.
        relabelled: computes them with the targets of every shard rearranged by a function.
        rows: computes each row's own part; None where rows cannot be told apart.
    """

    tensors: Sequence[Tensor]
    found: Array
    shards: Array
    sizes: tuple[int, ...]
    ranks: tuple[tuple[int, int], ...]
    batch_size: int
    past: Sequence[Past] = ()
    at: Callable[[Array], Array] | None = None
    relabelled: Callable[[Callable[[Array], Array]], Array] | None = None
    rows: Callable[[], Array] | None = None

    @cached_property
    def right(self) -> Array:
        """The right gradient."""
        total: Array = self.shards.sum(axis=0)
        return total

    @cached_property
    def scale(self) -> Array:
        """What makes all tensors count alike, ``(size,)``; 0 for what is not trained."""
        found = np.zeros(self.found.shape)
        for tensor in self.tensors:
            own = slice(tensor.start, tensor.stop)
            size = float(np.abs(self.shards[:, own]).max(initial=0))
            found[own] = 1 / (size * np.sqrt(tensor.stop - tensor.start)) if size else 0.0
        return found

    def residual(self, predicted: Array) -> float:
        """Return how far a prediction is from what was found, relatively, over all tensors."""
        with np.errstate(all="ignore"):
            left = np.linalg.norm((self.found - predicted) * self.scale)
            size = np.linalg.norm(self.found * self.scale) or np.linalg.norm(
                self.right * self.scale
            )
            found = float(left / size) if size else float(left > 0)
        return found if np.isfinite(found) else np.inf

    @property
    def rows_of_ranks(self) -> tuple[int, ...]:
        """Rows of every rank."""
        return tuple(sum(self.sizes[low:high]) for low, high in self.ranks)

    def rank_of(self, shard: int) -> int:
        """Return whose shard it is."""
        return next(r for r, (low, high) in enumerate(self.ranks) if low <= shard < high)

    def weighted(self, weights: Array) -> Array:
        """Return ``Σ α_s g_s``."""
        found: Array = np.asarray(weights, float) @ self.shards
        return found

    def spans(self) -> Iterator[tuple[Tensor, slice]]:
        """Yield every trained tensor with its place."""
        for tensor in self.tensors:
            yield tensor, slice(tensor.start, tensor.stop)
