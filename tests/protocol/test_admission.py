"""Who may join, and who is turned away."""

from typing import Any

from dptrain.protocol import events, worker
from dptrain.protocol.handshake import proof
from dptrain.protocol.messages import VERSION, Answer, Challenge, Hello, Message, Refused, Welcome
from tests.protocol.test_machines import KEY, coordinator, terms


class Joining:
    """A coordinator to which one newcomer speaks."""

    def __init__(self, *, launched: int = 2) -> None:
        self.machine = coordinator(terms(2, 4, launched=launched))

    def say(self, peer: bytes, message: Message) -> list[Any]:
        event = events.Heard(peer, message, 0.0, b"c" * 32)
        sent = self.machine.handle(event)
        return [each.message for each in sent if isinstance(each, events.Send)]

    def join(self, peer: bytes, rank: int, key: bytes = KEY, fingerprint: str = "f") -> Message:
        self.say(peer, Hello(VERSION, b"n" * 32, rank, 1, "h"))
        sent = proof(key, "worker", b"n" * 32, b"c" * 32)
        answer: Message = self.say(peer, Answer(sent, fingerprint))[0]
        return answer


def test_who_is_refused() -> None:
    joining = Joining()
    (old,) = joining.say(b"a", Hello(99, b"n" * 32, 0, 1, "h"))
    assert "version 99" in old.reason
    for peer, rank, key, words in (
        (b"b", 0, b"x" * 32, "does not hold the key"),
        (b"c", 7, KEY, "taken"),
        (b"d", -1, KEY, "taken"),
    ):
        refused = joining.join(peer, rank, key)
        assert isinstance(refused, Refused)
        assert words in refused.reason
    assert not isinstance(joining.join(b"e", 1), Refused)
    again = joining.join(b"f", 1)
    assert isinstance(again, Refused)
    assert joining.machine.admission.members == {1: b"e"}


def test_another_arithmetic_is_refused() -> None:
    joining = Joining(launched=1)
    by_hand = joining.join(b"a", -1, fingerprint="g")
    assert isinstance(by_hand, Refused)
    assert "arithmetic differs" in by_hand.reason
    assert joining.machine.handle(events.Clock(0.0)) == []
    joining.join(b"b", 0, fingerprint="g")
    assert joining.machine.state is events.CoordinatorState.OVER


def test_a_reflected_proof_is_no_proof() -> None:
    joining = Joining()
    joining.say(b"a", Hello(VERSION, b"n" * 32, 0, 1, "h"))
    mirrored = proof(KEY, "coordinator", b"n" * 32, b"c" * 32)
    (refused,) = joining.say(b"a", Answer(mirrored, "f"))
    assert isinstance(refused, Refused)


def test_a_worker_wants_proof_from_the_coordinator_too() -> None:
    machine = worker.WorkerMachine(KEY, Hello(VERSION, b"n" * 32, 0, 0, "h"), "f", 0.0)
    machine.handle(worker.Heard(Challenge(b"c" * 32)))
    welcome = Welcome(b"p" * 32, 0, 1, {}, "/data", "star", 0)
    (out,) = machine.handle(worker.Heard(welcome))
    assert out == worker.Exit("the coordinator does not hold the key of this run", expected=False)
