"""The coordinator's protocol as a pure state machine: events in, instructions out.

No socket, clock, process or file is touched here; time and nonces come in with the events. What
may happen when stands in one table, `TRANSITIONS`, at the end of the file: what has no entry for
the present state is refused. The machine counts who has handed in what; the arrays themselves never
pass through it.

JOINING until every rank is ready, then IDLE; TRAINING and EVALUATING while a request is open, then
IDLE again; OVER from the first failure or the request to stop on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dptrain.arithmetic.shards import assign, present_shards
from dptrain.arithmetic.tree import remaining_additions, roots
from dptrain.errors import DptrainError, NonFiniteError, UsageError, WorkersLostError
from dptrain.protocol.admission import Admission, Terms, refuse
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
    State,
    StopAsked,
    Take,
    TrainAsked,
)
from dptrain.protocol.messages import (
    Answer,
    Evaluate,
    Evaluated,
    Failed,
    Gradient,
    Hello,
    NonFinite,
    Ping,
    Plan,
    Ready,
    Stop,
)

Instructions = list[Instruction]


@dataclass
class OpenStep:
    """What has been handed in of the step under way: buckets by rank, losses by root."""

    step: int
    rows: int
    buckets: list[int]
    losses: dict[int, float] = field(default_factory=dict)
    compute: float = 0.0


class CoordinatorMachine:
    """See the module.

    Attributes:
        state: what the coordinator is doing.
    """

    def __init__(self, terms: Terms, now: float) -> None:
        self.terms = terms
        self.state = State.JOINING
        self.admission = Admission(terms)
        self.bounds = assign(terms.shards, terms.world_size)
        self.generation = 1
        self.request = 0
        self._heard = [now] * terms.world_size
        self._ready: set[int] = set()
        self._end = 0
        self._rows: Callable[[int], int] = lambda _: 0
        self._open: OpenStep | None = None
        self._pieces: dict[int, tuple[int, int]] = {}
        self._scores: dict[int, Evaluated] = {}

    def handle(self, event: Event) -> Instructions:
        """Return what to do about an event."""
        subject = event.message if isinstance(event, Heard) else event
        handler = TRANSITIONS.get((self.state, type(subject)))
        if handler is None:
            return self._out_of_place(event)
        return handler(self, event)

    def joining(self, event: Any) -> Instructions:
        """Let the admission decide; a member's message counts as a sign of life."""
        message = event.message
        if isinstance(message, Hello):
            return self._ended(self.admission.hello(event, message))
        instructions = self.admission.answer(event, message)
        self._member(event)
        return self._ended(instructions)

    def ready(self, event: Any) -> Instructions:
        """Begin once every rank has built the job."""
        rank = self._member(event)
        if rank is None:
            return []
        if event.message.parameters != self.terms.parameters:
            return self._broke(
                rank,
                f"it built a network of {event.message.parameters} parameters, not "
                f"{self.terms.parameters}; install the same dptrain on both sides",
            )
        self._ready.add(rank)
        if len(self._ready) < self.terms.world_size:
            return []
        self.state = State.IDLE
        return [Broadcast()]

    def train(self, event: Any) -> Instructions:
        """Send every rank its plan."""
        self.state = State.TRAINING
        self._end, self._rows = event.end, event.rows
        self._begin_step(event.begin)
        self._heard = [event.now] * self.terms.world_size
        return [
            Send(name, Plan(self.generation, event.begin, event.end, *self.bounds[rank]))
            for rank, name in self.admission.members.items()
        ]

    def _begin_step(self, step: int) -> None:
        self._open = OpenStep(step, self._rows(step), [0] * self.terms.world_size)

    def gradient(self, event: Any) -> Instructions:
        """Take a bucket in its turn; reduce it when it is the last rank's."""
        rank, now = self._member(event), self._open
        if rank is None or now is None:
            return []
        message: Gradient = event.message
        leaves = present_shards(now.rows, self.terms.shards)
        own = roots(leaves, *self.bounds[rank])
        due = (self.generation, now.step, now.buckets[rank], len(own))
        found = (message.generation, message.step, message.bucket, len(message.losses))
        if found != due or message.bucket >= self.terms.buckets:
            return self._broke(rank, f"(generation, step, bucket, roots) is {found}, due was {due}")
        now.buckets[rank] += 1
        now.compute = max(now.compute, message.seconds)
        now.losses.update(zip(own, message.losses, strict=True))
        instructions: Instructions = [Take(rank, message.bucket, own)]
        if min(now.buckets) == message.bucket + 1:
            instructions.append(Reduce(now.step, message.bucket, now.rows))
            if message.bucket + 1 == self.terms.buckets:
                instructions.append(self._commit(leaves, now))
        return instructions

    def _commit(self, leaves: int, done: OpenStep) -> Commit:
        losses = done.losses
        for into, other, _ in remaining_additions(leaves, edges(self.bounds)):
            losses[into] += losses[other]
        if done.step + 1 < self._end:
            self._begin_step(done.step + 1)
        else:
            self._open = None
            self.state = State.IDLE
        return Commit(done.step, losses[0], done.compute)

    def evaluate(self, event: Any) -> Instructions:
        """Share out the pieces of an evaluation."""
        self.state = State.EVALUATING
        self.request += 1
        shares = assign(event.last - event.first, self.terms.world_size)
        self._pieces = {
            rank: (event.first + low, event.first + high)
            for rank, (low, high) in enumerate(shares)
            if low < high
        }
        self._scores = {}
        self._heard = [event.now] * self.terms.world_size
        return [
            Send(self.admission.members[rank], Evaluate(self.request, event.split, low, high))
            for rank, (low, high) in self._pieces.items()
        ]

    def evaluated(self, event: Any) -> Instructions:
        """Collect a rank's pieces; the last rank's complete the evaluation."""
        rank = self._member(event)
        if rank is None:
            return []
        message: Evaluated = event.message
        low, high = self._pieces.get(rank, (0, 0))
        fits = len(message.losses) == len(message.correct) == high - low
        if message.request != self.request or not fits or rank in self._scores:
            return self._broke(
                rank,
                f"evaluation {message.request} of {len(message.losses)} pieces does not answer "
                f"request {self.request} for {high - low}",
            )
        self._scores[rank] = message
        if len(self._scores) < len(self._pieces):
            return []
        self.state = State.IDLE
        ordered = [self._scores[each] for each in sorted(self._scores)]
        return [
            Scored(
                [loss for each in ordered for loss in each.losses],
                [count for each in ordered for count in each.correct],
            )
        ]

    def non_finite(self, event: Any) -> Instructions:
        """End the run, naming where the first infinity or NaN stood."""
        rank = self._member(event)
        if rank is None:
            return []
        bad: NonFinite = event.message
        return self._fail(
            non_finite_error(bad.step, f"rank {rank}, shard {bad.shard}", bad.layer, bad.what)
        )

    def failed(self, event: Any) -> Instructions:
        """End the run with a worker's own words."""
        rank = self._member(event)
        if rank is None:
            return []
        failed: Failed = event.message
        if failed.user:
            return self._fail(UsageError(f"rank {rank}: {failed.error}"))
        return self._fail(
            WorkersLostError(
                f"rank {rank} raised {failed.error}{self._where(rank)}\n{failed.traceback.rstrip()}"
            )
        )

    def gone(self, event: Any) -> Instructions:
        """End the run: nobody takes a dead worker's place."""
        return self._fail(
            WorkersLostError(f"rank {event.rank} {event.how}{self._where(event.rank)}")
        )

    def clock(self, event: Any) -> Instructions:
        """Give up whoever has been silent for too long; show the others a sign of life."""
        for rank in self._awaited():
            if event.now - self._heard[rank] > self.terms.timeout:
                return self._fail(
                    WorkersLostError(
                        f"rank {rank} has not been heard of for {self.terms.timeout:g} s"
                        f"{self._where(rank)}; if its work takes that long, raise --worker-timeout"
                    )
                )
        return [Send(name, Ping()) for name in self.admission.members.values()]

    def stop(self, event: Any) -> Instructions:
        """Send everybody home."""
        self.state = State.OVER
        return [Send(name, Stop(event.reason)) for name in self.admission.members.values()]

    def latecomer(self, event: Any) -> Instructions:
        """Turn away whoever comes when everybody is there."""
        if self.admission.rank_of(event.peer) is not None:
            return self._out_of_place(event)
        return refuse(event.peer, "every rank of this run is taken")

    def _member(self, event: Heard) -> int | None:
        rank = self.admission.rank_of(event.peer)
        if rank is not None:
            self._heard[rank] = event.now
        return rank

    def _awaited(self) -> list[int]:
        ranks = range(self.terms.world_size)
        if self.state is State.JOINING:
            launched = range(self.terms.launched)
            joined = set(self.admission.members) | set(launched)
            return [rank for rank in ranks if rank in joined and rank not in self._ready]
        if self.state is State.EVALUATING:
            return [rank for rank in self._pieces if rank not in self._scores]
        if self._open is not None:
            behind = min(self._open.buckets)
            return [rank for rank in ranks if self._open.buckets[rank] == behind]
        return []

    def _where(self, rank: int) -> str:
        doing = {
            State.JOINING: " while it was joining",
            State.EVALUATING: " in an evaluation",
        }.get(self.state, "")
        if self._open is not None:
            doing = f" in step {self._open.step}"
        log = f"; see {self.terms.logs[rank]}" if rank < len(self.terms.logs) else ""
        return doing + log

    def _ended(self, instructions: Instructions) -> Instructions:
        if any(isinstance(each, End) for each in instructions):
            return [*self.stop(StopAsked("the run has failed")), *instructions]
        return instructions

    def _fail(self, error: DptrainError) -> Instructions:
        return self._ended([End(error)])

    def _broke(self, rank: int, how: str) -> Instructions:
        return self._fail(
            WorkersLostError(f"rank {rank} broke the protocol: {how}{self._where(rank)}")
        )

    def _out_of_place(self, event: Event) -> Instructions:
        if self.state is State.OVER or not isinstance(event, Heard | Garbled):
            return []
        rank = self.admission.rank_of(event.peer)
        if rank is None:
            return []  # a stranger: nothing it says matters
        if isinstance(event, Garbled):
            return self._broke(rank, event.reason)
        return self._broke(rank, f"{type(event.message).__name__} while {self.state.value}")


def edges(bounds: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Return the ranks' ranges as ascending edges, as `remaining_additions` takes them."""
    return (*(low for low, _ in bounds), bounds[-1][1])


def non_finite_error(step: int, where: str, layer: str, what: str) -> NonFiniteError:
    """Return the error that names where the first infinity or NaN of a step stood."""
    place = {
        "weights": f"in the weights of layer {layer}",
        "output": f"in the output of layer {layer}",
    }.get(what, f"in the {layer}")
    return NonFiniteError(f"step {step} has a loss that is not finite: {where}, first {place}")


Handler = Callable[[CoordinatorMachine, Any], Instructions]
M = CoordinatorMachine

TRANSITIONS: dict[tuple[State, type], Handler] = {
    (State.JOINING, Hello): M.joining,
    (State.JOINING, Answer): M.joining,
    (State.JOINING, Ready): M.ready,
    (State.IDLE, Hello): M.latecomer,
    (State.IDLE, TrainAsked): M.train,
    (State.IDLE, EvaluationAsked): M.evaluate,
    (State.TRAINING, Hello): M.latecomer,
    (State.TRAINING, Gradient): M.gradient,
    (State.TRAINING, NonFinite): M.non_finite,
    (State.EVALUATING, Hello): M.latecomer,
    (State.EVALUATING, Evaluated): M.evaluated,
    (State.OVER, Hello): M.latecomer,
} | {
    (state, kind): handler
    for state in (State.JOINING, State.IDLE, State.TRAINING, State.EVALUATING)
    for kind, handler in (
        (Failed, M.failed),
        (Gone, M.gone),
        (Clock, M.clock),
        (StopAsked, M.stop),
    )
}
