"""Evaluations over every exchange; answers that nobody asked for end the run."""

from typing import Any

import pytest

from dptrain.errors import WorkersLostError
from dptrain.protocol import events
from dptrain.protocol.messages import Evaluated
from tests.exchange.build import WITH_WORKERS
from tests.protocol.test_machines import ready_run


def evaluating(ranks: int, pieces: int) -> Any:
    machine = ready_run(ranks, "star").machine
    machine.handle(events.EvaluationAsked("train", 0, pieces, 0.0))
    return machine


def answer(machine: Any, rank: int, pieces: int) -> list[Any]:
    message = Evaluated(1, [0.5] * pieces, [1] * pieces, 0.0, 0.0)
    found: list[Any] = machine.handle(events.Heard(bytes([rank]), message, 0.0, b"c" * 32))
    return found


def test_a_rank_without_pieces_has_nothing_to_answer() -> None:
    machine = evaluating(3, 2)
    (idle,) = {0, 1, 2} - machine._pieces.keys()
    (*_, end) = answer(machine, idle, 0)
    with pytest.raises(WorkersLostError, match=f"rank {idle} broke the protocol: evaluation 1"):
        raise end.error
    assert machine.state is events.CoordinatorState.OVER


def test_a_rank_answers_once() -> None:
    machine = evaluating(2, 2)
    assert answer(machine, 0, 1) == []
    (*_, end) = answer(machine, 0, 1)
    with pytest.raises(WorkersLostError, match="rank 0 broke the protocol: evaluation 1"):
        raise end.error
    assert machine.state is events.CoordinatorState.OVER


@pytest.mark.parametrize("exchange", WITH_WORKERS)
def test_pieces_come_in_order_over_every_exchange(exchange: str) -> None:
    run = ready_run(3, exchange)
    run.results.clear()
    run.at_coordinator(run.machine.handle(events.EvaluationAsked("train", 0, 7, 0.0)))
    run.deliver(lambda count: count - 1)
    (scored,) = run.results
    assert scored.losses == [float(piece) for piece in range(7)]
    assert run.machine.state is events.CoordinatorState.IDLE
