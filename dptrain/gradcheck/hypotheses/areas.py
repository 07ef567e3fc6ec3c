"""Which part of a flat vector is reduced, sent or updated as one piece, and by whom."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.exchange.buckets import buckets
from dptrain.exchange.slices import slices
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.experiment.job import Job
from dptrain.nn.network import Tensor
from dptrain.optim.updater import CHUNK

Array = NDArray[Any]

MOST_NAMES = 4  # of tensors, in a sentence


class Area(NamedTuple):
    """A part of the flat vector.

    Attributes:
        name: such as ``"rank 2's slice of the update"``.
        start: its first element.
        stop: behind its last.
    """

    name: str
    start: int
    stop: int


def areas(job: Job, exchange: str, workers: int) -> tuple[Area, ...]:
    """Return the parts into which an exchange cuts the vector, those without elements left out."""
    size = job.network.size
    if EXCHANGES[exchange].lockstep:
        cuts = enumerate(slices(size, workers))
        found = [Area(f"rank {r}'s slice of the update", low, high) for r, (low, high) in cuts]
    elif EXCHANGES[exchange].sockets:
        cut = enumerate(buckets(job.network, job.dtype.itemsize))
        found = [Area(f"the star's bucket {i}", start, stop) for i, (_, start, stop) in cut]
    else:
        edges = enumerate(pairwise([*range(0, size, CHUNK), size]))
        found = [Area(f"chunk {i} of the update", low, high) for i, (low, high) in edges]
    return tuple(each for each in found if each.start < each.stop)


def place(which: Array, tensors: Sequence[Tensor], parts: Sequence[Area]) -> str:
    """Return where some elements of a flat vector stand, in words.

    Args:
        which: bool ``(size,)``.
        tensors: that the vector consists of.
        parts: into which it is cut; named where the elements stand in some of them only.
    """
    places = np.flatnonzero(which)
    first, last = int(places[0]), int(places[-1])
    words = f"element {first}" if first == last else f"elements {first} to {last}"
    if len(places) < last - first + 1:
        words += f", {len(places):,} of them"
    own = [part.name for part in parts if which[part.start : part.stop].any()]
    if 0 < len(own) < len(parts):
        words += f", {' and '.join(own)}"
    names = [
        f"{t.name} ({np.count_nonzero(which[t.start : t.stop]):,} of {t.stop - t.start:,})"
        for t in tensors
        if which[t.start : t.stop].any()
    ]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{words}, in {', '.join(names[:MOST_NAMES])}{more}"
