"""The one order in which anything is summed over shards: a fixed binary tree by stride doubling.

Over five shards: 0+1 and 2+3, then (0+1)+(2+3), then that + 4. An addition is written as a pair
``(into, other)``, meaning ``x[into] += x[other]``, and all additions stand in one list in the
order of their strides. Whoever owns the shards of an addition does it; the rest is done by whoever
reduces. The result is the same to the last bit however the list is shared out.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Protocol, Self, TypeVar


class Addition(NamedTuple):
    """``x[into] += x[other]``; then ``x[into]`` sums the shards ``into`` to ``last - 1``."""

    into: int
    other: int
    last: int


@lru_cache(maxsize=64)
def additions(leaves: int) -> tuple[Addition, ...]:
    """Return every addition of the tree over ``leaves`` shards, in order."""
    found: list[Addition] = []
    stride = 1
    while stride < leaves:
        found += [
            Addition(into, into + stride, min(into + 2 * stride, leaves))
            for into in range(0, leaves - stride, 2 * stride)
        ]
        stride *= 2
    return tuple(found)


@lru_cache(maxsize=256)
def owned_additions(leaves: int, first: int, last: int) -> tuple[Addition, ...]:
    """Return the additions that need only the shards ``first`` to ``last - 1``."""
    return tuple(a for a in additions(leaves) if first <= a.into and a.last <= last)


@lru_cache(maxsize=256)
def roots(leaves: int, first: int, last: int) -> tuple[int, ...]:
    """Return where the sums of an owner of ``first`` to ``last - 1`` stand: what it hands in."""
    consumed = {a.other for a in owned_additions(leaves, first, last)}
    return tuple(i for i in range(first, min(last, leaves)) if i not in consumed)


@lru_cache(maxsize=64)
def remaining_additions(leaves: int, bounds: tuple[int, ...]) -> tuple[Addition, ...]:
    """Return the additions left to whoever reduces.

    Args:
        leaves: number of shards with rows.
        bounds: ascending first shards of the owners, closed by the end of the last one's range.
    """
    done = {a for low, high in pairwise(bounds) for a in owned_additions(leaves, low, high)}
    return tuple(a for a in additions(leaves) if a not in done)


class Addable(Protocol):
    """Anything with ``+``."""

    def __add__(self, other: Self, /) -> Self:
        """Return the sum."""
        ...


T = TypeVar("T", bound=Addable)


def tree_sum(values: Iterable[T]) -> T:
    """Return the sum of at least one value in the order of the tree."""
    terms = list(values)
    for into, other, _ in additions(len(terms)):
        terms[into] = terms[into] + terms[other]
    return terms[0]
