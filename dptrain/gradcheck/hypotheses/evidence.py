"""What is known of a step whose gradient is wrong, and how it may have come about."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.areas import Area
from dptrain.nn.network import Tensor

Array = NDArray[Any]


NOTHING = 1e-14  # of the largest element of all: rounding in place of 0
WRONG = 1e-9  # of a tensor's largest element
LARGEST = 1e3  # of a scaled element, so that a few senseless ones do not hide all others


class Hypothesis(NamedTuple):
    """A mistake that hits some part of a gradient, and the gradient that it would lead to.

    Attributes:
        kind: as of `Diagnosis`.
        sentence: likewise.
        predicted: flat ``(size,)``.
        placed: whether the sentence says already where it is.
    """

    kind: str
    sentence: str
    predicted: Array
    placed: bool = False


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a step's gradient comes about: as it should, but for what is given here.

    Attributes:
        weights: at which it is computed, flat ``(size,)``.
        step: whose rows are computed.
        targets: rearranges those of a shard.
        unweighed: shards whose rows count without their weights.
        swaps: what computes a layer or the loss in place of its formulas, by its place.
        counts: how often each shard counts, ``(present shards,)``.
        sent: returns what becomes, on its way to the optimizer, of the part of some shards.
    """

    weights: Array | None = None
    step: int | None = None
    targets: Callable[[Array], Array] | None = None
    unweighed: Sequence[int] | None = None
    swaps: Mapping[tuple[int, ...], Any] | None = None
    counts: Array | None = None
    sent: Callable[[slice, Array], Array] | None = None

    @property
    def computed(self) -> bool:
        """Whether the shards' parts themselves are other than they should be."""
        given = (self.weights, self.step, self.targets, self.unweighed, self.swaps)
        return any(each is not None for each in given)


class Past(NamedTuple):
    """An earlier step.

    Attributes:
        parameters: before it.
        shards: each shard's part of the gradient that it should have had.
    """

    parameters: Array
    shards: Array


@dataclass(frozen=True)
class Evidence:
    """A wrong gradient, and what the right one is made of.

    Attributes:
        tensors: those that are trained.
        found: the wrong gradient, flat ``(size,)``.
        right: the right gradient, flat.
        shards: each shard's part of it, ``(present shards, size)``.
        sizes: rows of these shards.
        ranks: each rank's range of shards, with those that are empty.
        batch_size: rows of a full minibatch.
        past: the steps before, the first first.
        parts: computes the shards' parts by a recipe; it raises where it cannot.
        labelled: computes the part that each row of the minibatch would have with each label,
            ``(classes, rows, size)``, and tells the labels; None where there are none.
        drawn: initial weights by the seed with which a rank might have drawn them itself.
        rows: computes the part that each training row has or would have, ``(rows, size)``, and
            tells which belong to the minibatch; None where rows cannot be told apart.
        compared: which elements are known, bool ``(size,)``; None: all.
        parameters: at which it was computed, flat, where that is of use.
        areas: the parts into which the exchange cuts the vector.
        bitwise: whether every bit should be right.
        step: whose gradient it is.
    """

    tensors: Sequence[Tensor]
    found: Array
    right: Array
    shards: Array
    sizes: tuple[int, ...]
    ranks: tuple[tuple[int, int], ...]
    batch_size: int
    past: Sequence[Past] = ()
    parts: Callable[[Recipe], Array] | None = None
    labelled: Callable[[], tuple[Array, Array]] | None = None
    drawn: Mapping[int, Array] = field(default_factory=dict)
    rows: Callable[[], tuple[Array, list[int]]] | None = None
    compared: Array | None = None
    parameters: Array | None = None
    areas: Sequence[Area] = ()
    bitwise: bool = False
    step: int = 0

    @cached_property
    def scale(self) -> Array:
        """What makes all tensors count alike, ``(size,)``; 0 for what is not trained."""
        found = np.zeros(self.found.shape)
        nothing = NOTHING * float(np.abs(self.shards).max(initial=0))
        for tensor in self.tensors:
            own = slice(tensor.start, tensor.stop)
            size = float(np.abs(self.shards[:, own]).max(initial=0))
            if size <= nothing:  # what should be 0, but for rounding, counts where it is not
                size = float(np.abs(np.nan_to_num(self.found[own])).max(initial=0))
            found[own] = 1 / (size * np.sqrt(tensor.stop - tensor.start)) if size else 0.0
        return found if self.compared is None else np.where(self.compared, found, 0.0)

    def residual(self, predicted: Array) -> float:
        """Return how far a prediction is from what was found, relatively, over all tensors."""
        with np.errstate(over="ignore", invalid="ignore"):  # bytes in the wrong order are anything
            left = _norm((self.found - predicted) * self.scale)
        size = _norm(self.found * self.scale) or _norm(self.right * self.scale)
        return left / size if size else float(left > 0)

    @cached_property
    def wrong(self) -> Array:
        """Which elements are wrong, bool ``(size,)``."""
        with np.errstate(invalid="ignore"):
            difference = np.abs(self.found - self.right)
        room = np.full(self.found.shape, np.inf)
        for tensor in self.tensors:
            own = slice(tensor.start, tensor.stop)
            largest = np.abs(self.right[own]).max(initial=0)
            room[own] = 0.0 if self.bitwise else WRONG * largest
        found: Array = ~(difference <= room) & (self.found != self.right)
        return found if self.compared is None else found & self.compared

    def within(self, which: Array) -> "Evidence":
        """Return what is known of some elements alone."""
        known = which if self.compared is None else which & self.compared
        return replace(self, compared=known)

    @property
    def rows_of_ranks(self) -> tuple[int, ...]:
        """Rows of every rank."""
        return tuple(sum(self.sizes[low:high]) for low, high in self.ranks)

    @property
    def owners(self) -> tuple[int, ...]:
        """Return the rank of every shard with rows."""
        owned = [r for r, (low, high) in enumerate(self.ranks) for _ in range(low, high)]
        return tuple(owned[: len(self.sizes)])

    def weighted(self, weights: Array) -> Array:
        """Return ``Σ α_s g_s``."""
        found: Array = np.asarray(weights, float) @ self.shards
        return found

    def is_wrong(self, tensor: Tensor) -> bool:
        """Return whether a tensor's gradient differs by more than rounding."""
        own = slice(tensor.start, tensor.stop)
        size = np.abs(self.right[own]).max(initial=0)
        with np.errstate(invalid="ignore"):
            difference = np.abs(self.found[own] - self.right[own]).max(initial=0)
        return not difference <= WRONG * size

    def part(self, rank: int) -> Array:
        """Return a rank's part of the right gradient."""
        low, high = self.ranks[rank]
        found: Array = self.shards[low:high].sum(axis=0)
        return found


def _norm(scaled: Array) -> float:
    """Return the norm of scaled elements, none of which counts for more than `LARGEST`."""
    bounded = np.nan_to_num(scaled, nan=LARGEST, posinf=LARGEST, neginf=-LARGEST)
    return float(np.linalg.norm(np.clip(bounded, -LARGEST, LARGEST)))
