"""What lies where in the shared memory of a run, as arrays over it.

Both sides compute the layout from the job and the number of workers; nothing about it travels.

==============  =====================================  ===========================================
region          shape                                  written by
==============  =====================================  ===========================================
arrivals        one word in two cache lines per rank   its rank: how far it has come
generation      one word                               the coordinator, to call the ranks back
parameters      2 x (size,)                            every rank its slice, in turns
slots           2 x slots x (size,)                    every rank its slice, in turns
gradients       (shards, size)                         the shard's rank; its slice by every rank
losses          (shards,) float64                      the shard's rank
squared norms   (norm chunks,) float64                 every rank those of its slice
tables          (shards, columns) float64 each         the shard's rank
records         (RING, ranks, len(Marks)) float64      every rank its row
step losses     (RING,) float64                        rank 0
==============  =====================================  ===========================================
"""

import math
import mmap
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dptrain.exchange.barrier import LINE_WORDS
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.marks import Marks
from dptrain.experiment.job import Job
from dptrain.optim.updater import norm_chunks

PAGE = 4096
# Steps whose records are kept until the coordinator has read them; see `protocol.lockstep`.
RING = 4096


def floats(values: NDArray[np.float64]) -> "memoryview[float]":
    """Return plain access to an array, several times as fast an element as the array's own."""
    return cast("memoryview[float]", values.data)


class _Layout:
    """Regions one after the other, each at the beginning of a page."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self.size = 0
        self._memory = memory

    def region(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return the next region; without memory only its size is counted."""
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        start, self.size = self.size, self.size + -(-count * dtype.itemsize // PAGE) * PAGE
        if self._memory is None:
            return np.empty((0,), dtype)
        flat: NDArray[Any] = np.frombuffer(self._memory, dtype, count, start)
        return flat.reshape(shape)


class Segment(NamedTuple):
    """The regions; see the module. ``words`` are arrivals and generation, as plain integers."""

    words: "memoryview[int]"
    generation_word: int
    states: tuple[TrainingState, TrainingState]
    gradients: NDArray[Any]
    losses: NDArray[np.float64]
    norms: NDArray[np.float64]
    tables: tuple[NDArray[np.float64], ...]
    records: NDArray[np.float64]
    step_losses: NDArray[np.float64]

    def arrivals(self, ranks: int) -> list[int]:
        """Return every rank's word."""
        return [self.words[rank * LINE_WORDS] for rank in range(ranks)]


def segment(job: Job, ranks: int, memory: mmap.mmap) -> Segment:
    """Return the arrays over mapped memory."""
    return _lay_out(job, ranks, _Layout(memory))


def segment_bytes(job: Job, ranks: int) -> int:
    """Return how much memory a run needs."""
    layout = _Layout(None)
    _lay_out(job, ranks, layout)
    return layout.size


def _lay_out(job: Job, ranks: int, layout: _Layout) -> Segment:
    size, dtype, shards = job.network.size, job.dtype, job.shards
    slots = len(job.updater.rule.slots)
    words = layout.region(((ranks + 1) * LINE_WORDS,), np.int64)
    states = tuple(
        TrainingState(
            layout.region((size,), dtype), [layout.region((size,), dtype) for _ in range(slots)]
        )
        for _ in range(2)
    )
    return Segment(
        words=words.data,
        generation_word=ranks * LINE_WORDS,
        states=(states[0], states[1]),
        gradients=layout.region((shards, size), dtype),
        losses=layout.region((shards,), np.float64),
        norms=layout.region((norm_chunks(size),), np.float64),
        tables=tuple(layout.region((shards, n), np.float64) for n in job.network.tables),
        records=layout.region((RING, ranks, len(Marks._fields)), np.float64),
        step_losses=layout.region((RING,), np.float64),
    )
