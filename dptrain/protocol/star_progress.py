"""Training by messages, as the coordinator counts it: who has handed in which bucket of a step."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dptrain.arithmetic.shards import edges, present_shards
from dptrain.arithmetic.tree import remaining_additions, roots
from dptrain.errors import ProtocolError
from dptrain.protocol.events import (
    Commit,
    Heard,
    Instruction,
    Reduce,
    Spread,
    StepSpan,
    Take,
    TakeRows,
    TrainAsked,
)
from dptrain.protocol.messages import Gradient, Message, Rows


@dataclass
class OpenStep:
    """What has been handed in of the step under way.

    Attributes:
        step: counted from 0.
        rows: of its minibatch.
        buckets: how many each rank has handed in.
        tables: of which each rank has handed in its rows.
        losses: by root.
        marks: by rank.
    """

    step: int
    rows: int
    buckets: list[int]
    tables: list[set[int]]
    losses: dict[int, float] = field(default_factory=dict)
    marks: dict[int, list[float]] = field(default_factory=dict)


class Collecting:
    """Counts the buckets of one step after the other.

    Attributes:
        step: the step under way, or None.
    """

    def __init__(self, bounds: tuple[tuple[int, int], ...], buckets: int, tables: int) -> None:
        self._bounds = bounds
        self._buckets = buckets
        self._tables = tables
        self._generation = 0
        self._end = 0
        self._rows: Callable[[int], int] = lambda _: 0
        self._open: OpenStep | None = None

    @property
    def step(self) -> int | None:
        """The step under way."""
        return None if self._open is None else self._open.step

    def place(self, rank: int) -> int:  # noqa: ARG002 - all ranks are in one step
        """Return the step that a rank is in, counted from 1."""
        assert self._open is not None
        return self._open.step + 1

    def begin(self, generation: int, asked: TrainAsked) -> list[StepSpan]:
        """Begin to train; return the plans to send to everybody: one, of all steps."""
        self._generation, self._end, self._rows = generation, asked.end, asked.rows
        self._begin_step(asked.begin)
        return [StepSpan(asked.begin, asked.end)]

    def _begin_step(self, step: int) -> None:
        ranks = len(self._bounds)
        self._open = OpenStep(step, self._rows(step), [0] * ranks, [set() for _ in range(ranks)])

    def take(self, rank: int, heard: Heard[Message]) -> list[Instruction | StepSpan]:
        """Take a bucket, or rows of a table, in its turn; pass them on when it is the last rank's.

        Raises:
            ProtocolError: it is not what is due.
        """
        message, open_step = heard.message, self._open
        assert open_step is not None
        if isinstance(message, Gradient):
            return self._take_bucket(rank, message, open_step)
        if isinstance(message, Rows):
            return self._take_rows(rank, message, open_step)
        raise ProtocolError(f"{type(message).__name__} where gradients are collected")

    def _take_rows(
        self, rank: int, message: Rows, open_step: OpenStep
    ) -> list[Instruction | StepSpan]:
        number = message.table
        due = (self._generation, open_step.step)
        found = (message.generation, message.step)
        if found != due or number >= self._tables or number in open_step.tables[rank]:
            raise ProtocolError(
                f"rows of table {number} with (generation, step) {found} came in {due}, after "
                f"tables {sorted(open_step.tables[rank])} of {self._tables}"
            )
        open_step.tables[rank].add(number)
        leaves = present_shards(open_step.rows, self._bounds[-1][1])
        low, high = (min(edge, leaves) for edge in self._bounds[rank])
        instructions: list[Instruction | StepSpan] = [TakeRows(rank, number, low, high)]
        if all(number in each for each in open_step.tables):
            instructions.append(Spread(open_step.step, number, leaves))
        return instructions

    def _take_bucket(
        self, rank: int, message: Gradient, open_step: OpenStep
    ) -> list[Instruction | StepSpan]:
        leaves = present_shards(open_step.rows, self._bounds[-1][1])
        own = roots(leaves, *self._bounds[rank])
        due = (self._generation, open_step.step, open_step.buckets[rank], len(own))
        found = (message.generation, message.step, message.bucket, len(message.losses))
        if found != due or message.bucket >= self._buckets:
            raise ProtocolError(f"(generation, step, bucket, roots) is {found}, due was {due}")
        open_step.buckets[rank] += 1
        open_step.marks[rank] = message.marks
        open_step.losses.update(zip(own, message.losses, strict=True))
        instructions: list[Instruction | StepSpan] = [Take(rank, message.bucket, own)]
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

    def advanced(self, arrivals: list[int]) -> list[int]:  # noqa: ARG002 - see `Training`
        """Return nobody: nothing is shared."""
        return []

    def halt(self) -> None:
        """Nothing to do: the coordinator asks for the next step itself."""

    def awaited(self) -> list[int]:
        """Return the ranks that hold up the step."""
        if self._open is None:
            return []
        handed_in = zip(self._open.buckets, self._open.tables, strict=True)
        done = [buckets + len(tables) for buckets, tables in handed_in]
        return [rank for rank, count in enumerate(done) if count == min(done)]
