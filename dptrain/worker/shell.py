"""The worker around its state machine: one socket, one replica, one loop."""

import contextlib
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from dptrain.arithmetic.digest import fingerprint
from dptrain.errors import (
    EXIT_WORKERS_LOST,
    DptrainError,
    OwnCodeError,
    ProtocolError,
    machine_limit,
)
from dptrain.exchange.barrier import Barrier, EventBarrier, FlagBarrier, Recalled
from dptrain.exchange.buckets import BUCKET_BYTES
from dptrain.exchange.lockstep import LockstepRank, LossNotFinite
from dptrain.exchange.memory import map_memory
from dptrain.exchange.segment import segment
from dptrain.experiment.job import Job, open_job
from dptrain.experiment.job_data import prepared_data
from dptrain.experiment.schema import Settled
from dptrain.experiment.validate import build
from dptrain.own.origin import Origin, demand
from dptrain.protocol.handshake import new_nonce
from dptrain.protocol.messages import (
    VERSION,
    Alive,
    Evaluated,
    Failed,
    Hello,
    Message,
    NonFinite,
    Plan,
    Welcome,
    decode_from_coordinator,
    encode,
)
from dptrain.protocol.worker import (
    Attached,
    Build,
    Built,
    Clock,
    Compute,
    ComputeScore,
    Disconnected,
    Event,
    Exit,
    Heard,
    Orphaned,
    Ran,
    RunPlan,
    Send,
    Take,
    TakeTable,
    WorkerMachine,
)
from dptrain.worker.star import StarRank

TICK_MS = 1000
# At the least between two signs of life, which cost a fast evaluation nothing then.
ALIVE_SECONDS = 0.1
FAREWELL_MS = 1000


@dataclass(frozen=True)
class Inherited:
    """What a launched worker has from its coordinator for the shared exchange.

    Attributes:
        memory: descriptor of the shared memory.
        bells: descriptors of all ranks' eventfds; none where ranks watch flags.
        cores: that the ranks can use.
        parent: the coordinator's pid.
    """

    memory: int
    bells: tuple[int, ...]
    cores: int
    parent: int


@dataclass(frozen=True)
class Connection:
    """How to reach the coordinator.

    Attributes:
        endpoint: its ZeroMQ endpoint.
        key: of the run.
        rank: to ask for; -1 takes any rank that waits for a worker started by hand.
        parent_pipe: ends when the coordinator does; None where there is no such pipe.
        max_frame: bytes of the longest frame to accept.
        inherited: what only a child of the coordinator can have.
    """

    endpoint: str
    key: bytes
    rank: int = -1
    parent_pipe: int | None = None
    max_frame: int = 1 << 30
    inherited: Inherited | None = None
    origin: Origin | None = None


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
        self._ending: zmq.Socket[bytes] | None = None
        if connection.parent_pipe is not None:
            self._poller.register(connection.parent_pipe, zmq.POLLIN)
        else:
            self._ending = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._poller.register(self._ending, zmq.POLLIN)
        self._rank: StarRank | LockstepRank | None = None
        self._exit: Exit | None = None
        self._showed_life = 0.0

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
        text = "" if user else traceback.format_exc()
        limit = machine_limit(error)  # which the traceback, in the log, says no more of
        words = str(error) if user else f"{type(error).__name__}: {limit or error}"
        self._tell_log(words if user else text)
        text = "" if limit else text
        if isinstance(error, OwnCodeError):
            words, text = error.what, error.traceback
        self._socket.linger = FAREWELL_MS
        self._send(Failed(user, words[:8000], text[-8000:]))
        return EXIT_WORKERS_LOST

    def _wait(self) -> None:
        ready = dict(self._poller.poll(TICK_MS))
        # what the coordinator said last comes by another way than the news of its end
        if self._socket in ready or (ready and self._socket.poll(0)):
            self._hear()
        elif self._ending is not None and self._ending in ready:
            self._ending.recv_multipart()
            self._tell(Disconnected())
        elif ready and not os.read(self._connection.parent_pipe or 0, 1):
            self._tell(Orphaned())
        else:
            self._tell(Clock(time.monotonic()))

    def _wait_in_pass(self) -> None:
        """Wait while a step is being computed."""
        self._wait()
        if self._exit is not None:
            raise Recalled

    def _hear(self) -> None:
        header = self._socket.recv()
        self._tell(Heard(decode_from_coordinator(header)))
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
                    self._in_star().take(bucket)
                case TakeTable(table):
                    self._in_star().take_table(table)
                case Compute():
                    self._compute(each)
                case RunPlan(plan):
                    self._run(plan)
                case ComputeScore():
                    self._evaluate(each)
                case Build(welcome):
                    self._build(welcome)
                case Exit():
                    self._exit = each

    def _send(self, message: Message) -> None:
        self._socket.send(encode(message))

    def _alive(self, pieces: int = 0) -> None:
        """Show the coordinator that this rank is at work."""
        now = time.monotonic()
        if now - self._showed_life > ALIVE_SECONDS:
            self._showed_life = now
            with contextlib.suppress(zmq.Again):  # a coordinator that is stopped reads none of it
                self._socket.send(encode(Alive(pieces)), zmq.NOBLOCK)

    def _evaluate(self, order: ComputeScore) -> None:
        request = order.request
        where = (request.split, request.first, request.last)
        began = time.perf_counter()
        assert self._rank is not None
        losses, correct = self._rank.evaluate(*where, order.step)
        ended = time.perf_counter()
        self._send(Evaluated(request.request, losses, correct, began, ended))

    def _in_star(self) -> StarRank:
        assert isinstance(self._rank, StarRank)
        return self._rank

    def _build(self, welcome: Welcome) -> None:
        experiment = build(Settled, welcome.job, "the coordinator")
        demand(experiment.model, self._connection.origin, "dptrain worker")
        folder = Path(welcome.data)
        if not folder.is_dir():  # another machine: its own copy of the data, checked by digest
            folder = prepared_data(experiment)
        job = open_job(experiment, folder, self._connection.origin)
        joined = RANKS[welcome.exchange](self, job, welcome)
        self._tell_log(
            f"joined {self._connection.endpoint} as one of {welcome.world_size}, pid {os.getpid()}"
        )
        self._tell(joined)

    def star_rank(self, job: Job, _: Welcome) -> Built:
        """Make the rank that sends its gradients over the socket."""
        self._rank = StarRank(job, self._socket, self._wait_in_pass, self._alive)
        return Built(job.network.size, self._rank.buckets)

    def lockstep_rank(self, job: Job, welcome: Welcome) -> Attached:
        """Make the rank that shares memory with the others."""
        inherited = self._connection.inherited
        if inherited is None:
            raise ProtocolError("the run is in shared memory, which this worker has not inherited")
        shared = segment(job, welcome.world_size, map_memory(inherited.memory))
        words, rank, ranks = shared.words, welcome.rank, welcome.world_size
        generation = words[shared.generation_word]

        def recalled() -> bool:
            parent = os.getppid()
            return words[shared.generation_word] != generation or parent != inherited.parent

        barrier: Barrier
        if inherited.bells:
            barrier = EventBarrier(words, rank, inherited.bells, recalled)
        else:
            barrier = FlagBarrier(words, rank, ranks, inherited.cores, recalled)
        self._rank = LockstepRank(job, shared, barrier, rank, ranks, self._alive)
        return Attached(job.network.size, welcome.step)

    def _run(self, plan: Plan) -> None:
        assert isinstance(self._rank, LockstepRank)
        try:
            self._rank.run(plan.begin, plan.end)
        except Recalled:
            return  # whoever recalls says next what is to be done
        except LossNotFinite as error:
            if error.trouble is not None:
                self._send(NonFinite(error.step, *error.trouble))
            return
        self._tell(Ran(plan))

    def _compute(self, order: Compute) -> None:
        try:
            trouble = self._in_star().compute(order)
        except Recalled:
            return  # the run is over
        if trouble is not None:
            self._send(NonFinite(order.step, *trouble))


RANKS: dict[str, Callable[[WorkerShell, Job, Welcome], Built | Attached]] = {
    "star": WorkerShell.star_rank,
    "shared": WorkerShell.lockstep_rank,
}
