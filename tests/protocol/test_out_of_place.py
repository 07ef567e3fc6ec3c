"""What the coordinator's machine makes of strangers, of garbage, and of requests out of place."""

import pytest

from dptrain.errors import WorkersLostError
from dptrain.protocol import events
from dptrain.protocol.messages import VERSION, Failed, Gradient, Hello, NonFinite, Refused
from tests.protocol.test_machines import MARKS, Run, ready_run, training_run


def test_strangers_have_no_say() -> None:
    run = training_run()
    for message in (
        Gradient(1, 0, 0, [0.5], MARKS),
        Failed(False, "x", ""),
        NonFinite(0, 0, "l", "w"),
    ):
        event = events.Heard(b"stranger", message, 0.0, b"c" * 32)
        assert run.machine.handle(event) == []
    assert run.machine.handle(events.Garbled(b"stranger", "noise")) == []
    late = events.Heard(b"stranger", Hello(VERSION, b"n" * 32, -1, 1, "h"), 0.0, b"c" * 32)
    (answer,) = run.machine.handle(late)
    assert isinstance(answer, events.Send)
    assert isinstance(answer.message, Refused)


@pytest.mark.parametrize(
    "asked",
    [events.TrainAsked(0, 5, lambda _: 8, 0.0), events.EvaluationAsked("train", 0, 4, 0.0)],
    ids=["train", "evaluate"],
)
@pytest.mark.parametrize(
    "state", [each for each in events.CoordinatorState if each is not events.CoordinatorState.IDLE]
)
def test_work_that_is_asked_for_in_another_state_than_idle_is_a_mistake_of_the_shell(
    state: events.CoordinatorState, asked: events.Event
) -> None:
    run = {
        events.CoordinatorState.JOINING: lambda: Run(2, 4, lambda _: 8),
        events.CoordinatorState.TRAINING: training_run,
    }.get(state, ready_run)()
    if state is events.CoordinatorState.EVALUATING:
        run.machine.handle(events.EvaluationAsked("train", 0, 4, 0.0))
    if state is events.CoordinatorState.OVER:
        run.machine.handle(events.StopAsked("the run is over"))
    assert run.machine.state is state
    with pytest.raises(RuntimeError, match=f"Asked while {state.value}"):
        run.machine.handle(asked)


def test_garbage_from_a_member_ends_the_run() -> None:
    run = training_run()
    with pytest.raises(WorkersLostError, match=r"rank 0 broke the protocol: noise in step 1"):
        run.at_coordinator(run.machine.handle(events.Garbled(bytes([0]), "noise")))
