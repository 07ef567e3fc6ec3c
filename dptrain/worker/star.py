"""The star exchange, as a worker carries it out: weights in, gradients out, bucket by bucket."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from dptrain.errors import ProtocolError
from dptrain.exchange.buckets import buckets
from dptrain.exchange.engine import ReportAlive
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job
from dptrain.nn.context import Meet, Waits
from dptrain.nn.passes import ShardedPass, Trouble
from dptrain.protocol.messages import Gradient, Rows, encode
from dptrain.protocol.worker import Compute


def receive(connection: "zmq.Socket[bytes]", target: NDArray[Any], what: str) -> None:
    """Receive the frame behind a message into an array.

    Raises:
        ProtocolError: there is no such frame, or it is not as long.
    """
    if not connection.get(zmq.RCVMORE):
        raise ProtocolError(f"{what} came without their frame")
    if connection.recv_into(target.data.cast("B")) != target.nbytes:
        raise ProtocolError(f"{what} came in a frame of the wrong length")


class StarMeeting:
    """Tables that go to the coordinator by rows and come back whole; see `Meeting`.

    Attributes:
        order: the step under way.
        waits: for the others' rows.
    """

    def __init__(self, connection: "zmq.Socket[bytes]", listen: Callable[[], None]) -> None:
        """Bind.

        Args:
            connection: to the coordinator.
            listen: handles the next message, from within a pass; raises `Recalled` where the run
                ends.
        """
        self.order: Compute | None = None
        self.waits = Waits()
        self._socket = connection
        self._listen = listen
        self._next = 0
        self._awaited: tuple[int, NDArray[np.float64]] | None = None

    def rewind(self) -> None:
        """Begin anew with the first table."""
        self._next = 0

    def table(self, shards: int, columns: int) -> tuple[NDArray[np.float64], Meet]:
        """Return the next table, and the call that has it filled."""
        table = np.empty((shards, columns))
        number = self._next
        self._next += 1
        return table, Meet(partial(self._meet, number, table), self.waits)

    def _meet(self, number: int, table: NDArray[np.float64]) -> None:
        order = self.order
        assert order is not None
        self._awaited = number, table
        self._socket.send(encode(Rows(order.generation, order.step, number)), zmq.SNDMORE)
        self._socket.send(table[order.first : order.last].tobytes())
        while self._awaited is not None:
            self._listen()

    def take(self, number: int) -> None:
        """Receive the frame of a table.

        Raises:
            ProtocolError: this table is not awaited, or there is no such frame.
        """
        if self._awaited is None or self._awaited[0] != number:
            raise ProtocolError(f"table {number} came where it was not awaited")
        receive(self._socket, self._awaited[1], "rows")
        self._awaited = None


class StarRank:
    """One rank of the star exchange.

    Attributes:
        buckets: in how many messages weights and gradients travel.
    """

    def __init__(
        self,
        job: Job,
        connection: "zmq.Socket[bytes]",
        listen: Callable[[], None],
        alive: ReportAlive,
    ) -> None:
        """Bind.

        Args:
            job: of the run.
            connection: to the coordinator.
            listen: handles the next message, from within a pass; raises `Recalled` at the end.
            alive: as in `Rank`.
        """
        self._socket = connection
        self._buckets = buckets(job.network, job.dtype.itemsize)
        self.buckets = len(self._buckets)
        self._weights: NDArray[Any] = np.empty(job.network.size, job.dtype)
        self._meeting = StarMeeting(connection, listen)
        self._rank = Rank(job, [self._weights], meeting=self._meeting, alive=alive)

    def take_table(self, number: int) -> None:
        """Receive the frame of a table; see `StarMeeting.take`."""
        self._meeting.take(number)

    def take(self, bucket: int) -> None:
        """Receive the frame of a bucket of the weights.

        Raises:
            ProtocolError: there is no such frame.
        """
        _, start, stop = self._buckets[bucket]
        target = self._weights[start:stop]
        receive(self._socket, target, "weights")

    def compute(self, order: Compute) -> Trouble | None:
        """Compute a step's gradient and send it; return where the loss is not a number, if so."""
        rank = self._rank
        self._meeting.order = order
        self._meeting.waits.seconds = 0.0
        began = time.perf_counter()
        found = rank.gather(Share(order.step, order.first, order.last))
        gathered = time.perf_counter()
        losses = rank.forward(found)
        forwarded = time.perf_counter()
        waited = self._meeting.waits.seconds
        if not np.isfinite(losses).all():
            return rank.trouble(found) or Trouble(order.first, "sum over the shards", "value")
        sender = _Sender(
            self, order, found, losses, [began, gathered, forwarded - waited, forwarded]
        )
        rank.backward(found, sender.ready)
        if order.more:
            rank.gather(Share(order.step + 1, order.first, order.last))
        return None

    def evaluate(
        self,
        split: str,
        first: int,
        last: int,
        step: int,  # noqa: ARG002 - one signature for all ranks: here is one vector of weights only
    ) -> tuple[list[float], list[int]]:
        """Evaluate pieces of a split with the weights that came last; see `Rank.evaluate`."""
        return self._rank.evaluate(split, first, last)

    def send(
        self,
        number: int,
        order: Compute,
        found: ShardedPass,
        losses: list[float],
        marks: list[float],
    ) -> None:
        """Send a bucket of the gradient, a frame for each root."""
        _, start, stop = self._buckets[number]
        ended = time.perf_counter()
        _, _, ran_forward, forwarded = marks
        waited = self._meeting.waits.seconds - (forwarded - ran_forward)
        times = [*marks, ended - waited, ended]
        header = Gradient(order.generation, order.step, number, losses, times)
        frames = [found.gradients[root, start:stop].data for root in found.roots]
        self._socket.send(encode(header), zmq.SNDMORE if frames else 0)
        for i, frame in enumerate(frames):
            more = zmq.SNDMORE if i < len(frames) - 1 else 0
            self._socket.send(frame, more, copy=False)

    def last_layer(self, number: int) -> int:
        """Return the layer whose backward pass completes a bucket."""
        return self._buckets[number].layer


class _Sender:
    """Sends each bucket of a gradient as soon as the backward pass has completed it."""

    def __init__(
        self,
        rank: StarRank,
        order: Compute,
        found: ShardedPass,
        losses: list[float],
        marks: list[float],
    ) -> None:
        self._rank = rank
        self._what = (order, found, losses, marks)
        self._next = 0

    def ready(self, layer: int) -> None:
        """Send the buckets that are complete once ``layer`` is."""
        while self._next < self._rank.buckets and self._rank.last_layer(self._next) >= layer:
            self._rank.send(self._next, *self._what)
            self._next += 1
