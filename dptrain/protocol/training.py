"""What counts the ranks' progress in the steps that were asked for, whatever the exchange."""

from typing import Protocol

from dptrain.protocol.events import Heard, Instruction, StepSpan, TrainAsked
from dptrain.protocol.messages import Message


class Training(Protocol):
    """Counts what the ranks have done of the steps that were asked for."""

    @property
    def step(self) -> int | None:
        """The first step that is not known to be committed; None where none is open."""
        ...

    def place(self, rank: int) -> int:
        """Return the step that a rank is in, counted from 1."""
        ...

    def begin(self, generation: int, asked: TrainAsked) -> list[StepSpan]:
        """Begin to train; return the plans to send to everybody."""
        ...

    def take(self, rank: int, heard: Heard[Message]) -> list[Instruction | StepSpan]:
        """Take what a rank has done; return what follows. Raises ProtocolError."""
        ...

    def advanced(self, arrivals: list[int]) -> list[int]:
        """Return the ranks whose words in shared memory have changed since the call before."""
        ...

    def halt(self) -> None:
        """Plan no more steps than are planned."""
        ...

    def awaited(self) -> list[int]:
        """Return the ranks that hold up the step."""
        ...
