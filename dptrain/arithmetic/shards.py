"""How a minibatch is split: shards of rows, blocks of equal shards, and who owns which shards.

The number of shards belongs to the experiment, the number of workers to the execution. Nothing
here depends on the workers except `assign`, and nothing that `assign` decides can change a number.
"""

from itertools import pairwise
from typing import NamedTuple


class Block(NamedTuple):
    """Neighbouring shards of one size, computed together as an array ``(shards, rows, …)``.

    Attributes:
        first: index of the first shard.
        shards: how many shards.
        rows: rows of each shard.
        start: row of the minibatch at which the block begins.
    """

    first: int
    shards: int
    rows: int
    start: int


def default_shards(workers: int) -> int:
    """Return the smallest power of two that is at least 4 and at least ``workers``."""
    return 1 << max(2, (workers - 1).bit_length())


def present_shards(rows: int, shards: int) -> int:
    """Return how many of the shards have rows; the empty ones are always the last."""
    return min(rows, shards)


def shard_sizes(rows: int, shards: int) -> tuple[int, ...]:
    """Return the rows of every shard that has any."""
    return tuple(b.rows for b in blocks(rows, shards, 0, shards) for _ in range(b.shards))


def blocks(rows: int, shards: int, first: int, last: int) -> tuple[Block, ...]:
    """Return the blocks of the shards ``first`` to ``last - 1`` of a minibatch of ``rows`` rows.

    Shard sizes differ by at most one, the larger shards come first, and empty shards are left
    out; so there are at most two blocks.
    """
    size, larger = divmod(rows, shards)
    found = []
    for begin, end, each in ((0, larger, size + 1), (larger, shards, size)):
        low, high = max(begin, first), min(end, last)
        if low < high and each > 0:
            start = low * size + min(low, larger)
            found.append(Block(low, high - low, each, start))
    return tuple(found)


def assign(shards: int, world_size: int) -> tuple[tuple[int, int], ...]:
    """Return for each rank the half-open range of shards it owns; sizes differ by at most one."""
    size, larger = divmod(shards, world_size)
    bounds = [rank * size + min(rank, larger) for rank in range(world_size + 1)]
    return tuple(pairwise(bounds))


def edges(bounds: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Return the ranks' ranges as ascending edges, as `remaining_additions` takes them."""
    return (*(low for low, _ in bounds), bounds[-1][1])
