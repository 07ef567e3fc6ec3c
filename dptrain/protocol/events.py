"""What can happen to the coordinator, and what it can be told to do about it.

Everything here is plain data. An event carries what a pure machine cannot find out for itself: the
time, a fresh nonce, how a process ended.
"""

import enum
from collections.abc import Callable
from typing import NamedTuple

from dptrain.errors import DptrainError
from dptrain.protocol.messages import Message


class State(enum.Enum):
    """What the coordinator is doing."""

    JOINING = "joining"
    IDLE = "idle"
    TRAINING = "training"
    EVALUATING = "evaluating"
    OVER = "over"


class Heard(NamedTuple):
    """A message came from a connection; ``nonce`` is fresh, for whoever needs one."""

    peer: bytes
    message: Message
    now: float
    nonce: bytes


class Garbled(NamedTuple):
    """Something came from a connection that is no message."""

    peer: bytes
    reason: str


class Gone(NamedTuple):
    """A worker is no more; ``how`` tells, such as ``"was killed by SIGKILL"``."""

    rank: int
    how: str


class Clock(NamedTuple):
    """Time has passed."""

    now: float


class TrainAsked(NamedTuple):
    """Train the steps ``begin`` to ``end - 1``; ``rows`` are those of each step's minibatch."""

    begin: int
    end: int
    rows: Callable[[int], int]
    now: float


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


class Reduce(NamedTuple):
    """All ranks' sums of a bucket are there: reduce, update and send the new weights."""

    step: int
    bucket: int
    rows: int


class Commit(NamedTuple):
    """A step is done; ``compute`` is the slowest rank's time."""

    step: int
    loss: float
    compute: float


class Scored(NamedTuple):
    """An evaluation is done: losses and correct rows of each piece, in order."""

    losses: list[float]
    correct: list[int]


class End(NamedTuple):
    """The run cannot go on."""

    error: DptrainError


Event = Heard | Garbled | Gone | Clock | TrainAsked | EvaluationAsked | StopAsked
Instruction = Send | Broadcast | Take | Reduce | Commit | Scored | End
