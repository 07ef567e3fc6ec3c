"""Both machines on a clock of the test's own: long work is no death, and silence is found."""

from typing import Any

import pytest

from dptrain.errors import WorkersLostError
from dptrain.protocol import events, worker
from dptrain.protocol.handshake import proof
from dptrain.protocol.messages import (
    VERSION,
    Alive,
    Challenge,
    Evaluated,
    Gradient,
    Hello,
    Message,
    Progress,
    Welcome,
)
from dptrain.protocol.patience import LONGEST_GAP
from tests.exchange.build import WITH_WORKERS
from tests.protocol.test_machines import KEY, MARKS, ready_run

OWN, OTHER = b"n" * 32, b"c" * 32


class Clocked:
    """A coordinator whose ranks have joined, at work, and the time.

    The coordinator looks at its clock every second, as its shell does.
    """

    def __init__(self, exchange: str = "star", ranks: int = 2) -> None:
        self.run = ready_run(ranks, exchange)
        self.now = self.run.now

    def tell(self, event: Any) -> None:
        self.run.at_coordinator(self.run.machine.handle(event))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 1, until)
            self.tell(events.Clock(self.now))

    def say(self, rank: int, message: Message) -> None:
        self.tell(events.Heard(bytes([rank]), message, self.now, b"c" * 32))

    def train(self, steps: int = 5) -> None:
        self.tell(events.TrainAsked(0, steps, lambda _: 8, self.now))

    def evaluate(self, pieces: int = 8) -> None:
        self.tell(events.EvaluationAsked("train", 0, pieces, self.now))

    def lose(self, rank: int, seconds: float, after: str) -> None:
        """Expect a rank to be given up after some seconds, and not much before."""
        self.wait(seconds - 0.5)
        with pytest.raises(
            WorkersLostError, match=f"rank {rank} has not been heard of for {after}"
        ):
            self.wait(2)


def test_silence_is_given_up_only_where_something_is_due() -> None:
    clocked = Clocked()
    clocked.wait(1000)
    clocked.train()
    clocked.lose(0, 10, r"10 s in step 1; see rank-0\.log; its process lives; if .*worker-timeout")


def test_who_moves_in_shared_memory_is_alive_and_who_is_behind_is_named() -> None:
    clocked = Clocked("shared")
    clocked.train()
    for seconds, arrivals in ((5, [1, 0]), (4, [1, 1])):
        clocked.wait(seconds)
        clocked.tell(events.Advanced(arrivals, clocked.now))
    clocked.wait(5)
    clocked.tell(events.Advanced([2, 1], clocked.now))
    clocked.lose(1, 5, "10 s in step 1")


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_a_rank_that_shows_life_after_every_piece_is_not_given_up(exchange: str) -> None:
    clocked = Clocked(exchange)
    clocked.evaluate()
    for piece in range(4):
        clocked.wait(9)
        for rank in range(2):
            clocked.say(rank, Alive(piece + 1))
    for rank in range(2):
        clocked.say(rank, Evaluated(1, [0.0] * 4, [0] * 4, 0.0, 0.0))
    assert clocked.run.machine.state is events.CoordinatorState.IDLE


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_a_rank_that_shows_life_in_a_long_step_is_not_given_up(exchange: str) -> None:
    clocked = Clocked(exchange)
    clocked.train()
    for _ in range(5):
        clocked.wait(9)
        for rank in range(2):
            clocked.say(rank, Alive(0))
    clocked.say(0, Alive(0))
    clocked.lose(0, 10, "10 s in step 1")


def test_how_far_an_evaluation_has_come_is_the_sum_over_the_ranks() -> None:
    clocked = Clocked()
    clocked.tell(events.EvaluationAsked("train", 100, 108, clocked.now))
    told = []
    done = Evaluated(1, [0.0] * 4, [0] * 4, 0.0, 0.0)
    for rank, message in ((1, Alive(1)), (0, Alive(3)), (1, Alive(3)), (0, done), (1, Alive(3))):
        event = events.Heard(bytes([rank]), message, clocked.now, b"c" * 32)
        told += clocked.run.machine.handle(event)
    assert told == [events.Evaluating(101), *map(events.Evaluating, (104, 106, 107))]


def test_a_piece_may_take_longer_the_next_time_but_not_for_ever() -> None:
    clocked = Clocked()
    clocked.evaluate()
    clocked.wait(9)
    clocked.say(0, Alive(1))
    clocked.say(1, Evaluated(1, [0.0] * 4, [0] * 4, 0.0, 0.0))
    clocked.lose(0, 90, "90 s, 10 times as long as anything of the kind took before, in an eval")


def test_what_an_evaluation_has_taken_says_nothing_of_steps() -> None:
    clocked = Clocked(ranks=1)
    clocked.evaluate(1)
    clocked.wait(9)
    clocked.say(0, Evaluated(1, [0.0], [0], 0.0, 0.0))
    clocked.train()
    clocked.lose(0, 10, "10 s in step 1")


def test_a_step_may_take_longer_than_those_before_in_the_star() -> None:
    clocked = Clocked(ranks=1)
    clocked.train()
    clocked.wait(8)
    for bucket in range(2):
        clocked.say(0, Gradient(1, 0, bucket, [0.5], MARKS))
    clocked.lose(0, 80, "80 s, 10 times .* in step 2")


def test_a_step_may_take_longer_than_those_before_in_shared_memory() -> None:
    clocked = Clocked("shared", 1)
    clocked.train()
    clocked.wait(8)
    clocked.tell(events.Advanced([4096], clocked.now))
    clocked.say(0, Progress(1, 1))
    clocked.lose(0, 80, "80 s, 10 times .* in step 2")


def test_a_rank_that_is_stopped_is_said_to_be() -> None:
    clocked = Clocked()
    clocked.train()
    clocked.wait(10)
    with pytest.raises(WorkersLostError, match=r"process is stopped, .*, raise --worker-timeout"):
        clocked.tell(events.Clock(clocked.now + 1, frozenset([0])))


def test_a_coordinator_that_was_stopped_blames_nobody() -> None:
    clocked = Clocked()
    clocked.evaluate()
    clocked.wait(2)
    clocked.now += 72
    clocked.tell(events.Clock(clocked.now))
    clocked.say(0, Alive(4))
    clocked.say(1, Alive(4))
    # of the 74 s that these pieces took it was there for 2, and knows no more of the others
    clocked.lose(0, 10 * (2 + LONGEST_GAP), "35 s, 10 times .* in an evaluation")


def greeting_worker(rank: int) -> worker.WorkerMachine:
    """Return a worker that has said hello at time 0."""
    return worker.WorkerMachine(KEY, Hello(VERSION, OWN, rank, 1, "h"), "f", 0.0)


def joined_worker(rank: int) -> worker.WorkerMachine:
    """Return a worker that was welcomed at time 0."""
    machine = greeting_worker(rank)
    machine.handle(worker.Heard(Challenge(OTHER)))
    welcome = Welcome(proof(KEY, "coordinator", OWN, OTHER), max(rank, 0), 1, {}, "/", "star", 0)
    machine.handle(worker.Heard(welcome))
    machine.handle(worker.Built(100, 1))
    return machine


def silent(machine: worker.WorkerMachine, until: int) -> list[Any]:
    """Let whole seconds go by; return what the worker does."""
    return [out for now in range(until) for out in machine.handle(worker.Clock(now))]


@pytest.mark.parametrize("rank", [-1, 0])
@pytest.mark.parametrize("end", [worker.Orphaned(), worker.Disconnected()])
def test_a_worker_leaves_when_its_coordinator_is_gone_and_not_for_silence(
    rank: int, end: worker.Event
) -> None:
    machine = joined_worker(rank)
    assert silent(machine, 1000) == []
    (out,) = machine.handle(end)
    assert isinstance(out, worker.Exit)
    assert not out.expected


def test_a_worker_started_by_hand_waits_a_minute_for_an_answer() -> None:
    machine = greeting_worker(-1)
    assert silent(machine, 61) == []
    # as behind a tunnel, whose other end nobody listens at yet
    assert machine.handle(worker.Disconnected()) == []
    assert machine.handle(worker.Clock(500.0)) == [
        worker.Exit(
            "nobody has answered for 60 s; is there a run that waits for workers?", expected=False
        )
    ]


def test_a_launched_worker_waits_for_an_answer_as_long_as_its_parent_lives() -> None:
    assert silent(greeting_worker(0), 1000) == []
