"""A run from beginning to end: prepare, launch, train, record, and leave nothing behind."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.atomic import atomic_write
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint
from dptrain.coordinator.cluster import Cluster
from dptrain.coordinator.signals import StopSignal, stop_on_signals
from dptrain.coordinator.trainer import Observer, Progress, Trainer
from dptrain.data.dataset import Dataset, open_dataset
from dptrain.data.prepared import prepare
from dptrain.errors import CheckpointError, Interrupted, NonFiniteError, WorkersLostError
from dptrain.exchange.engine import Engine, State
from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.rank import initial_state
from dptrain.experiment.files import parse_toml, to_toml
from dptrain.experiment.job import Job, check_digest
from dptrain.experiment.schema import Execution, Experiment
from dptrain.experiment.settle import settle, settle_execution
from dptrain.launch.local import LocalWorker, end
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.records import EpochRecord, Record
from dptrain.metrics.writer import MetricsWriter
from dptrain.protocol.handshake import new_key
from dptrain.runfolder import RunFolder
from dptrain.trained import flat_parameters


class SessionObserver(Observer, Protocol):
    """Sees the beginning of a run as well."""

    def begin(self, job: Job, execution: Execution, folder: Path, first_step: int) -> None:
        """Everything is decided, and nothing computed yet."""

    def waiting(self, address: str, key: Path, missing: int) -> None:
        """The run waits for workers that somebody starts by hand."""

    def close(self) -> None:
        """The run is over, however it ended."""


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
        records: of the whole run, those before a resumption included.
        seconds: what the training steps alone took.
        steps_per_second: of the training steps alone.
        samples_per_second: likewise.
        step_split: seconds per step in compute, exchange and update.
        startup_seconds: from the beginning to the first step.
        finished: False where the user stopped the run.
        exit_code: 0, or what the signal that stopped the run asks for.
    """

    folder: RunFolder
    digest: str
    parameters: NDArray[Any]
    job: Job
    execution: Execution
    steps: int
    records: list[Record]
    seconds: float
    steps_per_second: float
    samples_per_second: float
    step_split: tuple[float, float, float]
    startup_seconds: float
    finished: bool
    exit_code: int

    @property
    def last_epoch(self) -> EpochRecord | None:
        """The newest evaluation."""
        epochs = [each for each in self.records if isinstance(each, EpochRecord)]
        return epochs[-1] if epochs else None

    def summary(self) -> dict[str, Any]:
        """Return the result as plain data."""
        last = self.last_epoch
        return {
            "run": str(self.folder.path),
            "digest": self.digest,
            "finished": self.finished,
            "steps": self.steps,
            "epochs": self.steps / self.job.steps_per_epoch,
            "loss": last.train_loss if last else None,
            "train_accuracy": last.train_accuracy if last else None,
            "validation_loss": last.validation_loss if last else None,
            "validation_accuracy": last.validation_accuracy if last else None,
            "test_loss": last.test_loss if last else None,
            "test_accuracy": last.test_accuracy if last else None,
            "startup_seconds": self.startup_seconds,
            "training_seconds": self.seconds,
            "steps_per_second": self.steps_per_second,
            "samples_per_second": self.samples_per_second,
            "workers": self.execution.workers,
            "shards": self.job.shards,
            "exchange": self.execution.exchange,
            "transport": self.execution.transport if self.execution.exchange == "star" else None,
        }


class Session:
    """One call of training; everything opened here is closed when `run` ends."""

    def __init__(
        self,
        experiment: Experiment,
        execution: Execution,
        observer: SessionObserver,
        *,
        out: Path | None = None,
        resumed: RunFolder | None = None,
        prepared: Path | None = None,
        began: float | None = None,
    ) -> None:
        """Decide the execution; raise `UsageError` where settings exclude each other.

        Args:
            experiment: as given, or as recorded in the run to resume.
            execution: as given.
            observer: sees the run go by.
            out: the run folder; by default a new one under ``logs/``.
            resumed: a run to continue from its last checkpoint; locked, closed by `run`.
            prepared: a folder of prepared data, in place of the experiment's data set.
            began: when the user began to wait, by `time.perf_counter`; now, unless given.
        """
        self._began = time.perf_counter() if began is None else began
        self._experiment = experiment
        self._execution = settle_execution(execution, experiment.shards)
        self._observer = observer
        self._out = out
        self._resumed = resumed
        self._prepared = prepared
        self._stack = ExitStack()

    def run(self, *, handle_signals: bool = True) -> Outcome:
        """Train. Whatever happens, no process, socket or lock is left behind.

        Raises:
            DptrainError: of the kind that says what went wrong.
        """
        # more BLAS threads would change the last bits of float32 products
        with self._stack, threadpool_limits(limits=1, user_api="blas"):
            self._stack.callback(self._observer.close)
            stop = self._stack.enter_context(stop_on_signals()) if handle_signals else StopSignal()
            return self._run(stop)

    def _run(self, stop: StopSignal) -> Outcome:
        checkpoint = load_checkpoint(self._resumed.last) if self._resumed else None
        folder = self._resumed or self._new_folder()
        self._stack.enter_context(folder)
        launched = self._launch(folder)
        data = self._prepared or prepare(
            self._experiment.dataset,
            dtype=self._experiment.dtype,
            label=self._experiment.label,
        )
        job = self._settled_job(data)
        text = to_toml(job.experiment, self._execution)
        if checkpoint is None:
            atomic_write(folder.experiment, text.encode())
            state, progress = State(*initial_state(job)), Progress()
        else:
            state, progress = _restored(job, checkpoint)
        self._observer.begin(job, self._execution, folder.path, progress.step)
        metrics = self._stack.enter_context(MetricsWriter(folder.metrics, self._observer.warn))
        if checkpoint is not None:
            metrics.truncate_after(checkpoint.step)
        engine = self._engine(job, data, launched, state, progress.step, folder, stop)
        trainer = Trainer(
            job,
            engine,
            folder,
            metrics,
            text,
            self._observer,
            progress,
            log_every=self._execution.log_every,
            checkpoint_every=self._execution.checkpoint_every,
        )
        startup = time.perf_counter() - self._began
        finished = self._trained(trainer, folder, stop)
        return self._outcome(trainer, folder, startup, stop, finished=finished)

    def _new_folder(self) -> RunFolder:
        if self._out is not None:
            return RunFolder.create_at(self._out)
        return RunFolder.create(self._experiment.model)

    def _launch(self, folder: RunFolder) -> list[LocalWorker]:
        """Start the workers first of all: they import while this process prepares the data."""
        if self._execution.exchange == "inline":
            return []
        count = int(self._execution.workers or 0) - self._execution.join
        launched: list[LocalWorker] = []
        self._stack.callback(lambda: end(launched, grace=0.0) if not self._handed_over else None)
        self._handed_over = False
        launched += (LocalWorker(rank, folder.rank_log(rank)) for rank in range(count))
        return launched

    def _settled_job(self, data: Path) -> Job:
        e = self._experiment
        dataset = open_dataset(data, validation=e.validation, test=e.test, seed=e.seed)
        check_digest(e, dataset)
        settled = self._settle(dataset)
        return Job(settled, dataset)

    def _settle(self, dataset: Dataset) -> Experiment:
        workers = int(self._execution.workers or 1)
        settled = settle(
            self._experiment, workers, dataset.classes, len(dataset.train), dataset.digest
        )
        path = Path(settled.dataset)
        named = self._prepared is None and path.exists()  # and not "mnist" or "memory"
        return replace(
            settled,
            dataset=str(path.resolve()) if named else settled.dataset,
            input_shape=list(dataset.sample_shape),
        )

    def _engine(
        self,
        job: Job,
        data: Path,
        launched: Sequence[LocalWorker],
        state: State,
        first_step: int,
        folder: RunFolder,
        stop: Callable[[], bool],
    ) -> Engine:
        if self._execution.exchange == "inline":
            return InlineEngine(job, state.parameters, state.slots)
        key = new_key()
        cluster = Cluster(job, self._execution, str(data), key, launched, state, first_step, stop)
        self._handed_over = True
        self._stack.callback(cluster.close)
        if self._execution.join:
            path = folder.path / "worker.key"
            self._stack.callback(path.unlink, missing_ok=True)
            _write_key(path, key)
            self._observer.waiting(cluster.address, path, self._execution.join)
        cluster.join()
        return cluster

    def _trained(self, trainer: Trainer, folder: RunFolder, stop: StopSignal) -> bool:
        try:
            return trainer.run(stop)
        except Interrupted:  # in the middle of an evaluation
            trainer.save()
            return False
        except NonFiniteError as error:
            last = _last_good(folder)
            raise NonFiniteError(
                f"{error}\n{last}try a smaller --lr, --clip-norm 1, or --dtype float64"
            ) from None
        except WorkersLostError as error:
            trainer.save()
            raise WorkersLostError(
                f"{error}\nstep {trainer.progress.step} is saved; continue with: "
                f"dptrain train --resume {folder.path}"
            ) from None

    def _outcome(
        self,
        trainer: Trainer,
        folder: RunFolder,
        startup: float,
        stop: StopSignal,
        *,
        finished: bool,
    ) -> Outcome:
        parameters = np.array(trainer.engine.state().parameters)
        total = trainer.total
        return Outcome(
            folder=folder,
            digest=digest(parameters),
            parameters=parameters,
            job=trainer.job,
            execution=self._execution,
            steps=trainer.progress.step,
            records=read_metrics(folder.metrics),
            seconds=total.seconds,
            steps_per_second=total.steps / total.seconds if total.seconds else 0.0,
            samples_per_second=total.rate(),
            step_split=total.shares(),
            startup_seconds=startup,
            finished=finished,
            exit_code=stop.exit_code,
        )


def recorded(folder: RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a run's experiment and execution, as its last checkpoint recorded them."""
    checkpoint = load_checkpoint(folder.existing_checkpoint("last"))
    tables = parse_toml(checkpoint.experiment, str(folder.last))
    return tables["experiment"], tables["execution"]


def _restored(job: Job, checkpoint: Checkpoint) -> tuple[State, Progress]:
    parameters = flat_parameters(job.network, job.dtype, checkpoint)
    slots = []
    for name in job.updater.rule.slots:
        saved = checkpoint.optimizer.get(name)
        if saved is None or saved.shape != parameters.shape:
            raise CheckpointError(
                f"the checkpoint has no optimizer state {name!r} for {job.experiment.optimizer}; "
                "it can be evaluated, but not resumed"
            )
        slots.append(np.array(saved))
    best = checkpoint.progress.get("best")
    evaluated = checkpoint.progress.get("evaluated")
    progress = Progress(
        checkpoint.step,
        best if isinstance(best, float) else -np.inf,
        evaluated if isinstance(evaluated, int) else 0,
    )
    return State(parameters, slots), progress


def _last_good(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "no checkpoint was written before; "
    saved = load_checkpoint(folder.last)
    return f"the last good checkpoint, of step {saved.step}, is {folder.last}; "


def _write_key(path: Path, key: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.hex() + "\n")
