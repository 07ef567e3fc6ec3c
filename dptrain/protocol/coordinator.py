"""The coordinator's protocol as a pure state machine: events in, instructions out.

No socket, clock, process or file is touched here; time and nonces come in with the events. What
may happen when stands in one table, `TRANSITIONS`, at the end of the file: what has no entry for
the present state is refused. The machine counts who has handed in what; the arrays themselves never
pass through it.

JOINING until every rank is ready, then IDLE; TRAINING and EVALUATING while a request is open, then
IDLE again; OVER from the first failure or the request to stop on.
"""

from collections.abc import Callable, Sequence
from typing import Any

from dptrain.arithmetic.shards import assign
from dptrain.errors import (
    DptrainError,
    NonFiniteError,
    OwnCodeError,
    ProtocolError,
    UsageError,
    WorkerKilledError,
    WorkersLostError,
)
from dptrain.experiment.exchanges import EXCHANGES
from dptrain.protocol.admission import Admission, Terms, refuse
from dptrain.protocol.collecting import Collecting
from dptrain.protocol.events import (
    Advanced,
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
    HaltAsked,
    Heard,
    Instruction,
    Scored,
    Send,
    Span,
    State,
    StopAsked,
    TrainAsked,
)
from dptrain.protocol.lockstep import Lockstep
from dptrain.protocol.messages import (
    Alive,
    Answer,
    Evaluate,
    Evaluated,
    Failed,
    Gradient,
    Hello,
    NonFinite,
    Ping,
    Plan,
    Progress,
    Ready,
    Rows,
    Stop,
)
from dptrain.protocol.patience import MULTIPLE, Patience

Instructions = list[Instruction]


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
        self._patience = Patience(terms.timeout, terms.expected, terms.world_size, now)
        self._ready: set[int] = set()
        self.training: Collecting | Lockstep = (
            Lockstep(terms.world_size)
            if EXCHANGES[terms.exchange].lockstep
            else Collecting(self.bounds, terms.buckets, terms.tables)
        )
        self._pieces: dict[int, tuple[int, int]] = {}
        self._done: dict[int, int] = {}
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
        """Send every rank its first plans."""
        self.state = State.TRAINING
        self._patience.begin(self.state, event.now)
        return self._planned(self.training.begin(self.generation, event))

    def _planned(self, found: Sequence[Instruction | Span]) -> Instructions:
        """Make messages to everybody of the plans among some instructions."""
        instructions: Instructions = []
        for each in found:
            if isinstance(each, Span):
                instructions += [
                    Send(name, Plan(self.generation, *each, *self.bounds[rank]))
                    for rank, name in self.admission.members.items()
                ]
            else:
                instructions.append(each)
        return instructions

    def contribution(self, event: Any) -> Instructions:
        """Count what a rank has done for the step or plan under way."""
        rank = self._member(event)
        if rank is None:
            return []
        try:
            found = self.training.take(rank, event)
        except ProtocolError as error:
            return self._broke(rank, str(error))
        for each in found:
            if isinstance(each, Commit | Committed):
                self._patience.together(each.steps)
        if self.training.step is None:
            self.state = State.IDLE
        return self._planned(found)

    def at_work(self, event: Any) -> Instructions:
        """Take a sign of life in the middle of a step."""
        self._member(event)
        return []

    def advanced(self, event: Any) -> Instructions:
        """Take movement in shared memory for a sign of life."""
        if isinstance(self.training, Lockstep):
            for rank in self.training.advanced(event.arrivals):
                self._patience.heard(rank, event.now)
        return []

    def halt(self, event: Any) -> Instructions:  # noqa: ARG002 - one signature for all handlers
        """Plan no more."""
        if isinstance(self.training, Lockstep):
            self.training.halt()
        return []

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
        self._done, self._scores = {}, {}
        self._patience.begin(self.state, event.now)
        return [
            Send(self.admission.members[rank], Evaluate(self.request, event.split, low, high))
            for rank, (low, high) in self._pieces.items()
        ]

    def evaluating(self, event: Any) -> Instructions:
        """Take a sign of life in the middle of an evaluation, and tell how far all have come."""
        rank = self._scored(event)
        if rank is None:
            return []
        self._done[rank] = event.message.pieces
        first, _ = self._pieces[0]
        return [Evaluating(first + sum(self._done.values()))]

    def _scored(self, event: Heard) -> int | None:
        rank = self.admission.rank_of(event.peer)
        if rank is not None:
            self._patience.took(self._patience.heard(rank, event.now))
        return rank

    def evaluated(self, event: Any) -> Instructions:
        """Collect a rank's pieces; the last rank's complete the evaluation."""
        rank = self._scored(event)
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
        self._done[rank] = high - low
        self._scores[rank] = message
        if len(self._scores) < len(self._pieces):
            return []
        self.state = State.IDLE
        ordered = [self._scores[each] for each in sorted(self._scores)]
        return [
            Scored(
                [loss for each in ordered for loss in each.losses],
                [count for each in ordered for count in each.correct],
                {rank: (each.began, each.ended) for rank, each in self._scores.items()},
            )
        ]

    def non_finite(self, event: Any) -> Instructions:
        """End the run, naming where the first infinity or NaN stood."""
        rank = self._member(event)
        if rank is None:
            return []
        bad: NonFinite = event.message
        return self._fail(
            NonFiniteError.at(bad.step, f"rank {rank}, shard {bad.shard}", bad.layer, bad.what)
        )

    def failed(self, event: Any) -> Instructions:
        """End the run with a worker's own words."""
        rank = self._member(event)
        if rank is None:
            return []
        failed: Failed = event.message
        if failed.user and failed.traceback:
            return self._fail(OwnCodeError(f"rank {rank}: {failed.error}", failed.traceback))
        if failed.user:
            return self._fail(UsageError(f"rank {rank}: {failed.error}"))
        return self._fail(
            WorkersLostError(
                f"rank {rank} raised {failed.error}{self._where(rank)}\n{failed.traceback.rstrip()}"
            )
        )

    def gone(self, event: Any) -> Instructions:
        """End the run: nobody takes a dead worker's place."""
        how, where = f"rank {event.rank} {event.how}", self._where(event.rank)
        killed = event.killed
        return self._fail(
            WorkerKilledError(how, where) if killed else WorkersLostError(how + where)
        )

    def clock(self, event: Any) -> Instructions:
        """Give up whoever has been silent for too long; find out whether the others are there."""
        lost = self._patience.lost(self._awaited(), event.now)
        if lost is not None:
            return self._fail(WorkersLostError(self._silent(lost, lost in event.stopped)))
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
            self._patience.heard(rank, event.now)
        return rank

    def _awaited(self) -> list[int]:
        ranks = range(self.terms.world_size)
        if self.state is State.JOINING:
            launched = range(self.terms.launched)
            joined = set(self.admission.members) | set(launched)
            return [rank for rank in ranks if rank in joined and rank not in self._ready]
        if self.state is State.EVALUATING:
            return [rank for rank in self._pieces if rank not in self._scores]
        return self.training.awaited()

    def _silent(self, rank: int, stopped: bool) -> str:
        allowed = self._patience.allowed
        longer = f", {MULTIPLE:g} times as long as anything of the kind took before,"
        longer *= MULTIPLE * self._patience.longest > self.terms.timeout
        if stopped:
            why = "its process is stopped, as by kill -STOP; if that may take so long"
        else:
            why = "its process lives; " * (rank < self.terms.launched)
            why += "if its work takes that long"
        return (
            f"rank {rank} has not been heard of for {round(allowed, 1):g} s"
            f"{longer}{self._where(rank)}; {why}, raise --worker-timeout"
        )

    def _where(self, rank: int) -> str:
        doing = {
            State.JOINING: " while it was joining",
            State.EVALUATING: " in an evaluation",
        }.get(self.state, "")
        if self.state is State.TRAINING:
            doing = f" in step {self.training.place(rank)}"
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
    (State.TRAINING, Gradient): M.contribution,
    (State.TRAINING, Rows): M.contribution,
    (State.TRAINING, Progress): M.contribution,
    (State.TRAINING, Alive): M.at_work,
    (State.TRAINING, Advanced): M.advanced,
    (State.TRAINING, HaltAsked): M.halt,
    (State.TRAINING, NonFinite): M.non_finite,
    (State.EVALUATING, Hello): M.latecomer,
    (State.EVALUATING, Alive): M.evaluating,
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
