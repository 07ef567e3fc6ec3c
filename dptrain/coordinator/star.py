"""A cluster whose gradients and weights travel over ZeroMQ; the coordinator sums and updates."""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from dptrain.arithmetic.shards import assign
from dptrain.coordinator.cluster import Cluster, ClusterSetup
from dptrain.errors import DptrainError, NonFiniteError, ProtocolError
from dptrain.exchange.engine import ShouldStop, StepsDone, TrainingState
from dptrain.exchange.marks import Marks, split
from dptrain.exchange.star import StarReducer
from dptrain.exchange.timeline import COORDINATOR
from dptrain.protocol.events import (
    Broadcast,
    Commit,
    Garbled,
    Instruction,
    Reduce,
    Spread,
    Take,
    TakeRows,
)
from dptrain.protocol.messages import Table, Weights, encode
from dptrain.protocol.star_progress import Collecting

# ranks send no marks behind their backward pass
LATER_MARKS = len(Marks._fields) - Marks._fields.index("computed") - 1


class StarCluster(Cluster):
    """Trains with worker processes over the star exchange.

    Attributes:
        exchange: ``"star"``.
    """

    exchange = "star"

    def __init__(self, setting: ClusterSetup, state: TrainingState) -> None:
        """Bind; ``state`` is what the first step begins with."""
        job, workers = setting.job, setting.workers
        self._reducer = StarReducer(job, workers, state.parameters, state.slots)
        spans = ((b.stop - b.start) * job.dtype.itemsize for b in self._reducer.buckets)
        longest = max(*spans, *(table.nbytes for table in self._reducer.tables), 0)
        self._update_seconds = 0.0
        # when each rank had sent its last gradient: then it waits, while its next rows are gathered
        self._sent: dict[int, float] = {}
        buckets, tables = len(self._reducer.buckets), len(job.network.tables)
        training = Collecting(assign(job.shards, workers), buckets, tables)
        super().__init__(setting, longest, buckets, training)

    def train(self, begin: int, end: int, stop: ShouldStop, every: int) -> Iterator[StepsDone]:  # noqa: ARG002
        """Carry out steps; stopped, the cluster can only be closed."""
        started = time.perf_counter()
        self._ask_to_train(begin, end)
        self._sent.clear()
        for _ in range(begin, end):
            if stop():
                return
            try:
                done = self._await_result(interruptible=False)
            except DptrainError:
                yield from self._committed_before(started)
                raise
            assert isinstance(done, Commit)
            if not math.isfinite(done.loss):
                raise NonFiniteError(f"step {done.step} has a loss that is not finite")
            now = time.perf_counter()
            yield self._done(done, now - started)
            started = now

    def _committed_before(self, started: float) -> Iterator[StepsDone]:
        """Yield the step that was committed by the last words of a rank that then died."""
        for each in self._results:
            if isinstance(each, Commit):
                yield self._done(each, time.perf_counter() - started)
        self._results.clear()

    def _done(self, commit: Commit, seconds: float) -> StepsDone:
        took = [marks[-1] - marks[0] for marks in commit.marks]
        marks = [[*each, *[each[-1]] * LATER_MARKS] for each in commit.marks]
        compute, _, _ = split(np.diff(marks, axis=1).mean(axis=0))
        wait = max(took) - compute
        update, self._update_seconds = self._update_seconds, 0.0
        exchange = max(0.0, seconds - compute - wait - update)
        if self._timeline is not None:
            self._timeline.add_steps(commit.step, [marks])
            for rank, each in enumerate(commit.marks):
                if rank in self._sent:
                    self._timeline.add(rank, "wait", self._sent[rank], each[0], commit.step)
                self._sent[rank] = each[-1]
        step = commit.step
        return StepsDone(step, step + 1, commit.loss, compute, exchange, wait, update)

    def state(self) -> TrainingState:
        """Return the weights and optimizer state after the last committed step."""
        return self._reducer.state()

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case Take(rank, bucket, roots):
                self._take(rank, bucket, roots)
            case TakeRows(rank, table, low, high):
                self._take_rows(rank, table, low, high)
            case Spread(step, table, shards):
                self._spread(step, table, shards)
            case Reduce(step, bucket, rows):
                self._reduce(step, bucket, rows)
            case Commit():
                self._reducer.commit()
                self._results.append(instruction)
            case Broadcast():
                for bucket in range(len(self._reducer.buckets)):
                    self._send_weights(self._setting.first_step, bucket, committed=True)
                self._results.append(instruction)

    def _take(self, rank: int, bucket: int, roots: tuple[int, ...]) -> None:
        try:
            self._reducer.take(bucket, roots, [frame.buffer for frame in self._frames])
        except ProtocolError as error:
            self._garbled(rank, error)

    def _take_rows(self, rank: int, table: int, low: int, high: int) -> None:
        try:
            self._reducer.take_rows(table, low, high, [frame.buffer for frame in self._frames])
        except ProtocolError as error:
            self._garbled(rank, error)

    def _garbled(self, rank: int, error: ProtocolError) -> None:
        self._tell(Garbled(self._machine.admission.members[rank], str(error), error))

    def _spread(self, step: int, table: int, shards: int) -> None:
        data = self._reducer.tables[table][:shards].data.cast("B")
        header = encode(Table(self._machine.generation, step, table))
        for peer in self._machine.admission.members.values():
            self._send(peer, header, data)

    def _reduce(self, step: int, bucket: int, rows: int) -> None:
        started = time.perf_counter()
        updated = self._reducer.reduce(step, bucket, rows)
        ended = time.perf_counter()
        self._update_seconds += ended - started
        if self._timeline is not None:
            self._timeline.add(COORDINATOR, "reduce+update", started, ended, step)
        for each in updated:
            self._send_weights(step + 1, each, committed=False)

    def _send_weights(self, step: int, bucket: int, *, committed: bool) -> None:
        data: Any = self._reducer.weights(bucket, committed=committed)
        header = encode(Weights(self._machine.generation, step, bucket))
        for peer in self._machine.admission.members.values():
            self._send(peer, header, data)
