"""The result of training from Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from dptrain.coordinator.outcome import Outcome
from dptrain.experiment.python_words import as_python
from dptrain.metrics.records import EpochRecord, Record, StepRecord, result_of
from dptrain.report.curves import draw_curves
from dptrain.runfolder import RunFolder
from dptrain.trained import TrainedNetwork


@dataclass(frozen=True)
class Result:
    """The result of training.

    Attributes:
        network: the trained network.
        history: the records of the run, as in its file ``metrics.jsonl``.
        digest: SHA-256 of the weights in hex; the same for any number of workers.
        run: the run folder.
        steps_per_second: without evaluations and the start of the workers.
        notes: sentences about the scores, for example that they are no better than guessing.
    """

    network: TrainedNetwork
    history: Sequence[Record]
    digest: str
    run: Path
    steps_per_second: float
    notes: Sequence[str] = ()

    def draw(self, path: str | Path | None = None) -> Path:
        """Draw loss and accuracy over the epochs, and return the picture's path.

        Args:
            path: .png, .svg or .pdf; by default curves.png in the run folder.

        Raises:
            UsageError: the path has another suffix.
            RunFolderError: the picture cannot be written.
        """
        where = RunFolder(self.run).curves if path is None else Path(path)
        draw_curves([(self.run.name, self.history)], where)
        return where

    @property
    def table(self) -> list[dict[str, Any]]:
        """The evaluations at the end of each epoch as plain data, for example for a data frame."""
        return [asdict(each) for each in self.epochs]

    @property
    def steps(self) -> list[StepRecord]:
        """The logged steps."""
        return [each for each in self.history if isinstance(each, StepRecord)]

    @property
    def evaluation(self) -> EpochRecord | None:
        """The evaluation of these weights: the last epoch's, or the best with early stopping."""
        return result_of(self.history)

    @property
    def epochs(self) -> list[EpochRecord]:
        """The evaluations at the end of each epoch."""
        return [each for each in self.history if isinstance(each, EpochRecord)]


def result_from(outcome: Outcome) -> Result:
    """Return the result of a run; its notes name keywords, not flags."""
    job = outcome.job
    trained = TrainedNetwork(
        job.network, outcome.parameters, job.experiment, job.dataset.class_names
    )
    return Result(
        network=trained,
        history=outcome.records,
        digest=outcome.digest,
        run=outcome.folder.path,
        steps_per_second=outcome.steps_per_second,
        notes=[as_python(note) for note in outcome.notes],
    )
