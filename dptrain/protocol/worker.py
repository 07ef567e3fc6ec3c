"""The worker's protocol as a pure state machine: events in, instructions out.

Which state comes next stands beside each handler in `TRANSITIONS`, at the end of the file, as in
`dptrain.protocol.coordinator`; a message that has no entry for the present state ends the worker,
because its coordinator is not what it seems. WAITING is the star's: a step is computed when its
weights are complete and a plan covers it. SHARING is that of ranks in shared memory, which carry
out a plan at once.
"""

import enum
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from dptrain.protocol.handshake import proof, proves
from dptrain.protocol.messages import (
    Answer,
    Challenge,
    Evaluate,
    Hello,
    Message,
    Ping,
    Plan,
    Progress,
    Ready,
    Refused,
    Stop,
    Table,
    Weights,
    Welcome,
)
from dptrain.protocol.patience import Silence
from dptrain.protocol.transitions import Completed, Transition, after, in_all


class WorkerState(enum.Enum):
    """What the worker is doing."""

    GREETING = "greeting"
    PROVING = "proving"
    BUILDING = "building"
    WAITING = "waiting"
    SHARING = "sharing memory"
    OVER = "over"


M = TypeVar("M", bound=Message, covariant=True)


class Heard(NamedTuple, Generic[M]):
    """The coordinator sent a message."""

    message: M


class Built(NamedTuple):
    """The job is built: its flat vector has ``parameters`` elements in ``buckets`` buckets."""

    parameters: int
    buckets: int


class Attached(NamedTuple):
    """The job is built, and in shared memory are the weights after ``step`` steps."""

    parameters: int
    step: int


class Ran(NamedTuple):
    """The steps of a plan are done."""

    plan: Plan


class Clock(NamedTuple):
    """Time has passed."""

    now: float


class Orphaned(NamedTuple):
    """The coordinator's process is no more."""


class Disconnected(NamedTuple):
    """The coordinator, or what lies between, has ended the connection."""


class Send(NamedTuple):
    """Send a message to the coordinator."""

    message: Message


class Build(NamedTuple):
    """Build the job."""

    welcome: Welcome


class Take(NamedTuple):
    """The frame behind this message is a bucket of the weights."""

    bucket: int


class TakeTable(NamedTuple):
    """The frame behind this message is the table with this number."""

    table: int


class Compute(NamedTuple):
    """Compute the gradient of the shards ``first`` to ``last - 1`` in a step, and hand it in.

    ``more`` tells whether the next step is planned, so that its rows can be gathered meanwhile.
    """

    generation: int
    step: int
    first: int
    last: int
    more: bool


class RunPlan(NamedTuple):
    """Carry out a plan in shared memory, and say so: `Ran`."""

    plan: Plan


class ComputeScore(NamedTuple):
    """Compute pieces of an evaluation with the weights after ``step`` steps."""

    request: Evaluate
    step: int


class Exit(NamedTuple):
    """End the process; ``expected`` tells whether the run ended as it should."""

    reason: str
    expected: bool


Event = Heard[Message] | Built | Attached | Ran | Clock | Orphaned | Disconnected
Instruction = Send | Build | Take | TakeTable | Compute | RunPlan | ComputeScore | Exit
Instructions = list[Instruction]


class Done(Completed[Instruction]):
    """What to do, when the work of a state is complete."""


JOIN_TIMEOUT = 60.0


class WorkerMachine:
    """See the module.

    Attributes:
        state: what the worker is doing.
        rank: once welcomed; -1 before.
    """

    def __init__(self, key: bytes, hello: Hello, fingerprint: str, now: float) -> None:
        self.state = WorkerState.GREETING
        self.rank = -1
        self._key = key
        self._hello = hello
        self._fingerprint = fingerprint
        self._nonces = (hello.nonce, b"")
        self._silence = Silence(1, now)
        self._plan: Plan | None = None
        self._buckets = 0
        self._step = -1
        self._computing = -1
        self._arrived = 0

    def start(self) -> Instructions:
        """Return the first thing to do."""
        return [Send(self._hello)]

    def handle(self, event: Event) -> Instructions:
        """Return what to do about an event."""
        subject = event.message if isinstance(event, Heard) else event
        row = TRANSITIONS.get((self.state, type(subject)))
        found = self._out_of_place(subject) if row is None else row.handler(self, event)
        self.state, instructions = after(row, found, self.state)
        if any(isinstance(each, Exit) for each in instructions):
            self.state = WorkerState.OVER
        return instructions

    def _out_of_place(self, subject: object) -> Instructions:
        if self.state is WorkerState.OVER:
            return []
        what = type(subject).__name__
        return self._exit(f"the coordinator sent {what} while {self.state.value}", expected=False)

    def challenge(self, event: Heard[Challenge]) -> Done:
        """Prove that this worker holds the key."""
        self._nonces = (self._hello.nonce, event.message.nonce)
        own = proof(self._key, "worker", *self._nonces)
        return Done([Send(Answer(own, self._fingerprint))])

    def welcome(self, event: Heard[Welcome]) -> Instructions | Done:
        """Build the job, if the coordinator holds the key as well."""
        welcome = event.message
        expected = proof(self._key, "coordinator", *self._nonces)
        if not proves(welcome.proof, expected):
            return self._exit("the coordinator does not hold the key of this run", expected=False)
        self.rank = welcome.rank
        return Done([Build(welcome)])

    def built(self, event: Built) -> Done:
        """Report for work; weights come in messages."""
        self._buckets = event.buckets
        return Done([Send(Ready(event.parameters))])

    def attached(self, event: Attached) -> Done:
        """Report for work; weights are in shared memory."""
        self._step = event.step
        return Done([Send(Ready(event.parameters))])

    def plan(self, event: Heard[Plan]) -> Instructions:
        """Keep the plan: the weights of its first step may be here already."""
        self._plan = event.message
        return self._compute()

    def shared_plan(self, event: Heard[Plan]) -> Instructions:
        """Carry the plan out."""
        if event.message.begin != self._step:
            return self._exit(
                f"a plan of step {event.message.begin} came where step {self._step} was due",
                expected=False,
            )
        return [RunPlan(event.message)]

    def ran(self, event: Ran) -> Instructions:
        """Report the end of the plan."""
        self._step = event.plan.end
        return [Send(Progress(event.plan.generation, event.plan.end))]

    def weights(self, event: Heard[Weights]) -> Instructions:
        """Take a bucket of weights in its turn; compute when they are complete."""
        message = event.message
        if self._arrived == self._buckets or self._step < 0:
            self._step, self._arrived = message.step, 0
        if (message.step, message.bucket) != (self._step, self._arrived):
            return self._exit(
                f"weights of step {message.step}, bucket {message.bucket}, came where step "
                f"{self._step}, bucket {self._arrived}, was due",
                expected=False,
            )
        self._arrived += 1
        return [Take(message.bucket), *self._compute()]

    def _compute(self) -> Instructions:
        plan = self._plan
        complete = self._arrived == self._buckets and self._step >= 0
        if plan is None or not complete or not plan.begin <= self._step < plan.end:
            return []
        self._computing = self._step
        more = self._step + 1 < plan.end
        return [Compute(plan.generation, self._step, plan.first, plan.last, more)]

    def table(self, event: Heard[Table]) -> Instructions:
        """Take a table of the step that is being computed.

        Weights of the next step may have come before: those of layers that are done.
        """
        message = event.message
        if message.step != self._computing:
            return self._exit(
                f"a table of step {message.step} came in step {self._computing}", expected=False
            )
        return [TakeTable(message.table)]

    def evaluate(self, event: Heard[Evaluate]) -> Instructions:
        """Compute pieces of an evaluation with the weights that are here."""
        return [ComputeScore(event.message, self._step)]

    def refused(self, event: Heard[Refused]) -> Instructions:
        """Go home."""
        return self._exit(f"refused by the coordinator: {event.message.reason}", expected=False)

    def stop(self, event: Heard[Stop]) -> Instructions:
        """Go home."""
        return self._exit(event.message.reason, expected=True)

    def ping(self, event: Heard[Ping]) -> Instructions:  # noqa: ARG002 - one signature for all handlers
        """Nothing to do: hearing it was enough."""
        return []

    def clock(self, event: Clock) -> Instructions:
        """Give up where nobody has ever answered a worker that was started by hand.

        A coordinator that has answered and says nothing may be stopped, and go on later; of its
        end a worker is told, by the pipe or by the connection between them.
        """
        self._silence.listen(event.now)
        by_hand = self._hello.rank < 0
        if not (
            by_hand and self.state is WorkerState.GREETING and self._silence.of(0) > JOIN_TIMEOUT
        ):
            return []
        return self._exit(
            f"nobody has answered for {JOIN_TIMEOUT:g} s; is there a run that waits for workers?",
            expected=False,
        )

    def orphaned(self, event: Orphaned) -> Instructions:  # noqa: ARG002
        """Go home."""
        return self._exit("the coordinator's process is no more", expected=False)

    def disconnected(self, event: Disconnected) -> Instructions:  # noqa: ARG002
        """Go home; whoever has not been answered yet is connected anew."""
        if self.state is WorkerState.GREETING:
            return []
        return self._exit("the coordinator has closed the connection", expected=False)

    def _exit(self, reason: str, *, expected: bool) -> Instructions:
        return [Exit(reason, expected)]


W = WorkerMachine
Handler = Callable[[W, Any], Instructions | Done]

# In every state but OVER.
ALWAYS: dict[type, Transition[Handler, WorkerState]] = {
    Refused: Transition(W.refused),
    Stop: Transition(W.stop),
    Ping: Transition(W.ping),
    Clock: Transition(W.clock),
    Orphaned: Transition(W.orphaned),
    Disconnected: Transition(W.disconnected),
}

TRANSITIONS: dict[tuple[WorkerState, type], Transition[Handler, WorkerState]] = {
    (WorkerState.GREETING, Challenge): Transition(W.challenge, WorkerState.PROVING),
    (WorkerState.PROVING, Welcome): Transition(W.welcome, WorkerState.BUILDING),
    (WorkerState.BUILDING, Built): Transition(W.built, WorkerState.WAITING),
    (WorkerState.BUILDING, Attached): Transition(W.attached, WorkerState.SHARING),
    (WorkerState.WAITING, Plan): Transition(W.plan),
    (WorkerState.WAITING, Weights): Transition(W.weights),
    (WorkerState.WAITING, Table): Transition(W.table),
    (WorkerState.WAITING, Evaluate): Transition(W.evaluate),
    (WorkerState.SHARING, Plan): Transition(W.shared_plan),
    (WorkerState.SHARING, Ran): Transition(W.ran),
    (WorkerState.SHARING, Evaluate): Transition(W.evaluate),
    **in_all(WorkerState, ALWAYS, but=WorkerState.OVER),
}
