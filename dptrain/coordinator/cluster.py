"""The coordinator's shell around its state machine: one socket, the processes, one loop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import zmq

from dptrain.arithmetic.digest import fingerprint
from dptrain.coordinator.endpoint import Endpoint
from dptrain.errors import Interrupted, NonFiniteError, ProtocolError
from dptrain.exchange.engine import Score, State, StepDone, score
from dptrain.exchange.star import StarReducer
from dptrain.experiment.job import Job, plain_job
from dptrain.experiment.schema import Execution
from dptrain.launch.local import Crew, LocalWorker, Orders
from dptrain.protocol.admission import Terms
from dptrain.protocol.coordinator import CoordinatorMachine
from dptrain.protocol.events import (
    Broadcast,
    Clock,
    Commit,
    End,
    EvaluationAsked,
    Event,
    Garbled,
    Gone,
    Heard,
    Instruction,
    Reduce,
    Scored,
    Send,
    StopAsked,
    Take,
    TrainAsked,
)
from dptrain.protocol.handshake import new_nonce
from dptrain.protocol.messages import (
    MAX_HEADER,
    MAX_LIST,
    Message,
    Weights,
    decode_from_worker,
    encode,
)

TICK_MS = 200
PING_SECONDS = 1.0
# How long the socket must be quiet before a dead process counts as dead: what it said last may
# explain its death, and comes by another way than the news of it.
LAST_WORDS_MS = 100


class Cluster:
    """Trains with worker processes over the star exchange.

    Attributes:
        workers: the world size.
        exchange: ``"star"``.
        address: where workers can connect.
    """

    exchange = "star"

    def __init__(
        self,
        job: Job,
        execution: Execution,
        data: str,
        key: bytes,
        crew: Crew,
        state: State,
        first_step: int,
        stop: Callable[[], bool],
    ) -> None:
        """Bind and send the launched workers their orders.

        Args:
            job: to train.
            execution: settled.
            data: the folder of the prepared data set.
            key: that every worker must hold.
            crew: processes for the first ranks, not yet ordered; ended with the cluster.
            state: to begin with.
            first_step: the step that begins with it.
            stop: tells whether the user wants the run to end.
        """
        self.job = job
        self.workers = int(execution.workers or 1)
        self._crew = crew
        self._launched = list(crew.workers)
        self._reducer = StarReducer(job, self.workers, state.parameters, state.slots)
        self._first_step = first_step
        self._stop = stop
        count = len(self._reducer.buckets)
        itemsize = job.dtype.itemsize
        longest = max((b.stop - b.start) * itemsize for b in self._reducer.buckets)
        self._max_frame = max(longest, MAX_HEADER)
        self._key = key
        self._pin = bool(execution.pin)
        self._machine = CoordinatorMachine(
            self._terms(key, data, execution.worker_timeout), time.monotonic()
        )
        self._frames: list[zmq.Frame] = []
        self._results: list[Commit | Scored | Broadcast] = []
        self._update_seconds = 0.0
        self._pinged = time.monotonic()
        # last: whoever gets a cluster closes it, but nobody gets one whose making has failed
        self._endpoint = Endpoint(execution, self._max_frame, 4 * count + 64)
        self._socket = self._endpoint.socket
        self.address = self._endpoint.address
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._by_pidfd = {w.pidfd: w for w in self._launched if w.pidfd >= 0}
        for pidfd in self._by_pidfd:
            self._poller.register(pidfd, zmq.POLLIN)

    def _terms(self, key: bytes, data: str, timeout: float) -> Terms:
        return Terms(
            world_size=self.workers,
            launched=len(self._launched),
            key=key,
            job=plain_job(self.job.experiment),
            data=data,
            parameters=self.job.network.size,
            buckets=len(self._reducer.buckets),
            shards=self.job.shards,
            fingerprint=fingerprint(),
            timeout=timeout,
            logs=tuple(str(worker.log) for worker in self._launched),
        )

    def join(self) -> None:
        """Wait until every rank is ready, and send the weights.

        Raises:
            WorkersLostError: a launched worker died or was refused.
            Interrupted: the user asked to stop.
        """
        for worker in self._launched:
            worker.order(Orders(self.address, self._key, self._max_frame, self._pin))
        self._await_result(interruptible=True)

    def train(self, begin: int, end: int) -> Iterator[StepDone]:
        """Carry out steps; after each the iteration may be left, and the cluster then closed."""
        started = time.perf_counter()
        self._tell(TrainAsked(begin, end, self.job.rows, time.monotonic()))
        for _ in range(begin, end):
            done = self._await_result(interruptible=False)
            assert isinstance(done, Commit)
            if not math.isfinite(done.loss):
                raise NonFiniteError(f"step {done.step} has a loss that is not finite")
            now = time.perf_counter()
            update, self._update_seconds = self._update_seconds, 0.0
            waited = max(0.0, now - started - done.compute - update)
            started = now
            yield StepDone(done.step, done.loss, done.compute, waited, update)

    def evaluate(self, split: str) -> Score:
        """Evaluate the present weights, the pieces spread over the ranks."""
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
        return score(self.job, split, losses, correct)

    def state(self) -> State:
        """Return the weights and optimizer state after the last committed step."""
        return self._reducer.state()

    def close(self) -> None:
        """Send the workers home, kill those that stay, and leave nothing behind."""
        try:
            self._tell(StopAsked("the run is over"))
            self._crew.end()
        finally:
            self._endpoint.close()

    def _await_result(self, *, interruptible: bool) -> Commit | Scored | Broadcast:
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
            self._tell(Clock(now))

    def _dead(self, ready: dict[Any, int]) -> list[LocalWorker]:
        if self._by_pidfd:
            return [self._by_pidfd[fd] for fd in ready if fd in self._by_pidfd]
        return [worker for worker in self._launched if worker.ended()]

    def _bury(self, worker: LocalWorker) -> None:
        while self._socket.poll(LAST_WORDS_MS):
            self._hear()
        self._tell(Gone(worker.rank, worker.how()))

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
            self._tell(Heard(peer, message, time.monotonic(), new_nonce()))
        return True

    def _tell(self, event: Event) -> None:
        self._follow(self._machine.handle(event))

    def _follow(self, instructions: Sequence[Instruction]) -> None:
        for each in instructions:
            match each:
                case Take(rank, bucket, roots):
                    self._take(rank, bucket, roots)
                case Reduce(step, bucket, rows):
                    self._reduce(step, bucket, rows)
                case Send(peer, message):
                    self._send(peer, encode(message))
                case Commit():
                    self._reducer.commit()
                    self._results.append(each)
                case Scored():
                    self._results.append(each)
                case Broadcast():
                    for bucket in range(len(self._reducer.buckets)):
                        self._send_weights(self._first_step, bucket, committed=True)
                    self._results.append(each)
                case End(error):
                    raise error

    def _take(self, rank: int, bucket: int, roots: tuple[int, ...]) -> None:
        try:
            self._reducer.take(bucket, roots, [frame.buffer for frame in self._frames])
        except ProtocolError as error:
            peer = self._machine.admission.members[rank]
            self._tell(Garbled(peer, str(error)))

    def _reduce(self, step: int, bucket: int, rows: int) -> None:
        started = time.perf_counter()
        updated = self._reducer.reduce(step, bucket, rows)
        self._update_seconds += time.perf_counter() - started
        for each in updated:
            self._send_weights(step + 1, each, committed=False)

    def _send_weights(self, step: int, bucket: int, *, committed: bool) -> None:
        data = self._reducer.weights(bucket, committed=committed)
        header = encode(Weights(self._machine.generation, step, bucket))
        for peer in self._machine.admission.members.values():
            self._send(peer, header, data)

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
