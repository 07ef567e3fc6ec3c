"""The shared exchange, as a worker carries it out: steps in lockstep, without a message.

One step of W ranks, with P bytes of parameters; everything lies in shared memory.

1. Each rank computes the gradients of its shards with the weights of this step's parity, sums its
   complete subtrees while they are in its cache, and *arrives*. Then it gathers the rows of the
   next step, so that the others' delay costs it nothing.
2. When all have arrived, each rank finishes the tree on its slice of the flat vector, reading
   W x P/W bytes, and applies the optimizer to it: it reads the weights and the optimizer's state
   of this parity, and writes those of the other. It *finishes* the step.
3. When all have finished, the step is committed: the words of all ranks say so. Nothing that
   belongs to the committed step is written before the next one is committed.

With clipping the ranks meet once more between 2's sums and its update, to learn the norm of the
whole gradient.
"""

import math
import struct
import time
from typing import NamedTuple

from dptrain.arithmetic.shards import assign, edges, present_shards
from dptrain.arithmetic.tree import Addition, remaining_additions
from dptrain.errors import DptrainError
from dptrain.exchange.barrier import Barrier
from dptrain.exchange.collective import Collective, SharedMeeting
from dptrain.exchange.engine import ReportAlive, unheard
from dptrain.exchange.marks import Marks
from dptrain.exchange.rank import Rank, Share
from dptrain.exchange.segment import RING, Segment, floats
from dptrain.exchange.slices import SliceUpdate, slices
from dptrain.experiment.job import Job
from dptrain.nn.passes import ShardedPass, Trouble
from dptrain.optim.updater import NORM_CHUNK

_RECORD = struct.Struct(f"{len(Marks._fields)}d")


class LossNotFinite(DptrainError):  # noqa: N818 - reported, not raised to a user
    """A step's loss is not a number.

    Attributes:
        step: which.
        trouble: where it began, if this rank is the one to tell.
    """

    def __init__(self, step: int, trouble: Trouble | None) -> None:
        super().__init__()
        self.step = step
        self.trouble = trouble


class _Shape(NamedTuple):
    """What steps with the same number of rows and the same parity have in common.

    Attributes:
        additions: of the tree, those that are left to whoever reduces.
        update: of this rank's slice.
    """

    additions: tuple[Addition, ...]
    update: SliceUpdate


class LockstepRank:
    """One rank of the shared exchange."""

    def __init__(
        self,
        job: Job,
        shared: Segment,
        barrier: Barrier,
        rank: int,
        ranks: int,
        alive: ReportAlive = unheard,
    ) -> None:
        """Bind.

        Args:
            job: of the run.
            shared: memory of all ranks.
            barrier: where they meet.
            rank: this one.
            ranks: how many there are.
            alive: as in `Rank`.
        """
        self.job = job
        self.rank = rank
        self._shared = shared
        bounds = assign(job.shards, ranks)
        self._first, self._last = bounds[rank]
        self._edges = edges(bounds)
        self._slice = slices(job.network.size, ranks)[rank]
        self._collective = Collective(barrier)
        versions = [state.parameters for state in shared.states]
        own = shared.gradients[self._first : self._last]
        meeting = SharedMeeting(shared.tables, self._collective)
        self._waits = meeting.waits
        self._computes = Rank(job, versions, own, meeting, alive=alive)
        self._shapes: dict[tuple[int, int], _Shape] = {}
        self._losses = floats(shared.losses)
        self._step_losses = floats(shared.step_losses)
        self._records = shared.records.data.cast("B")
        self._record_bytes = ranks * _RECORD.size

    def run(self, begin: int, end: int) -> None:
        """Carry out the steps ``begin`` to ``end - 1``.

        Raises:
            LossNotFinite: all ranks stop at the same step, which is not committed.
            Recalled: the coordinator wants the ranks back; the open step is not committed.
        """
        for step in range(begin, end):
            self._step(step)

    def evaluate(
        self, split: str, first: int, last: int, step: int
    ) -> tuple[list[float], list[int]]:
        """Evaluate pieces of a split, as `Rank.evaluate`, with the weights after ``step`` steps."""
        return self._computes.evaluate(split, first, last, step % 2)

    def _step(self, step: int) -> None:
        now, meeting, computes = time.perf_counter, self._collective, self._computes
        began = now()
        meeting.begin(step)
        waits = self._waits
        waits.seconds = 0.0
        found = computes.gather(Share(step, self._first, self._last), step % 2)
        gathered = now()
        finite = True
        for root, loss in zip(found.roots, computes.forward(found), strict=True):
            self._losses[self._first + root] = loss
            finite = finite and math.isfinite(loss)
        forwarded = now()
        waited = waits.seconds
        if self.job.network.tables or (finite and found.blocks):  # others may wait for this rank
            computes.backward(found)
        computed = now()
        ran_forward, ran_backward = forwarded - waited, computed - (waits.seconds - waited)
        meeting.arrive()
        # rows that brought no finite loss must stay where they are, to be looked at
        if finite and step + 1 < self.job.total_steps:
            computes.gather(Share(step + 1, self._first, self._last), (step + 1) % 2)
        prefetched = now()
        meeting.wait()
        met = now()
        shape = self._shape(found.rows, step % 2)
        self._check_loss(step, found, shape)
        reduced, normed = self._reduce_and_update(step, shape.update, met)
        updated = now()
        meeting.finish()
        meeting.wait()
        _RECORD.pack_into(
            self._records,
            step % RING * self._record_bytes + self.rank * _RECORD.size,
            *(began, gathered, ran_forward, forwarded, ran_backward, computed),
            *(prefetched, met, reduced, normed, updated),
            now(),
        )

    def _check_loss(self, step: int, found: ShardedPass, shape: _Shape) -> None:
        """Complete the step's loss; end the step on all ranks alike where it is not finite."""
        values = self._losses.tolist()
        for into, other, _ in shape.additions:
            values[into] += values[other]
        if self.rank == 0:
            self._step_losses[step % RING] = values[0]
        if math.isfinite(values[0]):
            return
        own = [self._losses[self._first + root] for root in found.roots]
        if not all(map(math.isfinite, own)):
            raise LossNotFinite(step, self._computes.trouble(found) or _sum(found))
        roots_are_finite = all(map(math.isfinite, self._losses.tolist()))
        raise LossNotFinite(step, _sum(found) if self.rank == 0 and roots_are_finite else None)

    def _reduce_and_update(self, step: int, update: SliceUpdate, met: float) -> tuple[float, float]:
        """Return when the slice was reduced, and when its norm was known."""
        updater = self.job.updater
        if not updater.clips:
            update.run(step)
            return met, met
        norms = self._shared.norms
        own = update.reduce()
        first = self._slice[0] // NORM_CHUNK
        norms[first : first + len(own)] = own
        reduced = time.perf_counter()
        self._collective.arrive()
        self._collective.wait()
        normed = time.perf_counter()
        update.update(step, updater.clip_factor(norms.tolist()))
        return reduced, normed

    def _shape(self, rows: int, version: int) -> _Shape:
        found = self._shapes.get((rows, version))
        if found is None:
            leaves = present_shards(rows, self.job.shards)
            states = self._shared.states
            update = SliceUpdate(
                self.job,
                self._shared.gradients,
                self._edges,
                (self._first, self._last),
                self._slice,
                leaves,
                old=states[version],
                new=states[1 - version],
            )
            found = _Shape(remaining_additions(leaves, self._edges), update)
            self._shapes[rows, version] = found
        return found


def _sum(found: ShardedPass) -> Trouble:
    return Trouble(found.first, "sum over the shards", "value")
