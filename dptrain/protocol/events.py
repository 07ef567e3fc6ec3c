"""What can happen to the coordinator, and what it can be told to do about it.

Everything here is plain data. An event carries what a pure machine cannot find out for itself: the
time, a fresh nonce, how a process ended.
"""

import enum
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from dptrain.errors import DptrainError, ProtocolError
from dptrain.protocol.messages import Message
from dptrain.protocol.transitions import Completed


class CoordinatorState(enum.Enum):
    """What the coordinator is doing."""

    JOINING = "joining"
    IDLE = "idle"
    TRAINING = "training"
    EVALUATING = "evaluating"
    OVER = "over"


M = TypeVar("M", bound=Message, covariant=True)


class Heard(NamedTuple, Generic[M]):
    """A message came from a connection; ``nonce`` is fresh, for whoever needs one."""

    peer: bytes
    message: M
    now: float
    nonce: bytes


class Garbled(NamedTuple):
    """Something came from a connection that is not a message, for a reason; the error, if any."""

    peer: bytes
    reason: str
    error: ProtocolError | None = None


class Gone(NamedTuple):
    """A worker is no more; ``how`` tells, such as ``"ended with exit code 3"``."""

    rank: int
    how: str
    killed: bool = False


class Clock(NamedTuple):
    """Time has passed; these launched workers are stopped, as by SIGSTOP."""

    now: float
    stopped: frozenset[int] = frozenset()


class TrainAsked(NamedTuple):
    """Train the steps ``begin`` to ``end - 1``; ``rows`` are those of each step's minibatch."""

    begin: int
    end: int
    rows: Callable[[int], int]
    now: float


class Advanced(NamedTuple):
    """Where the ranks' words in shared memory stand; whoever has moved is alive."""

    arrivals: list[int]
    now: float


class HaltAsked(NamedTuple):
    """Let the ranks carry out what is planned, and plan no more."""


class EvaluationAsked(NamedTuple):
    """Evaluate the pieces ``first`` to ``last - 1`` of a split."""

    split: str
    first: int
    last: int
    now: float


class StopAsked(NamedTuple):
    """Tell everybody that the run is over."""

    reason: str


class Send(NamedTuple):
    """Send a message to a connection."""

    peer: bytes
    message: Message


class Broadcast(NamedTuple):
    """Everybody is ready: send the weights, all buckets, to every rank."""


class Take(NamedTuple):
    """The frames behind this message are a rank's sums of a bucket, one for each root."""

    rank: int
    bucket: int
    roots: tuple[int, ...]


class TakeRows(NamedTuple):
    """The frame behind this message holds rows ``low`` to ``high - 1`` of a table."""

    rank: int
    table: int
    low: int
    high: int


class Spread(NamedTuple):
    """All ranks' rows of a table are there: send its first ``shards`` rows to every rank."""

    step: int
    table: int
    shards: int


class Reduce(NamedTuple):
    """All ranks' sums of a bucket are there: reduce, update and send the new weights."""

    step: int
    bucket: int
    rows: int


class Commit(NamedTuple):
    """A step is done; ``marks`` are every rank's, as in its message."""

    step: int
    loss: float
    marks: list[list[float]]

    @property
    def steps(self) -> int:
        """How many steps are committed."""
        return 1


class Committed(NamedTuple):
    """The ranks have carried out the steps ``begin`` to ``end - 1`` in shared memory."""

    begin: int
    end: int

    @property
    def steps(self) -> int:
        """How many steps are committed."""
        return self.end - self.begin


class StepSpan(NamedTuple):
    """Steps ``begin`` to ``end - 1`` that every rank shall carry out."""

    begin: int
    end: int


class Evaluating(NamedTuple):
    """So many pieces of the split are done, in this evaluation and those before of the same."""

    pieces: int


class Scored(NamedTuple):
    """An evaluation is done: losses and correct rows of each piece, in order.

    ``spans`` tells from when to when each rank was at it.
    """

    losses: list[float]
    correct: list[int]
    spans: dict[int, tuple[float, float]]


class End(NamedTuple):
    """The run cannot go on."""

    error: DptrainError


Event = (
    Heard[Message]
    | Garbled
    | Gone
    | Clock
    | TrainAsked
    | Advanced
    | HaltAsked
    | EvaluationAsked
    | StopAsked
)
Instruction = (
    Send
    | Broadcast
    | Take
    | TakeRows
    | Spread
    | Reduce
    | Commit
    | Committed
    | Evaluating
    | Scored
    | End
)


class Done(Completed[Instruction]):
    """What to do, when the work of a state is complete."""
