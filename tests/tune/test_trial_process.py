"""A process that carries out trials, as far as whole searches do not show it."""

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from dptrain.tune.messages import (
    GoOn,
    Order,
    StopTrial,
    ToLane,
    TrialEvaluated,
    decode_from_lane,
    encode,
)
from dptrain.tune.trial_process import Hearing, Teller
from tests.tune.build import record


class Ends:
    """Both ends of a lane's pipes."""

    def __init__(self) -> None:
        self.input, self.to_lane = os.pipe()
        self.from_lane, self.output = os.pipe()
        os.set_blocking(self.from_lane, False)
        self.hearing = Hearing(self.input)

    def say(self, *messages: ToLane) -> None:
        for message in messages:
            os.write(self.to_lane, encode(message) + b"\n")

    def begin(self, number: int) -> Teller:
        self.say(Order(number, {}, {}, ""))
        order = self.hearing.order()
        assert order is not None
        assert order.number == number
        return Teller(number, self.output, self.hearing)

    def told(self) -> list[object]:
        return [decode_from_lane(line) for line in os.read(self.from_lane, 1 << 16).splitlines()]


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    for descriptor in (made.to_lane, made.from_lane, made.output):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_an_evaluation_after_a_stop_is_told_as_well(ends: Ends) -> None:
    """Or a trial stopped while its last evaluation was made ended without it."""
    teller = ends.begin(3)
    ends.say(StopTrial(3))
    deadline = time.monotonic() + 30
    while not ends.hearing.stop():
        assert time.monotonic() < deadline
    teller.epoch(record(2))
    assert ends.told() == [TrialEvaluated(3, record(2))]


def test_what_concerns_another_trial_is_not_heard(ends: Ends) -> None:
    ends.say(StopTrial(1))  # its end crossed with this
    teller = ends.begin(2)
    ends.say(GoOn(1), StopTrial(1), GoOn(2))
    teller.epoch(record(1))
    assert not ends.hearing.stop()
    ends.say(StopTrial(2))
    teller.epoch(record(2))
    assert ends.hearing.stop()
    assert ends.told() == [TrialEvaluated(2, record(1)), TrialEvaluated(2, record(2))]


def test_the_end_of_the_search_stops_a_trial(ends: Ends) -> None:
    teller = ends.begin(1)
    os.close(ends.to_lane)
    teller.epoch(record(1))
    assert ends.hearing.stop()
    assert ends.hearing.order() is None
