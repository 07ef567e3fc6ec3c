"""The control messages: typed, versioned, and fixed arrays on the wire.

``[kind, field, …]`` in MessagePack; no maps (a duplicate key silently wins), no extension types.
Gradients and weights travel as raw frames behind the message that announces them, or lie in shared
memory and are not spoken of at all.

============  =======================  ========================================================
message       direction                meaning
============  =======================  ========================================================
Hello         worker to coordinator    I am here; here is my nonce
Challenge     coordinator to worker    prove that you hold the key
Answer        worker to coordinator    the proof, and how my arithmetic behaves
Welcome       coordinator to worker    the coordinator's own proof, your rank, the job
Refused       coordinator to worker    you cannot join, and why
Ready         worker to coordinator    the job is built, work may come
Plan          coordinator to worker    compute these shards in these steps
Weights       coordinator to worker    a bucket of the weights for a step, in the next frame
Gradient      worker to coordinator    a bucket of a step's sums, one frame for each root
Rows          worker to coordinator    the rank's rows of a table, in the next frame
Table         coordinator to worker    all ranks' rows of a table, in the next frame
Progress      worker to coordinator    the steps of a plan are done, in shared memory
Evaluate      coordinator to worker    compute these pieces of a split
Alive         worker to coordinator    I am at work
Evaluated     worker to coordinator    their losses and correct rows
NonFinite     worker to coordinator    an infinity or NaN, and where it first stood
Failed        worker to coordinator    an exception, with its traceback
Ping          coordinator to worker    are you still there?
Stop          coordinator to worker    the run is over
============  =======================  ========================================================
"""

from typing import Annotated, Any, get_args

import msgpack
import msgspec
from msgspec import Meta, Struct

from dptrain.errors import ProtocolError

VERSION = 6

Count = Annotated[int, Meta(ge=0, le=2**53)]
Text = Annotated[str, Meta(max_length=65536)]
Proof = Annotated[bytes, Meta(min_length=32, max_length=32)]
# The longest list in a message. msgpack reserves memory for every array as soon as it reads its
# length, so nested arrays multiply: with this bound a hostile header takes at most 32 MB.
MAX_LIST = 4096
MAX_HEADER = 1 << 20
LIMITS: dict[str, int] = {
    "max_str_len": MAX_HEADER,
    "max_bin_len": 1024,
    "max_array_len": MAX_LIST,
    "max_map_len": MAX_LIST,
    "max_ext_len": 0,
}
Sums = Annotated[list[float], Meta(max_length=MAX_LIST)]
Counts = Annotated[list[Count], Meta(max_length=MAX_LIST)]


class Message(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=str.lower):
    """The base of all messages; the tag is the class's name in small letters."""


class Hello(Message, frozen=True):
    """A worker introduces itself. ``rank`` is -1 for a worker started by hand."""

    version: Count
    nonce: Proof
    rank: Annotated[int, Meta(ge=-1, le=1 << 20)]
    pid: Count
    host: Annotated[str, Meta(max_length=256)]


class Challenge(Message, frozen=True):
    """The coordinator's nonce."""

    nonce: Proof


class Answer(Message, frozen=True):
    """The worker's proof that it holds the key, and the fingerprint of its arithmetic."""

    proof: Proof
    fingerprint: Annotated[str, Meta(max_length=64)]


class Welcome(Message, frozen=True):
    """The coordinator's proof and the job.

    ``data`` is where the prepared data set lies, ``exchange`` how gradients travel, ``step`` how
    many steps are done already.
    """

    proof: Proof
    rank: Count
    world_size: Count
    job: dict[str, Any]
    data: Text
    exchange: Annotated[str, Meta(max_length=16)]
    step: Count


class Refused(Message, frozen=True):
    """A worker cannot join."""

    reason: Text


class Ready(Message, frozen=True):
    """The worker has built the job; ``parameters`` is the length of its flat vector."""

    parameters: Count


class Plan(Message, frozen=True):
    """Compute the shards ``first`` to ``last - 1`` in the steps ``begin`` to ``end - 1``."""

    generation: Count
    begin: Count
    end: Count
    first: Count
    last: Count


class Weights(Message, frozen=True):
    """A bucket of the weights with which a step begins; the bytes follow in a frame."""

    generation: Count
    step: Count
    bucket: Count


class Gradient(Message, frozen=True):
    """A bucket of a step's gradient sums, a frame for each root.

    ``losses`` are the losses of the roots; ``marks`` are the first six of `dptrain.exchange.marks`,
    by the worker's monotonic clock, as they stand when this bucket is ready.
    """

    generation: Count
    step: Count
    bucket: Count
    losses: Sums
    marks: Annotated[list[float], Meta(min_length=6, max_length=6)]


class Rows(Message, frozen=True):
    """A rank's rows of the table with number ``table`` of a step; the bytes follow in a frame."""

    generation: Count
    step: Count
    table: Count


class Table(Message, frozen=True):
    """All ranks' rows of a table; the bytes follow in a frame."""

    generation: Count
    step: Count
    table: Count


class Progress(Message, frozen=True):
    """All steps before ``step`` are committed, as this worker sees it."""

    generation: Count
    step: Count


class Evaluate(Message, frozen=True):
    """Compute the pieces ``first`` to ``last - 1`` of a split with the present weights."""

    request: Count
    split: Annotated[str, Meta(max_length=16)]
    first: Count
    last: Count


class Alive(Message, frozen=True):
    """A sign of life in the middle of long work: so many pieces of an evaluation are done."""

    pieces: Count


class Evaluated(Message, frozen=True):
    """The losses and correct rows of each piece, and when the worker computed them."""

    request: Count
    losses: Sums
    correct: Counts
    began: float
    ended: float


class NonFinite(Message, frozen=True):
    """The loss of a step is not a number; where the first infinity or NaN stood."""

    step: Count
    shard: Count
    layer: Annotated[str, Meta(max_length=256)]
    what: Annotated[str, Meta(max_length=32)]


class Failed(Message, frozen=True):
    """The worker raised; it says so once and ends.

    ``user`` marks a mistake of the user's, whose traceback is empty unless it is of their code.
    """

    user: bool
    error: Text
    traceback: Text


class Ping(Message, frozen=True):
    """Nothing to say; where the connection has gone, sending it tells the coordinator so."""


class Stop(Message, frozen=True):
    """The run is over."""

    reason: Text


FromWorker = (
    Hello | Answer | Ready | Gradient | Rows | Progress | Alive | Evaluated | NonFinite | Failed
)
FromCoordinator = Challenge | Welcome | Refused | Plan | Weights | Table | Evaluate | Ping | Stop


def encode(message: Message) -> bytes:
    """Return a message's bytes."""
    data: bytes = msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,)))
    return data


_FROM_WORKER = {kind.__struct_config__.tag: kind for kind in get_args(FromWorker)}
_FROM_COORDINATOR = {kind.__struct_config__.tag: kind for kind in get_args(FromCoordinator)}


def decode_from_worker(data: bytes) -> FromWorker:
    """Return a worker's message; raise `ProtocolError` for anything else."""
    message: FromWorker = _decode(data, _FROM_WORKER)
    return message


def decode_from_coordinator(data: bytes) -> FromCoordinator:
    """Return a coordinator's message; raise `ProtocolError` for anything else."""
    message: FromCoordinator = _decode(data, _FROM_COORDINATOR)
    return message


def _decode(data: bytes, kinds: dict[Any, Any]) -> Any:
    if len(data) > MAX_HEADER:
        raise ProtocolError(f"a message of {len(data)} bytes is larger than {MAX_HEADER}")
    try:
        # a fresh unpack per message: nothing is carried over from one that was malformed
        plain = msgpack.unpackb(data, strict_map_key=True, **LIMITS)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"a malformed message: {error or type(error).__name__}") from None
    tag = plain[0] if isinstance(plain, list) and plain else None
    if not isinstance(tag, str) or tag not in kinds:
        raise ProtocolError(f"an unknown message {str(tag)[:40]!r}")
    try:
        return msgspec.convert(plain, kinds[tag])
    except msgspec.ValidationError as error:
        raise ProtocolError(f"a malformed {tag} message: {error}") from None
