"""Training by messages, as the coordinator counts it: who has handed in which bucket of a step."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dptrain.arithmetic.shards import present_shards
from dptrain.arithmetic.tree import remaining_additions, roots
from dptrain.errors import ProtocolError
from dptrain.protocol.events import (
    Commit,
    Heard,
    Instruction,
    Reduce,
    Span,
    Take,
    TrainAsked,
    edges,
)
from dptrain.protocol.messages import Gradient


@dataclass
class OpenStep:
    """What has been handed in of the step under way: buckets by rank, losses by root."""

    step: int
    rows: int
    buckets: list[int]
    losses: dict[int, float] = field(default_factory=dict)
    marks: dict[int, list[float]] = field(default_factory=dict)


class Collecting:
    """Counts the buckets of one step after the other.

    Attributes:
        step: the step under way, or None.
    """

    def __init__(self, bounds: tuple[tuple[int, int], ...], buckets: int) -> None:
        self._bounds = bounds
        self._buckets = buckets
        self._generation = 0
        self._end = 0
        self._rows: Callable[[int], int] = lambda _: 0
        self._open: OpenStep | None = None

    @property
    def step(self) -> int | None:
        """The step under way."""
        return None if self._open is None else self._open.step

    def begin(self, generation: int, asked: TrainAsked) -> list[Span]:
        """Begin to train; return the plans to send to everybody: one, of all steps."""
        self._generation, self._end, self._rows = generation, asked.end, asked.rows
        self._begin_step(asked.begin)
        return [Span(asked.begin, asked.end)]

    def _begin_step(self, step: int) -> None:
        self._open = OpenStep(step, self._rows(step), [0] * len(self._bounds))

    def take(self, rank: int, heard: Heard) -> list[Instruction | Span]:
        """Take a bucket in its turn; reduce it when it is the last rank's.

        Raises:
            ProtocolError: it is not what is due.
        """
        message = heard.message
        if not isinstance(message, Gradient):
            raise ProtocolError(f"{type(message).__name__} where gradients are collected")
        open_step = self._open
        assert open_step is not None
        leaves = present_shards(open_step.rows, self._bounds[-1][1])
        own = roots(leaves, *self._bounds[rank])
        due = (self._generation, open_step.step, open_step.buckets[rank], len(own))
        found = (message.generation, message.step, message.bucket, len(message.losses))
        if found != due or message.bucket >= self._buckets:
            raise ProtocolError(f"(generation, step, bucket, roots) is {found}, due was {due}")
        open_step.buckets[rank] += 1
        open_step.marks[rank] = message.marks
        open_step.losses.update(zip(own, message.losses, strict=True))
        instructions: list[Instruction | Span] = [Take(rank, message.bucket, own)]
        if min(open_step.buckets) == message.bucket + 1:
            instructions.append(Reduce(open_step.step, message.bucket, open_step.rows))
            if message.bucket + 1 == self._buckets:
                instructions.append(self._commit(leaves, open_step))
        return instructions

    def _commit(self, leaves: int, done: OpenStep) -> Commit:
        losses = done.losses
        for into, other, _ in remaining_additions(leaves, edges(self._bounds)):
            losses[into] += losses[other]
        if done.step + 1 < self._end:
            self._begin_step(done.step + 1)
        else:
            self._open = None
        marks = [done.marks[rank] for rank in range(len(self._bounds))]
        return Commit(done.step, losses[0], marks)

    def awaited(self) -> list[int]:
        """Return the ranks that hold up the step."""
        if self._open is None:
            return []
        behind = min(self._open.buckets)
        return [rank for rank, count in enumerate(self._open.buckets) if count == behind]
