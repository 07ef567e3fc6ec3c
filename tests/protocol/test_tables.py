"""The tables of both machines: handlers take the events that they stand beside."""

from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from dptrain.protocol import coordinator, events, worker
from dptrain.protocol.messages import FromCoordinator, FromWorker
from tests.protocol.pictures import PAGE, page

MACHINES = [
    (coordinator.TRANSITIONS, events.Heard, get_args(FromWorker)),
    (worker.TRANSITIONS, worker.Heard, get_args(FromCoordinator)),
]


@pytest.mark.parametrize(("table", "heard", "messages"), MACHINES, ids=["coordinator", "worker"])
def test_handlers_take_what_they_are_given(
    table: Mapping[Any, Any], heard: type, messages: tuple[type, ...]
) -> None:
    for (_, kind), row in table.items():
        event = get_type_hints(row.handler)["event"]
        if kind not in messages:
            assert event is kind, row
            continue
        assert get_origin(event) is heard, row
        (message,) = get_args(event)
        assert kind in (get_args(message) or (message,)), row


@pytest.mark.parametrize(
    ("table", "done"),
    [(coordinator.TRANSITIONS, events.Done), (worker.TRANSITIONS, worker.Done)],
    ids=["coordinator", "worker"],
)
def test_a_row_has_a_next_state_exactly_if_its_handler_may_be_done(
    table: Mapping[Any, Any], done: type
) -> None:
    for place, row in table.items():
        returned = get_type_hints(row.handler)["return"]
        may_be_done = done in (get_args(returned) or (returned,))
        assert may_be_done is (row.then is not None), place


def test_the_page_has_the_pictures_of_the_tables() -> None:
    assert page() == PAGE.read_text(encoding="utf-8")
