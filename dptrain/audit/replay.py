"""Re-execution of a run's steps in one process."""

from collections.abc import Iterator
from itertools import pairwise

from dptrain.audit.history import History, Kept
from dptrain.checkpoint.checkpoint import load_checkpoint
from dptrain.coordinator.initial_state import first_state, saved_state, saved_weights
from dptrain.errors import RunFolderError
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import check_digest, opened_data, prepared_data
from dptrain.experiment.moved_data import data_at
from dptrain.own.origin import Origin, demand
from dptrain.runfolder import RunFolder

_FAR = 10_000


class Replay:
    """Re-executes a run; the caller sees to it that BLAS has one thread.

    Attributes:
        job: with which the run began.
    """

    def __init__(self, history: History, origin: Origin | None, data: str | None = None) -> None:
        """Open the data, whose bytes are compared with what was prepared; build the network.

        Args:
            history: of the run.
            origin: where a network of the user's own comes from.
            data: where the data set lies, unless it is where the run found it.

        Raises:
            DataError: the data set is gone, or has changed.
            RunFolderError: the run tells of steps that it cannot have done.
            UsageError: the network is code that the user has not named.
        """
        experiment = history.experiment
        demand(experiment.model, origin)
        self._begun = RunFolder.open(history.path).begun
        if data is None:
            folder = prepared_data(experiment, thorough=True)
        else:
            experiment, folder = data_at(experiment, data, thorough=True)
        dataset = opened_data(experiment, folder)
        check_digest(experiment, dataset)
        self._phases = [(first, Job(each, dataset, origin)) for first, each in history.phases]
        self.job = self._phases[0][1]
        known = max(job.total_steps for _, job in self._phases)
        # many times as far as it was first told to go; it may have been given more epochs
        if history.end > _FAR * known:
            raise RunFolderError(
                f"{history.path}: tells of step {history.end:,}, but its experiment ends with step "
                f"{known:,}: a line of metrics.jsonl or a checkpoint is damaged"
            )

    def job_of(self, step: int) -> Job:
        """Return the job of a step, counted from 0."""
        return next(job for first, job in reversed(self._phases) if first <= step)

    def start(self) -> TrainingState:
        """Return what the first step begins with.

        Raises:
            RunFolderError, CheckpointError, UsageError: weights that the run began with are gone,
                or not what they were.
        """
        source = self.job.experiment.init_from
        if source and self._begun.is_file():
            source = str(self._begun)
        return first_state(self.job, saved_weights(source) if source else None)[0]

    def saved(self, kept: Kept) -> TrainingState:
        """Return the state in a checkpoint.

        Raises:
            CheckpointError: it is damaged, or of another network.
        """
        return saved_state(self.job, load_checkpoint(kept.path))

    def steps(self, begin: int, end: int, state: TrainingState) -> Iterator[tuple[int, float]]:
        """Carry out the steps ``begin`` to ``end - 1``.

        Yields:
            How many steps are done, and the loss of the last.

        Args:
            begin: counted from 0.
            end: behind the last.
            state: after ``begin`` steps; becomes that after each step.

        Raises:
            NonFiniteError: the loss is not finite.
        """
        edges = [first for first, _ in self._phases if begin < first < end]
        for low, high in pairwise([begin, *edges, end]):
            engine = InlineEngine(self.job_of(low), state.parameters, state.slots)
            for done in engine.train(low, high, _never, 1):
                yield done.end, done.loss


def _never() -> bool:
    return False
