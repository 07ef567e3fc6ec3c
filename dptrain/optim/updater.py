"""From a reduced gradient to new parameters, in chunks that stay in the cache.

The order is: clip the reduced gradient by its global norm, add the L1 penalty's and weight decay's
part, apply the rule. What is frozen stays as it is, and running averages move towards what stands
in the gradient's place; neither belongs to the norm. The squared norm is summed chunk by chunk in
float64 and over the chunks by the tree; these chunks, of `NORM_CHUNK` elements, depend on the
flat vector alone, so it does not matter which rank computes which.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from dptrain.arithmetic.tree import tree_sum
from dptrain.optim.links import L1, Array, Arrays, Clip, Link, Move, UpdateMoment
from dptrain.optim.rules import AnyRule
from dptrain.optim.schedules import AnySchedule

CHUNK = 65536  # measured: smaller ones cost more in calls than they save in cache misses
NORM_CHUNK = 4096  # small, so that a small network can be shared out over several workers


def norm_chunks(size: int) -> int:
    """Return the number of chunks in which the squared norm of a flat vector is summed."""
    return -(-size // NORM_CHUNK)


class Piece(NamedTuple):
    """The update of one chunk.

    Attributes:
        arrays: what is read and written.
        chain: the links in order, each with what it reads and writes.
    """

    arrays: Arrays
    chain: list[tuple[Link, Arrays]]


class Updater:
    """Applies one experiment's rule, schedule, weight decay and clipping.

    Attributes:
        clips: whether the whole reduced gradient must be known before any part is applied.
    """

    def __init__(
        self,
        rule: AnyRule,
        schedule: AnySchedule,
        *,
        weight_decay: float,
        clip_norm: float | None,
        decaying: Sequence[tuple[int, int]],
        l1: float = 0.0,
        dtype: np.dtype[Any],
        moving: Sequence[tuple[int, int, float]] = (),
    ) -> None:
        """Prepare the scratch memory.

        Args:
            rule: how to update.
            schedule: the learning rate of each step.
            weight_decay: λ; what it does is the rule's to say, see `Rule.weight_decay`.
            clip_norm: largest global norm of the reduced gradient, or None.
            decaying: ascending spans of the flat vector to which weight decay and L1 apply.
            l1: adds l1 sign(w) to the gradient; nothing where w is 0.
            dtype: of all arrays.
            moving: ascending spans that are not trained, each with how far its elements move
                towards the values in their gradient's place: 0 for what is frozen.
        """
        self.rule = rule
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.clips = clip_norm is not None
        self.l1 = l1
        self.decaying = list(decaying) if weight_decay or l1 else []
        self.moving = list(moving)
        self._scratch = np.empty(CHUNK, dtype)
        self._squares = np.empty(CHUNK, np.float64)

    def squared_norms(self, gradient: Array, first: int = 0) -> list[float]:
        """Return the squared norm of each chunk of a gradient ``(n,)``, in float64.

        The gradient is the whole flat vector, or a part of it that begins with a norm chunk, at
        element ``first``. Tensors that are not trained count as 0.
        """
        norms: list[float] = []
        for start in range(0, len(gradient), CHUNK):
            part = gradient[start : start + CHUNK]
            squares = np.multiply(part, part, dtype=np.float64, out=self._squares[: len(part)])
            for low, high, _ in self.moving:
                squares[max(0, low - first - start) : max(0, high - first - start)] = 0
            whole = len(part) // NORM_CHUNK * NORM_CHUNK
            norms += np.add.reduce(squares[:whole].reshape(-1, NORM_CHUNK), axis=1).tolist()
            if whole < len(part):
                norms.append(float(np.add.reduce(squares[whole:])))
        return norms

    def clip_factor(self, squared_norms: Sequence[float]) -> float:
        """Return the factor that clips the gradient: 1 or less; NaN for a non-finite gradient."""
        if self.clip_norm is None:
            return 1.0
        norm = math.sqrt(tree_sum(squared_norms))
        if not math.isfinite(norm):
            return math.nan
        return min(1.0, self.clip_norm / norm) if norm else 1.0

    def bind(
        self,
        start: int,
        stop: int,
        w: Array,
        g: Array,
        slots: Sequence[Array],
        new_w: Array,
        new_slots: Sequence[Array],
    ) -> list[Piece]:
        """Return the update of the elements ``start`` to ``stop - 1`` of flat vectors, as pieces.

        Args:
            start: first element.
            stop: behind the last element.
            w: flat parameters ``(size,)``.
            g: flat reduced gradient ``(size,)``; every update overwrites it.
            slots: the rule's state, flat arrays ``(size,)``.
            new_w: where the new parameters go; may be ``w``.
            new_slots: where the new state goes; may be ``slots``.
        """
        pieces = []
        for low, high in self._chunks(start, stop):
            arrays = Arrays(
                w[low:high],
                g[low:high],
                [s[low:high] for s in slots],
                new_w[low:high],
                [s[low:high] for s in new_slots],
                self._scratch[: high - low],
            )
            chain, given = [], arrays
            for link in self.links(low):
                chain.append((link, given))
                given = link.behind(given)
            pieces.append(Piece(arrays, chain))
        return pieces

    def links(self, place: int) -> list[Link]:
        """Return the operations on an element of the flat vector, in order."""
        for low, high, rate in self.moving:
            if low <= place < high:
                return [Move(rate)]
        chain: list[Link] = [Clip()] if self.clips else []
        if any(low <= place < high for low, high in self.decaying):
            chain += [L1(self.l1)] if self.l1 else []
            chain += [self.rule.weight_decay(self.weight_decay)] if self.weight_decay else []
        return [*chain, self.rule]

    def update(self, step: int, pieces: Sequence[Piece], factor: float = 1.0) -> None:
        """Apply the update of a step, counted from 0; ``factor`` is that of `clip_factor`."""
        at = UpdateMoment(step, self.schedule(step), factor)
        for piece in pieces:
            for link, arrays in piece.chain:
                link.update(arrays, at)

    def _chunks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield chunks of a span, cut where elements begin to which other links apply."""
        special = [*self.decaying, *((low, high) for low, high, _ in self.moving)]
        inside = {edge for span in special for edge in span if start < edge < stop}
        for begin, end in pairwise([start, *sorted(inside), stop]):
            for low in range(begin, end, CHUNK):
                yield low, min(low + CHUNK, end)
