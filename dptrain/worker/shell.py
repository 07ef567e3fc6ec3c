"""The worker around its state machine: one socket, one replica, one loop."""

import os
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from dptrain.arithmetic.digest import fingerprint
from dptrain.errors import EXIT_WORKERS_LOST, DptrainError, ProtocolError
from dptrain.exchange.buckets import BUCKET_BYTES, Bucket, buckets
from dptrain.exchange.rank import Rank
from dptrain.experiment.job import open_job, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.nn.passes import Pass
from dptrain.protocol.handshake import new_nonce
from dptrain.protocol.messages import (
    VERSION,
    Evaluated,
    Failed,
    Gradient,
    Hello,
    Message,
    NonFinite,
    Welcome,
    decode_from_coordinator,
    encode,
)
from dptrain.protocol.worker import (
    Build,
    Built,
    Clock,
    Compute,
    Event,
    Exit,
    Heard,
    Orphaned,
    Score,
    Send,
    Take,
    WorkerMachine,
)

TICK_MS = 1000
FAREWELL_MS = 1000


@dataclass(frozen=True)
class Connection:
    """How to reach the coordinator.

    Attributes:
        endpoint: its ZeroMQ endpoint.
        key: of the run.
        rank: to ask for; -1 takes any rank that waits for a worker started by hand.
        parent_pipe: ends when the coordinator does; None where there is no such pipe.
        max_frame: bytes of the longest frame to accept.
    """

    endpoint: str
    key: bytes
    rank: int = -1
    parent_pipe: int | None = None
    max_frame: int = 1 << 30


class WorkerShell:
    """Does what the machine says, and tells it what happened."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.copy_threshold = BUCKET_BYTES
        self._socket.maxmsgsize = connection.max_frame
        hello = Hello(VERSION, new_nonce(), connection.rank, os.getpid(), socket.gethostname())
        self._machine = WorkerMachine(connection.key, hello, fingerprint(), time.monotonic())
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        if connection.parent_pipe is not None:
            self._poller.register(connection.parent_pipe, zmq.POLLIN)
        self._rank: Rank | None = None
        self._buckets: tuple[Bucket, ...] = ()
        self._exit: Exit | None = None

    def run(self) -> int:
        """Serve until the run is over; return the process's exit code."""
        np.seterr(all="ignore")  # infinities are found in the loss, and named
        try:
            self._socket.connect(self._connection.endpoint)
            self._follow(self._machine.start())
            while self._exit is None:
                self._wait()
        except DptrainError as error:
            return self._fail(error, user=not isinstance(error, ProtocolError))
        except Exception as error:  # noqa: BLE001 - whatever it is, the coordinator must hear of it
            return self._fail(error, user=False)
        finally:
            self._context.destroy()
        self._tell_log(self._exit.reason)
        return 0 if self._exit.expected else EXIT_WORKERS_LOST

    def _tell_log(self, text: str) -> None:
        """Print to standard error, which is a launched worker's log."""
        who = f"rank {self._machine.rank}" if self._machine.rank >= 0 else "worker"
        print(f"dptrain: {who}: {text}", file=sys.stderr, flush=True)  # noqa: T201

    def _fail(self, error: Exception, *, user: bool) -> int:
        text = traceback.format_exc()
        self._tell_log(str(error) if user else text)
        words = str(error) if user else f"{type(error).__name__}: {error}"
        self._socket.linger = FAREWELL_MS
        self._send(Failed(user, words[:8000], "" if user else text[-8000:]))
        return EXIT_WORKERS_LOST

    def _wait(self) -> None:
        ready = dict(self._poller.poll(TICK_MS))
        now = time.monotonic()
        if self._socket in ready:
            self._hear(now)
        elif ready and not os.read(self._connection.parent_pipe or 0, 1):
            self._tell(Orphaned())
        else:
            self._tell(Clock(now))

    def _hear(self, now: float) -> None:
        header = self._socket.recv()
        self._tell(Heard(decode_from_coordinator(header), now))
        if self._socket.get(zmq.RCVMORE) and self._exit is None:
            raise ProtocolError("a message has more frames than it should")

    def _tell(self, event: Event) -> None:
        self._follow(self._machine.handle(event))

    def _follow(self, instructions: list[Any]) -> None:
        for each in instructions:
            match each:
                case Send(message):
                    self._send(message)
                case Take(bucket):
                    self._take(bucket)
                case Compute():
                    self._compute(each)
                case Score(request):
                    losses, correct = self._computing().evaluate(
                        request.split, request.first, request.last
                    )
                    self._send(Evaluated(request.request, losses, correct))
                case Build(welcome):
                    self._build(welcome)
                case Exit():
                    self._exit = each

    def _send(self, message: Message) -> None:
        self._socket.send(encode(message))

    def _computing(self) -> Rank:
        assert self._rank is not None
        return self._rank

    def _build(self, welcome: Welcome) -> None:
        experiment = build(Experiment, welcome.job, "the coordinator")
        folder = Path(welcome.data)
        if not folder.is_dir():  # another machine: its own copy of the data, checked by digest
            folder = prepared_data(experiment)
        job = open_job(experiment, folder)
        parameters = np.empty(job.network.size, job.dtype)
        self._rank = Rank(job, parameters)
        self._buckets = buckets(job.network, job.dtype.itemsize)
        self._tell_log(
            f"joined {self._connection.endpoint} as one of {welcome.world_size}, pid {os.getpid()}"
        )
        self._tell(Built(job.network.size, len(self._buckets), time.monotonic()))

    def _take(self, bucket: int) -> None:
        _, start, stop = self._buckets[bucket]
        target = self._computing().parameters[start:stop]
        if not self._socket.get(zmq.RCVMORE):
            raise ProtocolError("weights came without their frame")
        if self._socket.recv_into(target.data) != target.nbytes:
            raise ProtocolError("weights came in a frame of the wrong length")

    def _compute(self, order: Compute) -> None:
        rank = self._computing()
        found = rank.gather(order.step, order.first, order.last)
        losses = rank.forward(found)
        if not np.isfinite(losses).all():
            self._report_trouble(order.step, found)
            return
        sender = GradientSender(self._socket, self._buckets, order, found, losses, rank)
        if found.blocks:
            rank.backward(found, sender.ready)
        else:
            sender.ready(0)
        if order.more:
            rank.gather(order.step + 1, order.first, order.last)

    def _report_trouble(self, step: int, found: Pass) -> None:
        trouble = self._computing().trouble(found)
        if trouble is None:
            message = NonFinite(step, found.first, "sum over the shards", "value")
        else:
            message = NonFinite(step, trouble.shard, trouble.layer, trouble.what)
        self._send(message)


class GradientSender:
    """Sends each bucket of a gradient as soon as the backward pass has completed it."""

    def __init__(
        self,
        target: "zmq.Socket[bytes]",
        plan: tuple[Bucket, ...],
        order: Compute,
        found: Pass,
        losses: list[float],
        rank: Rank,
    ) -> None:
        self._socket = target
        self._buckets = plan
        self._order = order
        self._pass = found
        self._losses = losses
        self._rank = rank
        self._next = 0

    def ready(self, layer: int) -> None:
        """Send the buckets that are complete once ``layer`` is."""
        while self._next < len(self._buckets) and self._buckets[self._next].layer >= layer:
            self._send(self._next)
            self._next += 1

    def _send(self, number: int) -> None:
        _, start, stop = self._buckets[number]
        order = self._order
        header = Gradient(order.generation, order.step, number, self._losses, self._rank.elapsed())
        rows = self._pass.gradients
        frames = [rows[root, start:stop].data for root in self._pass.roots]
        self._socket.send(encode(header), zmq.SNDMORE if frames else 0)
        for i, frame in enumerate(frames):
            more = zmq.SNDMORE if i < len(frames) - 1 else 0
            self._socket.send(frame, more, copy=False)
