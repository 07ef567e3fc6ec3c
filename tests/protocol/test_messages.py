"""Messages: what goes out comes in again, and nothing else comes in."""

import tracemalloc
from typing import get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.errors import ProtocolError
from dptrain.protocol.messages import (
    MAX_HEADER,
    MAX_LIST,
    Alive,
    Evaluate,
    Evaluated,
    Failed,
    FromCoordinator,
    FromWorker,
    Gradient,
    Hello,
    Message,
    Progress,
    Stop,
    Welcome,
    decode_from_coordinator,
    decode_from_worker,
    encode,
)

EXAMPLES: list[Message] = [
    Hello(1, b"n" * 32, -1, 4711, "host"),
    Gradient(1, 41, 0, [0.25, -1.5], [1.0, 1.5, 2.0, 2.0, 2.5, 2.5]),
    Progress(1, 42),
    Evaluated(3, [1.0], [2], 1.0, 1.5),
    Alive(3),
    Failed(True, "no", ""),
    Welcome(b"p" * 32, 0, 2, {"layers": [{"units": 3}], "lr": None}, "/data", "star", 7),
    Evaluate(3, "train", 0, 7),
    Stop("over"),
]
DECODERS = dict.fromkeys(get_args(FromWorker), decode_from_worker) | dict.fromkeys(
    get_args(FromCoordinator), decode_from_coordinator
)


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_round_trip(message: Message) -> None:
    assert DECODERS[type(message)](encode(message)) == message


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda m: type(m).__name__)
def test_the_other_side_does_not_take_it(message: Message) -> None:
    worker = type(message) in get_args(FromWorker)
    with pytest.raises(ProtocolError, match="unknown message"):
        (decode_from_coordinator if worker else decode_from_worker)(encode(message))


def gradient(**changes: object) -> bytes:
    fields = {
        "generation": 1,
        "step": 2,
        "bucket": 0,
        "losses": [0.5],
        "marks": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    } | changes
    return bytes(msgpack.packb(["gradient", *fields.values()]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        encode(EXAMPLES[1])[:-1],
        encode(EXAMPLES[1]) + b"\0",
        msgpack.packb([]),
        msgpack.packb({"gradient": 1}),
        msgpack.packb(7),
        msgpack.packb([["gradient"]]),
        msgpack.packb(["gradient", 1]),
        gradient(extra=1),
        gradient(step=True),
        gradient(step=-1),
        gradient(step=1.0),
        gradient(step=2**60),
        gradient(losses=["x"]),
        gradient(losses=[0.0] * (MAX_LIST + 1)),
        gradient(losses=msgpack.ExtType(1, b"x")),
        gradient(marks=None),
        gradient(marks=[0.1]),
        msgpack.packb(["hello", 1, b"short", 0, 1, "host"]),
        msgpack.packb(["hello", 1, b"n" * 32, 0, 1, b"host"]),
        msgpack.packb(["hello", 1, b"n" * 32, -2, 1, "host"]),
        msgpack.packb(["hello", 1, b"n" * 32, 0, 1, "h" * 257]),
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xffx",
        b"\xa3\xff\xfe\xfd",
        bytes(MAX_HEADER + 1),
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_from_worker(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for decode in (decode_from_worker, decode_from_coordinator):
        try:
            assert isinstance(decode(data), Message)
        except ProtocolError:
            continue


def test_nested_arrays_take_little_memory() -> None:
    bomb = b"\xdc\x0f\xff" * 20_000
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode_from_worker(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
