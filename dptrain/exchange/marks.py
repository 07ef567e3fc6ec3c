"""When a rank did what in a step."""

from typing import NamedTuple


class Marks(NamedTuple):
    """Ends of the phases of a rank's step, in order, in seconds of the machine's monotonic clock.

    What an exchange does not do takes no time: its mark equals the one before.

    Attributes:
        began: the step.
        gathered: the rows, unless the step before did it.
        forwarded: the forward pass and the loss.
        computed: the backward pass, and the sums over the rank's own shards.
        prefetched: gathering the next step's rows.
        met: waiting for the other ranks' gradients.
        reduced: the sum over the ranks, and its norm where gradients are clipped.
        normed: waiting for the other ranks' norms.
        updated: applying the optimizer.
        committed: waiting for the other ranks' updates.
    """

    began: float
    gathered: float
    forwarded: float
    computed: float
    prefetched: float
    met: float
    reduced: float
    normed: float
    updated: float
    committed: float


# What a rank does between two marks, each with the index of the mark that ends it.
PHASES = (
    ("gather", 1),
    ("forward", 2),
    ("backward", 3),
    ("gather", 4),
    ("wait", 5),
    ("reduce+update", 6),
    ("wait", 7),
    ("reduce+update", 8),
    ("wait", 9),
)
COMPUTE = tuple(end for name, end in PHASES if name in ("gather", "forward", "backward"))
WAIT = tuple(end for name, end in PHASES if name == "wait")
UPDATE = tuple(end for name, end in PHASES if name == "reduce+update")
