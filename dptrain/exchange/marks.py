"""When a rank did what in a step."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Marks(NamedTuple):
    """Ends of the phases of a rank's step, in order, in seconds of the machine's monotonic clock.

    What an exchange does not do takes no time: its mark equals the one before. Ranks may also wait
    for each other in the middle of a pass; that counts as if it stood at the end of the pass.

    Attributes:
        began: the step.
        gathered: the rows, unless the step before did it.
        ran_forward: the forward pass and the loss, without waiting.
        forwarded: the waiting in the forward pass.
        ran_backward: the backward pass, and the sums over the rank's own shards, without waiting.
        computed: the waiting in the backward pass.
        prefetched: gathering the next step's rows.
        met: waiting for the other ranks' gradients.
        reduced: the sum over the ranks, and its norm where gradients are clipped.
        normed: waiting for the other ranks' norms.
        updated: applying the optimizer.
        committed: waiting for the other ranks' updates.
    """

    began: float
    gathered: float
    ran_forward: float
    forwarded: float
    ran_backward: float
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
    ("wait", 3),
    ("backward", 4),
    ("wait", 5),
    ("gather", 6),
    ("wait", 7),
    ("reduce+update", 8),
    ("wait", 9),
    ("reduce+update", 10),
    ("wait", 11),
)
_COMPUTE = [end - 1 for name, end in PHASES if name in ("gather", "forward", "backward")]
_WAIT = [end - 1 for name, end in PHASES if name == "wait"]
_UPDATE = [end - 1 for name, end in PHASES if name == "reduce+update"]


def split(phases: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the seconds of compute, waiting and update from those between `Marks`, ``(11,)``."""
    compute, wait, update = (float(phases[own].sum()) for own in (_COMPUTE, _WAIT, _UPDATE))
    return compute, wait, update
