"""The star exchange: gradients to the coordinator, weights back, as raw frames over ZeroMQ.

One step, with W workers and P bytes of parameters:

1. Each worker sends every bucket of its gradient as soon as it is final, one frame for each root
   (a complete subtree of shards), W x P bytes where every worker has one root.
   Where a layer needs to know of all shards in the middle of a pass, each worker sends its rows of
   a small table, and the coordinator sends the whole table back when all rows are there.
2. When all ranks have sent a bucket, the coordinator completes the tree sum, applies the optimizer
   to that span, and sends the new weights of the span to every rank, W x P bytes.

Both directions send without copying. That is safe because of what must have happened before a
buffer is written again: a worker overwrites its gradients only after it has received the next
weights, which the coordinator sends only after it has received those gradients whole; and the
coordinator writes step t+1 into the buffer that step t did not use.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign, edges, present_shards
from dptrain.arithmetic.tree import remaining_additions
from dptrain.errors import FrameLengthError
from dptrain.exchange.buckets import Bucket, buckets
from dptrain.exchange.engine import TrainingState
from dptrain.experiment.job import Job
from dptrain.optim.updater import Piece

Array = NDArray[Any]


class StarReducer:
    """The coordinator's side: sums, updates, and keeps the weights of two steps.

    Attributes:
        buckets: of the flat vector.
        tables: that the ranks fill together in a step, ``(shards, columns)`` each. They are sent
            without copying: nobody sends rows of the next step before every rank has all of this.
    """

    def __init__(
        self, job: Job, world_size: int, parameters: Array, slots: Sequence[Array]
    ) -> None:
        self.job = job
        self.buckets: tuple[Bucket, ...] = buckets(job.network, job.dtype.itemsize)
        self.tables = [np.empty((job.shards, columns)) for columns in job.network.tables]
        self._edges = edges(assign(job.shards, world_size))
        self._states = (
            TrainingState(parameters, list(slots)),
            # copies, since what is not trained has a place there that nobody ever writes
            TrainingState(np.empty_like(parameters), [s.copy() for s in slots]),
        )
        self._present = 0
        self._arrived: list[dict[int, Array]] = [{} for _ in self.buckets]
        self._sums: dict[int, Array] = {}
        self._gradient = np.empty_like(parameters)
        self._held: list[int] = []
        self._bound = [self._bind(0, 1), self._bind(1, 0)]

    def _bind(self, now: int, new: int) -> list[list[Piece]]:
        """Return for each bucket the update from one of the two states to the other."""
        old, later = self._states[now], self._states[new]
        return [
            self.job.updater.bind(
                start,
                stop,
                old.parameters,
                self._gradient,
                old.slots,
                later.parameters,
                later.slots,
            )
            for _, start, stop in self.buckets
        ]

    def state(self) -> TrainingState:
        """Return the weights and optimizer state after the last committed step."""
        return self._states[self._present]

    def take(self, bucket: int, roots: Sequence[int], frames: Sequence[Any]) -> None:
        """Keep a rank's sums of a bucket, one frame for each root, until they are reduced.

        Raises:
            FrameLengthError: the frames are not what the roots need.
        """
        _, start, stop = self.buckets[bucket]
        size = (stop - start) * self.job.dtype.itemsize
        lengths = [len(frame) for frame in frames]
        if lengths != [size] * len(roots):
            raise FrameLengthError(
                f"frames of {lengths} bytes for {len(roots)} roots of {size} bytes each"
            )
        for root, frame in zip(roots, frames, strict=True):
            self._arrived[bucket][root] = np.frombuffer(frame, self.job.dtype)

    def take_rows(self, table: int, low: int, high: int, frames: Sequence[Any]) -> None:
        """Put a rank's rows ``low`` to ``high - 1`` into a table.

        Raises:
            FrameLengthError: the frames are not these rows.
        """
        rows = self.tables[table][low:high]
        lengths = [len(frame) for frame in frames]
        if lengths != [rows.nbytes]:
            raise FrameLengthError(f"frames of {lengths} bytes for rows of {rows.nbytes} bytes")
        if low < high:
            rows[...] = np.frombuffer(frames[0], rows.dtype).reshape(rows.shape)

    def reduce(self, step: int, bucket: int, rows: int) -> list[int]:
        """Sum a bucket over all ranks and update; return the buckets whose new weights can be sent.

        With clipping nothing can be updated before the last bucket: its norm is that of the whole.
        """
        self._sum(bucket, present_shards(rows, self.job.shards))
        self._held.append(bucket)
        updater = self.job.updater
        factor = 1.0
        if updater.clips:
            if bucket + 1 < len(self.buckets):
                return []
            factor = updater.clip_factor(updater.squared_norms(self._gradient))
        done, self._held = self._held, []
        pieces = self._bound[self._present]
        with np.errstate(all="ignore"):
            for each in done:
                updater.update(step, pieces[each], factor)
        return done

    def _sum(self, bucket: int, leaves: int) -> None:
        _, start, stop = self.buckets[bucket]
        values = self._arrived[bucket]
        total = self._gradient[start:stop]
        additions = remaining_additions(leaves, self._edges)
        for into, other, last in additions:
            out = total if (into, last) == (0, leaves) else self._partial(into)[start:stop]
            values[into] = np.add(values[into], values[other], out=out)
        if not additions:
            np.copyto(total, values[0])
        values.clear()

    def _partial(self, root: int) -> Array:
        if root not in self._sums:
            self._sums[root] = np.empty_like(self._gradient)
        return self._sums[root]

    def commit(self) -> None:
        """Make the weights just computed the present ones."""
        self._present = 1 - self._present

    def weights(self, bucket: int, *, committed: bool) -> memoryview:
        """Return the bytes of a bucket of the present weights, or of those being computed."""
        _, start, stop = self.buckets[bucket]
        source = self._states[self._present if committed else 1 - self._present]
        return source.parameters[start:stop].data.cast("B")
