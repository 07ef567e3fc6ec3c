"""What a layer may need to know about its pass, besides its own buffers."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import Block


class Moment:
    """When a pass is computed; to be set before each pass.

    Attributes:
        step: counted from 0.
    """

    def __init__(self) -> None:
        self.step = 0


class Waits:
    """How long a rank has waited for others in the middle of a step's passes.

    Attributes:
        seconds: so far; to be set to 0 at the start of a step.
    """

    def __init__(self) -> None:
        self.seconds = 0.0


class Meet:
    """A call at which the ranks of a step meet; a pass that is looked at again leaves it out."""

    def __init__(self, meet: Callable[[], object], waits: Waits | None = None) -> None:
        self._meet = meet
        self._waits = waits

    def __call__(self) -> None:
        """Return when every rank has come so far."""
        if self._waits is None:
            self._meet()
            return
        began = time.perf_counter()
        self._meet()
        self._waits.seconds += time.perf_counter() - began


class Meeting(Protocol):
    """Hands out tables with a row for every shard, which the ranks fill together.

    The all-gather from which a layer makes an all-reduce: each rank writes the rows of its own
    shards, meets the others, and then reads all rows. Since it adds them up itself, in the order of
    the tree, every rank comes to the same bits. A pass takes its tables in a fixed order, the same
    on every rank, and each table serves once a step.
    """

    def rewind(self) -> None:
        """Start again with the first table."""
        ...

    def table(self, shards: int, columns: int) -> tuple[NDArray[np.float64], Meet]:
        """Return the next table ``(shards, columns)``, and the call that fills in others' rows."""
        ...


class Alone:
    """The meeting of a single rank, which has all shards."""

    def rewind(self) -> None:
        """Nothing to do: every table is new."""

    def table(self, shards: int, columns: int) -> tuple[NDArray[np.float64], Meet]:
        """Return a table and a call that does nothing."""
        return np.zeros((shards, columns)), Meet(_no_one_to_wait_for)


def _no_one_to_wait_for() -> None:
    """Every row is written by this rank."""


@dataclass(frozen=True)
class Context:
    """The pass, as its layers see it.

    Attributes:
        training: whether gradients of this minibatch are computed.
        blocks: of this rank's shards.
        sizes: rows of every shard of the minibatch that has any, also of other ranks' shards.
        seed: of the experiment.
        moment: when the pass is computed.
        meeting: with the other ranks of the step.
    """

    training: bool = True
    blocks: tuple[Block, ...] = ()
    sizes: tuple[int, ...] = ()
    seed: int = 0
    moment: Moment = field(default_factory=Moment)
    meeting: Meeting = field(default_factory=Alone)

    @property
    def rows(self) -> int:
        """Rows of the whole minibatch."""
        return sum(self.sizes)
