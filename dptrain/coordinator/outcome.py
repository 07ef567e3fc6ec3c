"""What a run came to."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dptrain.exchange.engine import StepSplit
from dptrain.experiment.execution import Execution, exchange_of
from dptrain.experiment.job import Job
from dptrain.metrics.records import EndRecord, EpochRecord, Record, gap_of, result_of
from dptrain.runfolder import RunFolder


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        folder: of the run, no longer locked.
        digest: of the weights.
        parameters: flat vector of the weights.
        job: what was trained.
        execution: how.
        steps: steps done, those before a resumption included.
        end: how training ended, where there is early stopping.
        records: of the whole run, those before a resumption included.
        notes: sentences about the scores.
        seconds: what the training steps alone took.
        steps_per_second: of the training steps alone.
        samples_per_second: likewise.
        step_split: what an average step consisted of.
        startup_seconds: from the beginning to the first step.
        finished: False where the user stopped the run.
        exit_code: 0; what the signal that stopped the run asks for; or 1 where the last checkpoint
            could not be written.
    """

    folder: RunFolder
    digest: str
    parameters: NDArray[Any]
    job: Job
    execution: Execution
    steps: int
    end: EndRecord | None
    records: list[Record]
    notes: list[str]
    seconds: float
    steps_per_second: float
    samples_per_second: float
    step_split: StepSplit
    startup_seconds: float
    finished: bool
    exit_code: int

    @property
    def evaluation(self) -> EpochRecord | None:
        """The evaluation of these weights, or the newest one where the run was stopped."""
        return result_of(self.records)

    def summary(self) -> dict[str, Any]:
        """Return the result as plain data."""
        last, end = self.evaluation, self.end
        gap = gap_of(last) if last else None
        return {
            "run": str(self.folder.path),
            "digest": self.digest,
            "finished": self.finished,
            "steps": self.steps,
            "epochs": self.steps / self.job.steps_per_epoch,
            "evaluated_step": last.step if last else None,
            "loss": last.train_loss if last else None,
            "train_accuracy": last.train_accuracy if last else None,
            "validation_loss": last.validation_loss if last else None,
            "validation_accuracy": last.validation_accuracy if last else None,
            "test_loss": last.test_loss if last else None,
            "test_accuracy": last.test_accuracy if last else None,
            "train_r2": last.train_r2 if last else None,
            "validation_r2": last.validation_r2 if last else None,
            "test_r2": last.test_r2 if last else None,
            "gap": gap._asdict() if gap else None,
            "stopped_early": end.stopped_early if end else None,
            "best_epoch": end.best_epoch if end else None,
            "notes": self.notes,
            "startup_seconds": self.startup_seconds,
            "training_seconds": self.seconds,
            "steps_per_second": self.steps_per_second,
            "samples_per_second": self.samples_per_second,
            "step_seconds": self.step_split._asdict(),
            "workers": self.execution.workers,
            "shards": self.job.shards,
            "exchange": self.execution.exchange,
            "transport": self.execution.transport if exchange_of(self.execution).sockets else None,
        }
