"""Records of evaluations, and the course of a search over curves that are given."""

from collections.abc import Callable, Sequence
from typing import Any

from dptrain.metrics.records import EpochRecord
from dptrain.tune.search_state import SearchState
from dptrain.tune.trial import Trial


def record(epoch: float, **values: Any) -> EpochRecord:
    """Return an evaluation; what is not given was not measured."""
    fields: dict[str, Any] = dict.fromkeys(EpochRecord.__struct_fields__)
    return EpochRecord(**fields | {"epoch": epoch, "step": int(10 * epoch), "digest": ""} | values)


class Simulation:
    """Lanes without processes: trial n's test accuracy after epoch e is ``curves[n - 1][e - 1]``.

    A trial fails after its last epoch where ``fails`` holds its number.
    """

    def __init__(
        self,
        course: SearchState,
        curves: Sequence[Sequence[float]],
        lanes: int,
        fails: Sequence[int] = (),
    ) -> None:
        self.course = course
        self._curves = curves
        self._lanes = lanes
        self._fails = fails
        self._epochs: dict[int, int] = {}
        self._waits: set[int] = set()

    def run(self, choose: Callable[[Sequence[int]], int]) -> list[Trial]:
        """Search to the end; ``choose`` decides which trial is the next to do an epoch."""
        while True:
            while len(self._epochs) < self._lanes and (planned := self.course.next()):
                self._epochs[planned.number] = 0
            if not self._epochs:
                return self.course.counted()
            self._step(choose(sorted(self._epochs.keys() - self._waits)))

    def _step(self, number: int) -> None:
        curve = self._curves[number - 1]
        if number in self.course.cut():
            self._end(number, finished=False)
        elif (done := self._epochs[number]) < len(curve):
            self._epochs[number] += 1
            self._waits.add(number)
            self._follow(self.course.hear(number, self._record(number, done + 1)))
        else:
            fails = number in self._fails
            self._end(number, finished=not fails, failure=(5, "not finite") if fails else None)

    def _record(self, number: int, epoch: int) -> EpochRecord:
        value = self._curves[number - 1][epoch - 1]
        return record(epoch, test_accuracy=value, digest=f"{number}-{epoch}")

    def _follow(self, decisions: Sequence[tuple[int, bool]]) -> None:
        for number, goes_on in decisions:
            self._waits.remove(number)
            if not goes_on:
                self._end(number, finished=self._epochs[number] == len(self._curves[number - 1]))

    def _end(self, number: int, *, finished: bool, failure: tuple[int, str] | None = None) -> None:
        del self._epochs[number]
        self._follow(self.course.end(number, finished=finished, failure=failure)[1])
