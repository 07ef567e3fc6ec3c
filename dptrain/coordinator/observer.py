"""Whoever wants to see a run go by: a progress bar, a line per epoch, nobody."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the observer is there before the mathematics is imported
    from dptrain.exchange.engine import StepsDone
    from dptrain.experiment.execution import Execution
    from dptrain.experiment.job import Job
    from dptrain.metrics.records import EpochRecord


class Observer(Protocol):
    """Is told what happens, in this order; must not take long."""

    def begin(self, job: "Job", execution: "Execution", folder: Path, first_step: int) -> None:
        """Everything is decided, and nothing computed yet."""

    def waiting(self, address: str, key: Path, missing: int) -> None:
        """The run waits for workers that somebody starts by hand."""

    def step(self, done: "StepsDone") -> None:
        """A step is committed, or several."""

    def evaluating(self, split: str, done: int, rows: int) -> None:
        """At the end of an epoch, ``done`` of the rows of a split are evaluated."""

    def epoch(self, record: "EpochRecord") -> None:
        """An epoch is done and evaluated."""

    def note(self, message: str) -> None:
        """Something is worth knowing."""

    def warn(self, message: str) -> None:
        """Something is wrong that does not stop the run."""

    def close(self) -> None:
        """The run is over, however it ended."""
