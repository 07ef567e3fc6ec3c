"""What everybody did when, kept raw while training goes on and written out afterwards."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from dptrain.exchange.marks import PHASES

COORDINATOR = -1
# Longer recordings are more than the viewers of such files can show, and 160 bytes a step and rank.
MOST_STEPS = 50_000


class TimeSpan(NamedTuple):
    """Something that took its time.

    Attributes:
        lane: the rank, or `COORDINATOR`.
        name: what was done.
        began: in seconds of the monotonic clock.
        ended: likewise.
        step: to which it belongs, or None.
    """

    lane: int
    name: str
    began: float
    ended: float
    step: int | None


class Timeline:
    """Collects spans; steps beyond the first `MOST_STEPS` are left out.

    Attributes:
        full: whether steps were left out.
    """

    def __init__(self) -> None:
        self.full = False
        self._spans: list[TimeSpan] = []
        self._marks: list[tuple[int, NDArray[Any] | Sequence[Sequence[float]]]] = []
        self._steps = 0

    def add(self, lane: int, name: str, began: float, ended: float, step: int | None) -> None:
        """Add a span."""
        if not self.full:
            self._spans.append(TimeSpan(lane, name, began, ended, step))

    def add_steps(
        self, first: int, marks: Sequence[Sequence[Sequence[float]]] | NDArray[Any]
    ) -> None:
        """Add the marks of neighbouring steps: for every step and rank a sequence as `Marks`."""
        self.full = self.full or self._steps + len(marks) > MOST_STEPS
        if self.full:
            return
        self._steps += len(marks)
        self._marks += ((first + i, each) for i, each in enumerate(marks))

    def __iter__(self) -> Iterator[TimeSpan]:
        """Yield every span that took any time."""
        yield from self._spans
        for step, ranks in self._marks:
            for rank, marks in enumerate(ranks):
                for name, end in PHASES:
                    if marks[end] > marks[end - 1]:
                        yield TimeSpan(rank, name, marks[end - 1], marks[end], step)
