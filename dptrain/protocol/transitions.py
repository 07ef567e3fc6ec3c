"""What the tables of both state machines are made of."""

from collections.abc import Iterable, Mapping
from typing import Generic, NamedTuple, TypeVar

H = TypeVar("H")
S = TypeVar("S")
I = TypeVar("I")  # noqa: E741 - an instruction


class Transition(NamedTuple, Generic[H, S]):
    """What is done about a kind of event in a state.

    Attributes:
        handler: a method whose event is of that kind.
        then: the state that begins once the handler returns `Done`; None where it never does.
    """

    handler: H
    then: S | None = None


class Completed(NamedTuple, Generic[I]):
    """What to do, when the work of a state is complete."""

    instructions: list[I]


def in_all(
    states: Iterable[S], rows: Mapping[type, Transition[H, S]], *, but: S
) -> dict[tuple[S, type], Transition[H, S]]:
    """Return the rows of a table that are the same in all states but one."""
    return {
        (state, kind): row for state in states if state is not but for kind, row in rows.items()
    }


def after(
    row: Transition[H, S] | None, found: list[I] | Completed[I], state: S
) -> tuple[S, list[I]]:
    """Return the state that a handler leaves behind, and its instructions.

    Args:
        row: of the table; None where it has none for the event.
        found: what its handler has returned.
        state: in which it was called.
    """
    if not isinstance(found, Completed):
        return state, found
    assert row is not None
    assert row.then is not None
    return row.then, found.instructions
