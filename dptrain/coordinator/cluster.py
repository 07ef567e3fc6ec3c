"""The coordinator's shell around its state machine: one socket, the processes, one loop."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from dptrain.arithmetic.digest import fingerprint
from dptrain.coordinator.endpoint import Endpoint
from dptrain.errors import Interrupted, ProtocolError
from dptrain.exchange.engine import (
    ReportAlive,
    ShouldStop,
    SplitScore,
    StepsDone,
    TrainingState,
    score,
    unheard,
)
from dptrain.exchange.timeline import Timeline
from dptrain.experiment.execution import Execution
from dptrain.experiment.job import Job, plain_job
from dptrain.launch.local import Crew, LocalWorker, Orders
from dptrain.protocol.admission import Terms
from dptrain.protocol.coordinator import CoordinatorMachine
from dptrain.protocol.events import (
    Broadcast,
    Clock,
    Commit,
    Committed,
    End,
    Evaluating,
    EvaluationAsked,
    Event,
    Garbled,
    Gone,
    Heard,
    Instruction,
    Scored,
    Send,
    StopAsked,
    TrainAsked,
)
from dptrain.protocol.handshake import new_nonce
from dptrain.protocol.messages import (
    MAX_HEADER,
    MAX_LIST,
    Failed,
    Message,
    decode_from_worker,
    encode,
)
from dptrain.protocol.training import Training

TICK_MS = 200
PING_SECONDS = 1.0
# How long the socket must be quiet before a dead process counts as dead: what it said last may
# explain its death, and comes by another way than the news of it.
LAST_WORDS_MS = 100


@dataclass(frozen=True)
class ClusterSetup:
    """What a cluster is made of.

    Attributes:
        job: to train.
        execution: settled.
        data: the folder of the prepared data set.
        key: that every worker must hold.
        crew: processes for the first ranks, not yet ordered; ended with the cluster.
        first_step: the first to be trained.
        stop: tells whether the user wants the run to end.
        timeline: where to note what was done when, or None.
        expected: seconds that a step, or a piece of an evaluation, may take as far as was tried.
        keeps_logs: whether what the workers write is still there when the run has ended.
    """

    job: Job
    execution: Execution
    data: str
    key: bytes
    crew: Crew
    first_step: int
    stop: ShouldStop
    timeline: Timeline | None = None
    expected: float = 0.0
    keeps_logs: bool = True

    @property
    def workers(self) -> int:
        """The world size."""
        return self.execution.world_size


class Cluster(ABC):
    """What clusters of every exchange have in common: joining, evaluating, watching, ending.

    Attributes:
        workers: the world size.
        exchange: how gradients travel.
        address: where workers can connect.
    """

    exchange: str

    def __init__(
        self, setting: ClusterSetup, longest: int, buckets: int, training: Training
    ) -> None:
        """Bind.

        Args:
            setting: of the run.
            longest: bytes of the longest frame that travels.
            buckets: in how many messages a gradient comes.
            training: counts the steps.
        """
        self._setting = setting
        self.job = setting.job
        self.workers = setting.workers
        self._crew = setting.crew
        self._launched = list(self._crew.workers)
        self._stop = setting.stop
        self._timeline = setting.timeline
        self._max_frame = max(longest, MAX_HEADER)
        self._machine = CoordinatorMachine(self._terms(buckets), training, time.monotonic())
        self._frames: list[zmq.Frame] = []
        self._results: list[Commit | Committed | Scored | Broadcast] = []
        self._alive: ReportAlive = unheard
        self._pinged = time.monotonic()
        # last: whoever gets a cluster closes it, but nobody gets one whose making has failed
        self._endpoint = Endpoint(setting.execution, self._max_frame, 4 * buckets + 64)
        self._socket = self._endpoint.socket
        self.address = self._endpoint.address
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._by_pidfd = {w.pidfd: w for w in self._launched if w.pidfd >= 0}
        for pidfd in self._by_pidfd:
            self._poller.register(pidfd, zmq.POLLIN)

    def _terms(self, buckets: int) -> Terms:
        setting = self._setting
        return Terms(
            world_size=self.workers,
            launched=len(self._launched),
            key=setting.key,
            job=plain_job(self.job.experiment),
            data=setting.data,
            parameters=self.job.network.size,
            buckets=buckets,
            tables=len(self.job.network.tables),
            shards=self.job.shards,
            exchange=self.exchange,
            first_step=setting.first_step,
            fingerprint=fingerprint(),
            timeout=setting.execution.worker_timeout,
            expected=setting.expected,
            logs=tuple(str(w.log) for w in self._launched) if setting.keeps_logs else (),
        )

    @abstractmethod
    def train(self, begin: int, end: int, stop: ShouldStop, every: int) -> Iterator[StepsDone]:
        """Carry out steps; see `Engine`."""

    @abstractmethod
    def state(self) -> TrainingState:
        """Return the weights and optimizer state after the last committed step."""

    @abstractmethod
    def _carry_out(self, instruction: Instruction) -> None:
        """Do what the machine says about gradients and weights."""

    def join(self) -> None:
        """Wait until every rank is ready.

        Raises:
            WorkersLostError: a launched worker died or was refused.
            Interrupted: the user asked to stop.
        """
        orders = Orders(
            self.address,
            self._setting.key,
            self._max_frame,
            pin=bool(self._setting.execution.pin),
            origin=self.job.origin.message() if self.job.origin is not None else b"",
        )
        for worker in self._launched:
            worker.order(orders)
        self._await_result(interruptible=True)

    def _ask_to_train(self, begin: int, end: int) -> None:
        self._tell(TrainAsked(begin, end, self.job.rows, time.monotonic()))

    def evaluate(self, split: str, alive: ReportAlive = unheard) -> SplitScore:
        """Evaluate the present weights, the pieces spread over the ranks."""
        self._alive = alive
        losses: list[float] = []
        correct: list[int] = []
        pieces = self.job.pieces(split)
        most = MAX_LIST * self.workers
        for first in range(0, pieces, most):
            last = min(first + most, pieces)
            self._tell(EvaluationAsked(split, first, last, time.monotonic()))
            done = self._await_result(interruptible=True)
            assert isinstance(done, Scored)
            losses += done.losses
            correct += done.correct
            if self._timeline is not None:
                for rank, span in done.spans.items():
                    self._timeline.add(rank, "evaluate", *span, None)
        return score(self.job, split, losses, correct)

    def close(self) -> None:
        """Send the workers home, kill those that stay, and leave nothing behind."""
        try:
            self._tell(StopAsked("the run is over"))
            self._crew.end()
        finally:
            self._endpoint.close()

    def _await_result(self, *, interruptible: bool) -> Commit | Committed | Scored | Broadcast:
        while not self._results:
            if interruptible and self._stop():
                raise Interrupted("stopped")
            self._turn()
        return self._results.pop(0)

    def _turn(self) -> None:
        """Handle one message, or whatever else has happened."""
        if self._hear():
            return
        ready = dict(self._poller.poll(TICK_MS))
        now = time.monotonic()
        if self._socket not in ready:
            for worker in self._dead(ready):
                self._bury(worker)
        if now - self._pinged > PING_SECONDS:
            self._pinged = now
            self._look(now)
            stopped = frozenset(w.rank for w in self._launched if w.stopped())
            self._tell(Clock(now, stopped))

    def _look(self, now: float) -> None:  # noqa: B027 - most see nothing but messages
        """Tell the machine what can be seen of the ranks."""

    def _dead(self, ready: dict[Any, int]) -> list[LocalWorker]:
        if len(self._by_pidfd) == len(self._launched):
            return [self._by_pidfd[fd] for fd in ready if fd in self._by_pidfd]
        return [worker for worker in self._launched if worker.ended()]

    def _bury(self, worker: LocalWorker) -> None:
        while self._socket.poll(LAST_WORDS_MS):
            self._hear()
        self._look(time.monotonic())
        self._tell(Gone(worker.rank, *worker.how()))

    def _hear(self) -> bool:
        try:
            name, *parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        peer = name.bytes
        self._frames = parts[1:]
        try:
            message: Message = decode_from_worker(parts[0].bytes if parts else b"")
        except ProtocolError as error:
            self._tell(Garbled(peer, str(error)))
        else:
            now = time.monotonic()
            if isinstance(message, Failed):
                self._look(now)
            self._tell(Heard(peer, message, now, new_nonce()))
        return True

    def _tell(self, event: Event) -> None:
        self._follow(self._machine.handle(event))

    def _follow(self, instructions: Sequence[Instruction]) -> None:
        for each in instructions:
            match each:
                case Send(peer, message):
                    self._send(peer, encode(message))
                case Scored():
                    self._results.append(each)
                case Evaluating(pieces):
                    self._alive(pieces)
                case End(error):
                    raise error
                case _:
                    self._carry_out(each)

    def _send(self, peer: bytes, header: bytes, frame: memoryview | None = None) -> None:
        try:
            self._socket.send(peer, zmq.SNDMORE)
            self._socket.send(header, 0 if frame is None else zmq.SNDMORE)
            if frame is not None:
                self._socket.send(frame, copy=False)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._unreachable(peer)

    def _unreachable(self, peer: bytes) -> None:
        rank = self._machine.admission.rank_of(peer)
        if rank is None or rank < len(self._launched):
            return  # a stranger, or a process of ours: its pidfd tells more
        self._tell(Gone(rank, "has closed its connection"))
