"""What the tables of both state machines are made of."""

from typing import Generic, NamedTuple, TypeVar

H = TypeVar("H")
S = TypeVar("S")


class Row(NamedTuple, Generic[H, S]):
    """What is done about a kind of event in a state.

    Attributes:
        handler: a method whose event is of that kind.
        then: the state that begins once the handler returns `Done`; None where it never does.
    """

    handler: H
    then: S | None = None
