"""The star exchange, as a worker carries it out: weights in, gradients out, bucket by bucket."""

import time
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray

from dptrain.errors import ProtocolError
from dptrain.exchange.buckets import buckets
from dptrain.exchange.rank import Rank, Share
from dptrain.experiment.job import Job
from dptrain.nn.passes import Pass, Trouble
from dptrain.protocol.messages import Gradient, encode
from dptrain.protocol.worker import Compute


class StarRank:
    """One rank of the star exchange.

    Attributes:
        buckets: in how many messages weights and gradients travel.
    """

    def __init__(self, job: Job, connection: "zmq.Socket[bytes]") -> None:
        self._socket = connection
        self._buckets = buckets(job.network, job.dtype.itemsize)
        self.buckets = len(self._buckets)
        self._weights: NDArray[Any] = np.empty(job.network.size, job.dtype)
        self._rank = Rank(job, [self._weights])

    def take(self, bucket: int) -> None:
        """Receive the frame of a bucket of the weights.

        Raises:
            ProtocolError: there is no such frame.
        """
        _, start, stop = self._buckets[bucket]
        target = self._weights[start:stop]
        if not self._socket.get(zmq.RCVMORE):
            raise ProtocolError("weights came without their frame")
        if self._socket.recv_into(target.data) != target.nbytes:
            raise ProtocolError("weights came in a frame of the wrong length")

    def compute(self, order: Compute) -> Trouble | None:
        """Compute a step's gradient and send it; return where the loss is no number, if so."""
        rank = self._rank
        began = time.perf_counter()
        found = rank.gather(Share(order.step, order.first, order.last))
        gathered = time.perf_counter()
        losses = rank.forward(found)
        if not np.isfinite(losses).all():
            return rank.trouble(found) or Trouble(order.first, "sum over the shards", "value")
        sender = _Sender(self, order, found, losses, [began, gathered, time.perf_counter()])
        if found.blocks:
            rank.backward(found, sender.ready)
        else:
            sender.ready(0)
        if order.more:
            rank.gather(Share(order.step + 1, order.first, order.last))
        return None

    def evaluate(self, split: str, first: int, last: int) -> tuple[list[float], list[int]]:
        """Evaluate pieces of a split; see `Rank.evaluate`."""
        return self._rank.evaluate(split, first, last)

    def send(
        self, number: int, order: Compute, found: Pass, losses: list[float], marks: list[float]
    ) -> None:
        """Send a bucket of the gradient, a frame for each root."""
        _, start, stop = self._buckets[number]
        times = [*marks, time.perf_counter()]
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
        found: Pass,
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
