"""The coordinator's protocol as a pure state machine: events in, instructions out.

No socket, clock, process or file is touched here; time and nonces come in with the events. What
may happen when, and which state comes next, stands in one table, `TRANSITIONS`, at the end of the
file: what has no entry for the present state is refused. The machine counts who has handed in what;
the arrays themselves never pass through it.

A handler returns what to do; it returns it as `Done` when the work of the state is complete, and
the table's next state begins. Whatever ends the run with an `End` leads to OVER, from anywhere.
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
from dptrain.protocol.admission import Admission, Terms, refuse
from dptrain.protocol.events import (
    Advanced,
    Broadcast,
    Clock,
    Commit,
    Committed,
    CoordinatorState,
    Done,
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
    StepSpan,
    StopAsked,
    TrainAsked,
)
from dptrain.protocol.messages import (
    Alive,
    Answer,
    Evaluate,
    Evaluated,
    Failed,
    Gradient,
    Hello,
    Message,
    NonFinite,
    Ping,
    Plan,
    Progress,
    Ready,
    Rows,
    Stop,
)
from dptrain.protocol.patience import MULTIPLE, Patience
from dptrain.protocol.training import Training
from dptrain.protocol.transitions import Transition, after, in_all

Instructions = list[Instruction]


class CoordinatorMachine:
    """See the module.

    Attributes:
        state: what the coordinator is doing.
    """

    def __init__(self, terms: Terms, training: Training, now: float) -> None:
        """Begin to wait for workers.

        Args:
            terms: of the run.
            training: counts what the ranks have done of the steps.
            now: the time.
        """
        self.terms = terms
        self.state = CoordinatorState.JOINING
        self.admission = Admission(terms)
        self.bounds = assign(terms.shards, terms.world_size)
        self.generation = 1
        self.request = 0
        self._patience = Patience(terms.timeout, terms.expected, terms.world_size, now)
        self._ready: set[int] = set()
        self.training = training
        self._pieces: dict[int, tuple[int, int]] = {}
        self._done: dict[int, int] = {}
        self._scores: dict[int, Evaluated] = {}

    def handle(self, event: Event) -> Instructions:
        """Return what to do about an event."""
        subject = event.message if isinstance(event, Heard) else event
        row = TRANSITIONS.get((self.state, type(subject)))
        found = self._out_of_place(event) if row is None else row.handler(self, event)
        self.state, instructions = after(row, found, self.state)
        if any(isinstance(each, End) for each in instructions):
            self.state = CoordinatorState.OVER
            return [*self._to_all(Stop("the run has failed")), *instructions]
        return instructions

    def hello(self, event: Heard[Hello]) -> Instructions:
        """Let the admission challenge a newcomer."""
        return self.admission.hello(event, event.message)

    def answer(self, event: Heard[Answer]) -> Instructions:
        """Let the admission decide; a member's message counts as a sign of life."""
        instructions = self.admission.answer(event, event.message)
        self._member(event)
        return instructions

    def ready(self, event: Heard[Ready]) -> Instructions | Done:
        """Begin once every rank has built the job."""
        rank = self._member(event)
        if rank is None:
            return []
        own, wanted = event.message.parameters, self.terms.parameters
        if own != wanted:
            what = f"it built a network of {own} parameters, not {wanted}"
            return self._broke(rank, f"{what}; install the same dptrain on both sides")
        self._ready.add(rank)
        if len(self._ready) < self.terms.world_size:
            return []
        return Done([Broadcast()])

    def train(self, event: TrainAsked) -> Done:
        """Send every rank its first plans."""
        self._patience.begin(CoordinatorState.TRAINING, event.now)
        return Done(self._planned(self.training.begin(self.generation, event)))

    def _planned(self, found: Sequence[Instruction | StepSpan]) -> Instructions:
        """Make messages to everybody of the plans among some instructions."""
        instructions: Instructions = []
        for each in found:
            if isinstance(each, StepSpan):
                instructions += [
                    Send(name, Plan(self.generation, *each, *self.bounds[rank]))
                    for rank, name in self.admission.members.items()
                ]
            else:
                instructions.append(each)
        return instructions

    def contribution(self, event: Heard[Gradient | Progress]) -> Instructions | Done:
        """Count what a rank has done for the step or plan under way."""
        instructions = self._counted(event)
        return Done(instructions) if self.training.step is None else instructions

    def rows(self, event: Heard[Rows]) -> Instructions:
        """Count a rank's rows of a table, which complete no step."""
        return self._counted(event)

    def _counted(self, event: Heard[Gradient | Rows | Progress]) -> Instructions:
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
        return self._planned(found)

    def at_work(self, event: Heard[Alive]) -> Instructions:
        """Take a sign of life in the middle of a step."""
        self._member(event)
        return []

    def advanced(self, event: Advanced) -> Instructions:
        """Take movement in shared memory for a sign of life."""
        for rank in self.training.advanced(event.arrivals):
            self._patience.heard(rank, event.now)
        return []

    def halt(self, event: HaltAsked) -> Instructions:  # noqa: ARG002 - one signature for all handlers
        """Plan no more."""
        self.training.halt()
        return []

    def evaluate(self, event: EvaluationAsked) -> Done:
        """Share out the pieces of an evaluation."""
        self.request += 1
        shares = assign(event.last - event.first, self.terms.world_size)
        self._pieces = {
            rank: (event.first + low, event.first + high)
            for rank, (low, high) in enumerate(shares)
            if low < high
        }
        self._done, self._scores = {}, {}
        self._patience.begin(CoordinatorState.EVALUATING, event.now)
        return Done(
            [
                Send(self.admission.members[rank], Evaluate(self.request, event.split, low, high))
                for rank, (low, high) in self._pieces.items()
            ]
        )

    def evaluating(self, event: Heard[Alive]) -> Instructions:
        """Take a sign of life in the middle of an evaluation, and tell how far all have come."""
        rank = self._scored(event)
        if rank is None:
            return []
        self._done[rank] = event.message.pieces
        first, _ = self._pieces[0]
        return [Evaluating(first + sum(self._done.values()))]

    def _scored(self, event: Heard[Alive | Evaluated]) -> int | None:
        rank = self.admission.rank_of(event.peer)
        if rank is not None:
            self._patience.took(self._patience.heard(rank, event.now))
        return rank

    def evaluated(self, event: Heard[Evaluated]) -> Instructions | Done:
        """Collect a rank's pieces; the last rank's complete the evaluation."""
        rank = self._scored(event)
        if rank is None:
            return []
        message = event.message
        low, high = self._pieces.get(rank, (0, 0))
        fits = len(message.losses) == len(message.correct) == high - low > 0
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
        ordered = [self._scores[each] for each in sorted(self._scores)]
        scored = Scored(
            [loss for each in ordered for loss in each.losses],
            [count for each in ordered for count in each.correct],
            {rank: (each.began, each.ended) for rank, each in self._scores.items()},
        )
        return Done([scored])

    def non_finite(self, event: Heard[NonFinite]) -> Instructions:
        """End the run, naming where the first infinity or NaN stood."""
        rank = self._member(event)
        if rank is None:
            return []
        bad, place = event.message, f"rank {rank}, shard {event.message.shard}"
        return self._fail(NonFiniteError.at(bad.step, place, bad.layer, bad.what))

    def failed(self, event: Heard[Failed]) -> Instructions:
        """End the run with a worker's own words."""
        rank = self._member(event)
        if rank is None:
            return []
        failed = event.message
        if failed.user and failed.traceback:
            return self._fail(OwnCodeError(f"rank {rank}: {failed.error}", failed.traceback))
        if failed.user:
            return self._fail(UsageError(f"rank {rank}: {failed.error}"))
        return self._fail(
            WorkersLostError(
                f"rank {rank} raised {failed.error}{self._where(rank)}\n{failed.traceback.rstrip()}"
            )
        )

    def gone(self, event: Gone) -> Instructions:
        """End the run: nobody takes a dead worker's place."""
        how, where = f"rank {event.rank} {event.how}", self._where(event.rank)
        killed = event.killed
        return self._fail(
            WorkerKilledError(how, where) if killed else WorkersLostError(how + where)
        )

    def clock(self, event: Clock) -> Instructions:
        """Give up whoever has been silent for too long; find out whether the others are there."""
        lost = self._patience.lost(self._awaited(), event.now)
        if lost is not None:
            return self._fail(WorkersLostError(self._silent(lost, lost in event.stopped)))
        return self._to_all(Ping())

    def stop(self, event: StopAsked) -> Done:
        """Send everybody home."""
        return Done(self._to_all(Stop(event.reason)))

    def _to_all(self, message: Ping | Stop) -> Instructions:
        return [Send(name, message) for name in self.admission.members.values()]

    def latecomer(self, event: Heard[Hello]) -> Instructions:
        """Turn away whoever comes when everybody is there."""
        if self.admission.rank_of(event.peer) is not None:
            return self._out_of_place(event)
        return refuse(event.peer, "every rank of this run is taken")

    def _member(self, event: Heard[Message]) -> int | None:
        rank = self.admission.rank_of(event.peer)
        if rank is not None:
            self._patience.heard(rank, event.now)
        return rank

    def _awaited(self) -> list[int]:
        ranks = range(self.terms.world_size)
        if self.state is CoordinatorState.JOINING:
            launched = range(self.terms.launched)
            joined = set(self.admission.members) | set(launched)
            return [rank for rank in ranks if rank in joined and rank not in self._ready]
        if self.state is CoordinatorState.EVALUATING:
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
            CoordinatorState.JOINING: " while it was joining",
            CoordinatorState.EVALUATING: " in an evaluation",
        }.get(self.state, "")
        if self.state is CoordinatorState.TRAINING:
            doing = f" in step {self.training.place(rank)}"
        log = f"; see {self.terms.logs[rank]}" if rank < len(self.terms.logs) else ""
        return doing + log

    def _fail(self, error: DptrainError) -> Instructions:
        return [End(error)]

    def _broke(self, rank: int, how: str, error: ProtocolError | None = None) -> Instructions:
        lost = WorkersLostError(f"rank {rank} broke the protocol: {how}{self._where(rank)}")
        lost.__cause__ = error
        return self._fail(lost)

    def _out_of_place(self, event: Event) -> Instructions:
        if isinstance(event, TrainAsked | EvaluationAsked):
            # nobody would ever answer, and the shell would wait for ever
            raise RuntimeError(f"{type(event).__name__} while {self.state.value}")
        if self.state is CoordinatorState.OVER or not isinstance(event, Heard | Garbled):
            return []
        rank = self.admission.rank_of(event.peer)
        if rank is None:
            return []  # a stranger: nothing it says matters
        if isinstance(event, Garbled):
            return self._broke(rank, event.reason, event.error)
        return self._broke(rank, f"{type(event.message).__name__} while {self.state.value}")


M = CoordinatorMachine
Handler = Callable[[M, Any], Instructions | Done]

# In every state but OVER.
ALWAYS: dict[type, Transition[Handler, CoordinatorState]] = {
    Failed: Transition(M.failed),
    Gone: Transition(M.gone),
    Clock: Transition(M.clock),
    StopAsked: Transition(M.stop, CoordinatorState.OVER),
}

TRANSITIONS: dict[tuple[CoordinatorState, type], Transition[Handler, CoordinatorState]] = {
    (CoordinatorState.JOINING, Hello): Transition(M.hello),
    (CoordinatorState.JOINING, Answer): Transition(M.answer),
    (CoordinatorState.JOINING, Ready): Transition(M.ready, CoordinatorState.IDLE),
    (CoordinatorState.IDLE, Hello): Transition(M.latecomer),
    (CoordinatorState.IDLE, TrainAsked): Transition(M.train, CoordinatorState.TRAINING),
    (CoordinatorState.IDLE, EvaluationAsked): Transition(M.evaluate, CoordinatorState.EVALUATING),
    (CoordinatorState.TRAINING, Hello): Transition(M.latecomer),
    (CoordinatorState.TRAINING, Gradient): Transition(M.contribution, CoordinatorState.IDLE),
    (CoordinatorState.TRAINING, Rows): Transition(M.rows),
    (CoordinatorState.TRAINING, Progress): Transition(M.contribution, CoordinatorState.IDLE),
    (CoordinatorState.TRAINING, Alive): Transition(M.at_work),
    (CoordinatorState.TRAINING, Advanced): Transition(M.advanced),
    (CoordinatorState.TRAINING, HaltAsked): Transition(M.halt),
    (CoordinatorState.TRAINING, NonFinite): Transition(M.non_finite),
    (CoordinatorState.EVALUATING, Hello): Transition(M.latecomer),
    (CoordinatorState.EVALUATING, Alive): Transition(M.evaluating),
    (CoordinatorState.EVALUATING, Evaluated): Transition(M.evaluated, CoordinatorState.IDLE),
    (CoordinatorState.OVER, Hello): Transition(M.latecomer),
    **in_all(CoordinatorState, ALWAYS, but=CoordinatorState.OVER),
}
