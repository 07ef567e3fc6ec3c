"""Where bugs are put in, and what a patch can know: its rank, and what a rank hands in."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.zoo.bug import Patches
from dptrain.nn.calls import call
from dptrain.nn.passes import Pass
from dptrain.worker.shell import WorkerShell

# How many workers every habitat is run with.
WORLD = 3

Array = NDArray[Any]
Around = Callable[..., Any]
Patch = Callable[[Patches], None]


def wrap(patches: Patches, owner: Any, name: str, around: Around) -> None:
    """Have a function replaced by ``around(function, *arguments)``."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        return replaced

    patches.replace(owner, name, make)


class Here:
    """Which worker this process is.

    Attributes:
        rank: -1 in the coordinator, and in a worker that has not been welcomed yet.
    """

    rank = -1


here = Here()


def note_rank(patches: Patches) -> None:
    """Have `here` know the rank from the welcome on."""

    def build(original: Around, self: WorkerShell, welcome: Any) -> None:
        here.rank = welcome.rank
        original(self, welcome)

    wrap(patches, WorkerShell, "_build", build)


def own_rows(passed: Pass) -> int:
    """Return how many rows of the minibatch a rank has."""
    return sum(block.shards * block.rows for block in passed.blocks)


def ranks_with_rows(passed: Pass, shards: int) -> int:
    """Return how many of the ranks have rows, where the ``shards`` are assigned to `WORLD`."""
    size, larger = divmod(shards, WORLD)
    firsts = [rank * size + min(rank, larger) for rank in range(WORLD)]
    return sum(first < passed.rows for first in firsts)


def divide_by(patches: Patches, choose: Callable[[Pass], float]) -> None:
    """Have the gradient of the loss divided by something else than the minibatch's rows."""

    def backward(original: Around, self: Pass, ready: Any = None) -> None:
        rows = self.rows
        self.rows = choose(self)  # type: ignore[assignment]
        try:
            original(self, ready)
        finally:
            self.rows = rows

    wrap(patches, Pass, "backward", backward)


Alter = Callable[[Pass, int, Array], None]


def hand_in(patches: Patches, alter: Alter, rank: int | None = None) -> None:
    """Alter what a rank hands in, before anybody reads it.

    Args:
        patches: to apply.
        alter: is given the pass, the layer and ``(shards, parameters)``, the gradients of this
            layer in all of the rank's shards, summed to the rows `Pass.roots`.
        rank: which; all unless given.
    """
    note_rank(patches)

    def sums(original: Around, self: Pass, network: Any) -> Any:
        found = original(self, network)
        if self.blocks and rank in (None, here.rank):
            for layer, calls in found:
                if own := network.tensors[layer]:
                    rows = self.gradients[:, own[0].start : own[-1].stop]
                    calls.append(call(alter, self, layer, rows))
        return found

    wrap(patches, Pass, "_tree_sums", sums)


def each_root(change: Callable[[Array], Array]) -> Alter:
    """Return what changes every sum that is handed in by itself: ``(parameters,)``."""

    def alter(passed: Pass, _: int, rows: Array) -> None:
        with np.errstate(all="ignore"):
            for root in passed.roots:
                rows[root] = change(rows[root].copy())

    return alter
