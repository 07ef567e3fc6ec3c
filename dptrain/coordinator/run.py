"""One run: settle the experiment, build the job, join the workers, train, and report."""

import contextlib
import dataclasses
import os
import time
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from dptrain.arithmetic.digest import digest
from dptrain.arithmetic.platform import arithmetic
from dptrain.checkpoint.atomic import atomic_write
from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, step_of
from dptrain.coordinator.cluster import ClusterSetup
from dptrain.coordinator.engines import start_engine
from dptrain.coordinator.initial_state import (
    description,
    first_state,
    saved_state,
    saved_weights,
    scale_doubt,
)
from dptrain.coordinator.observer import Observer
from dptrain.coordinator.outcome import Outcome
from dptrain.coordinator.progress import RunProgress
from dptrain.coordinator.resuming import way_on
from dptrain.coordinator.score_notes import large_numbers, remarks
from dptrain.coordinator.signals import StopSignal
from dptrain.coordinator.trainer import Trainer
from dptrain.data.dataset import Dataset
from dptrain.errors import (
    EXIT_ERROR,
    CheckpointError,
    Interrupted,
    NonFiniteError,
    OwnCodeError,
    RunFolderError,
    WorkersLostError,
)
from dptrain.exchange.engine import Engine, TrainingState
from dptrain.exchange.needed import check_memory
from dptrain.exchange.timeline import COORDINATOR, MOST_STEPS, Timeline
from dptrain.experiment.doubts import doubts
from dptrain.experiment.dry_run import settled_by_dry_run
from dptrain.experiment.execution import Execution, exchange_of
from dptrain.experiment.files import read_toml, to_toml
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.schema import Experiment, Settled
from dptrain.experiment.settling import from_anywhere, settled_for
from dptrain.launch.local import Crew
from dptrain.machine.blas import one_blas_thread
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.records import (
    ArithmeticRecord,
    ProlongedRecord,
    arithmetic_in_force,
    result_of,
    steps_in_force,
)
from dptrain.metrics.trace import write_trace
from dptrain.metrics.writer import MetricsWriter
from dptrain.optim.schedules import Cosine
from dptrain.own.network import OwnNetwork
from dptrain.own.origin import Origin
from dptrain.protocol.handshake import new_key
from dptrain.runfolder import RunFolder


class Run:
    """What a session does once its workers are started."""

    def __init__(
        self,
        experiment: Experiment,
        execution: Execution,
        observer: Observer,
        folder: RunFolder,
        crew: Crew,
        stop: StopSignal,
        began: float,
        *,
        resumes: bool,
        prepared: Path | None,
        origin: Origin | None,
        begins: Checkpoint | None = None,
    ) -> None:
        if begins is not None:
            experiment = replace(experiment, init_from=str(folder.begun), init_digest=begins.digest)
        self._experiment = experiment
        self._execution = execution
        self._observer = observer
        self._folder = folder
        self._crew = crew
        self._stop = stop
        self._began = began
        self._resumes = resumes
        self._prepared = prepared
        self._origin = origin
        self._timeline = Timeline() if execution.trace else None
        self._expected = 0.0
        self._saved = begins
        # a run that is continued has begun already: what it began with may be gone
        if begins is None and experiment.init_from and not resumes:
            self._saved = saved_weights(experiment.init_from)

    def carry_out(self) -> Outcome:
        """Train to the end or until stopped."""
        # more BLAS threads would change the last bits of float32 products
        with ExitStack() as stack, one_blas_thread():
            return self._carry_out(stack)

    def _carry_out(self, stack: ExitStack) -> Outcome:
        folder = self._folder
        checkpoint = load_checkpoint(folder.last) if self._resumes else None
        data = self._prepared or prepared_data(self._experiment)
        job = self._settled_job(data)
        check_memory(job, self._execution)
        text = to_toml(job.experiment, self._execution)
        begins, beginning = "", None
        if checkpoint is None:
            state, beginning = first_state(job, self._saved)
            progress = RunProgress()
            begins = description(job, beginning) if beginning else ""
            if self._saved is not None:  # whatever becomes of where they came from
                save_checkpoint(folder.begun, dataclasses.replace(self._saved, optimizer={}))
            atomic_write(folder.experiment, text.encode())
        else:
            state = saved_state(job, checkpoint)
            progress = RunProgress.of(checkpoint.step, checkpoint.progress)
        has_ended = progress.has_ended(job.experiment.patience, job.total_steps)
        best = None if has_ended else _best(job, folder, checkpoint, progress)
        self._observer.begin(job, self._execution, folder.path, progress.step)
        if begins:
            self._observer.note(begins)
        for sentence in beginning.changed if begins and beginning else ():
            self._observer.warn(sentence)
        metrics = stack.enter_context(MetricsWriter(folder.metrics, self._observer.warn))
        if has_ended:
            self._observer.warn(_nothing_to_do(job, progress))
        elif checkpoint is not None:
            if progress.step >= job.total_steps:
                more = "--steps" if job.experiment.epochs is None else "--epochs"
                self._observer.note(f"{progress.step} steps are done; to go on, give more {more}")
            progress.ending = None
            metrics.truncate_after(checkpoint.step)
            folder.discard_kept_after(checkpoint.epoch)
            if prolonged := _prolonged(job, folder, checkpoint.step):
                metrics.write(prolonged)
        if not has_ended:
            self._record_arithmetic(job, metrics, progress.step)
        stack.callback(self._write_timeline)
        engine = self._engine(stack, job, data, state, progress.step)
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
            keep_checkpoints=bool(self._execution.keep_checkpoints),
            record_digests=bool(self._execution.record_digests),
            best=best,
            owed=_owed(folder, checkpoint, progress),
            timeline=self._timeline,
        )
        startup = time.perf_counter() - self._began
        finished = self._trained(trainer)
        return self._outcome(trainer, startup, finished=finished)

    def _record_arithmetic(self, job: Job, metrics: MetricsWriter, step: int) -> None:
        """Record how the steps to come are computed; say so where that has changed."""
        now, records = arithmetic(), read_metrics(self._folder.metrics)
        last = arithmetic_in_force(records)
        # what began at this very step came to nothing before the run was stopped
        before = arithmetic_in_force([each for each in records if each.step < step])
        if before is not None and before.fingerprint != now.fingerprint:
            self._observer.warn(
                f"the run goes on with other arithmetic: the steps up to {step} were computed with "
                f"{before}, from here on it is {now}; the last bits will differ from those of a "
                "run on one machine, which is recorded in metrics.jsonl"
            )
        if last is None or last.fingerprint != now.fingerprint:
            metrics.write(ArithmeticRecord(step, step / job.steps_per_epoch, *now))

    def _settled_job(self, data: Path) -> Job:
        dataset = opened_data(self._experiment, data)
        settled, network = self._settle(dataset), None
        if self._origin is not None:
            settled, network = self._rehearsed(settled, dataset, self._origin)
        if self._saved is not None:
            settled = replace(
                settled,
                init_from=str(Path(str(settled.init_from)).resolve()),
                init_digest=settled.init_digest or self._saved.digest,
            )
        job = Job(settled, dataset, self._origin, network)
        scale = "" if self._saved is None else scale_doubt(job, self._saved)
        for doubt in [*doubts(job), *[scale] * bool(scale)]:
            self._observer.warn(doubt)
        return job

    def _rehearsed(
        self, settled: Settled, dataset: Dataset, origin: Origin
    ) -> tuple[Settled, OwnNetwork]:
        """Find out here, before anything is written, what workers would stumble over."""
        if exchange_of(self._execution).workers:
            origin.message()
        began = time.monotonic()
        found = settled_by_dry_run(
            settled, dataset, origin, shards_given=bool(self._experiment.shards)
        )
        # more than any rank needs for a minibatch: every shard's rows are computed several times
        self._expected = time.monotonic() - began
        for warning in found.warnings:
            self._observer.warn(warning)
        workers, shards = self._execution.world_size, int(found.experiment.shards)
        if workers > shards:
            spare = workers - shards
            do = "update weights and evaluate" if spare > 1 else "updates weights and evaluates"
            self._observer.warn(
                f"{workers} workers share {shards} shard{'s' * (shards > 1)}: "
                f"{spare} of them only {do}"
            )
        return found.experiment, found.network

    def _settle(self, dataset: Dataset) -> Settled:
        workers = self._execution.world_size
        settled = settled_for(self._experiment, dataset, workers, self._origin)
        if self._prepared is not None:
            return settled
        return replace(settled, dataset=from_anywhere(settled.dataset))

    def _engine(
        self, stack: ExitStack, job: Job, data: Path, state: TrainingState, first_step: int
    ) -> Engine:
        key = new_key()
        setting = ClusterSetup(
            job,
            self._execution,
            str(data),
            key,
            self._crew,
            first_step,
            self._stop,
            self._timeline,
            self._expected,
        )
        path = self._folder.key

        def bound(address: str) -> None:
            if self._execution.join:
                stack.callback(path.unlink, missing_ok=True)
                _write_key(path, key)
                self._observer.waiting(address, path, self._execution.join)

        try:
            return start_engine(stack, setting, state, bound)
        except WorkersLostError as error:
            again = "the run stands where it stood" if self._resumes else "no step was done"
            error.args = (f"{error}\n{again}; the same command tries again",)
            raise

    def _trained(self, trainer: Trainer) -> bool:
        try:
            return trainer.run(self._stop)
        except Interrupted:  # in the middle of an evaluation
            trainer.save()
            return False
        except NonFiniteError as error:
            hints = [*large_numbers(trainer.job), "try a smaller --lr, or --clip-norm 1"]
            if trainer.job.experiment.dtype != "float64":
                hints[-1] = "try a smaller --lr, --clip-norm 1, or --dtype float64"
            last = _last_good(self._folder)
            raise NonFiniteError(f"{error}\n{last}{'; '.join(hints)}") from None
        except (WorkersLostError, OwnCodeError) as error:
            trainer.save()
            saved = f"step {trainer.progress.step} is saved; continue with: "
            way = way_on(self._experiment, self._folder.path, self._origin)
            error.args = (f"{error}\n{saved}{way}",)
            raise

    def _write_timeline(self) -> None:
        if self._timeline is None:
            return
        if self._timeline.full:
            self._observer.warn(f"the timeline holds the first {MOST_STEPS:,} steps only")
        ranks = range(self._execution.world_size)
        lanes = [(COORDINATOR, "coordinator"), *((rank, f"rank {rank}") for rank in ranks)]
        try:
            write_trace(self._folder.trace, lanes, self._timeline)
        except RunFolderError as error:  # the run matters more than its timeline
            self._observer.warn(str(error))

    def _outcome(self, trainer: Trainer, startup: float, *, finished: bool) -> Outcome:
        parameters, end = trainer.parameters, trainer.end
        total = trainer.total
        steps = end.step if end else trainer.progress.step
        records = read_metrics(self._folder.metrics)
        best_step = trainer.progress.best_step
        notes = remarks(trainer.job, parameters, result_of(records), best_step, steps)
        return Outcome(
            folder=self._folder,
            digest=digest(parameters),
            parameters=parameters,
            job=trainer.job,
            execution=self._execution,
            steps=steps,
            end=end,
            records=records,
            notes=notes,
            seconds=total.seconds,
            steps_per_second=total.steps / total.seconds if total.seconds else 0.0,
            samples_per_second=total.rate(),
            step_split=total.split(),
            startup_seconds=startup,
            finished=finished,
            exit_code=self._stop.exit_code or (0 if trainer.saved else EXIT_ERROR),
        )


def _best(
    job: Job, folder: RunFolder, last: Checkpoint | None, progress: RunProgress
) -> Checkpoint | None:
    """Return the best checkpoint so far of a run that is continued, if it may be restored."""
    if last is None or job.experiment.patience is None or not progress.best_step:
        return None
    if last.step == progress.best_step:
        return last
    best = load_checkpoint(folder.existing_checkpoint("best"))
    if best.step != progress.best_step:
        raise CheckpointError(
            f"{folder.best}: is of step {best.step}, but the best step was {progress.best_step}, "
            f"whose weights early stopping would restore; train anew from {folder.experiment}"
        )
    return best


def _owed(folder: RunFolder, last: Checkpoint | None, progress: RunProgress) -> Checkpoint | None:
    """Return the best checkpoint so far where the run ended before it was written as such."""
    if last is None or last.step != progress.best_step:
        return None
    with contextlib.suppress(CheckpointError):
        if step_of(folder.best) == last.step:
            return None
    return last


def _prolonged(job: Job, folder: RunFolder, step: int) -> ProlongedRecord | None:
    """Return what is to be recorded where steps to come have another learning rate than before."""
    if not isinstance(job.updater.schedule, Cosine):  # the only one that goes by all steps
        return None
    wanted = (job.experiment.epochs, job.experiment.steps)
    if wanted == steps_in_force(read_toml(folder.experiment), read_metrics(folder.metrics)):
        return None
    return ProlongedRecord(step, step / job.steps_per_epoch, *wanted)


def _nothing_to_do(job: Job, progress: RunProgress) -> str:
    ending, patience = progress.ending, job.experiment.patience
    assert ending is not None
    epoch, best = (step / job.steps_per_epoch for step in (ending.step, progress.best_step))
    remedy = ""
    if patience is not None and ending.waited >= patience:
        remedy = f"; a --patience above {ending.waited} lets it go on"
    return (
        f"training has ended at epoch {epoch:g}, and epoch {best:g}, the best, is restored{remedy}"
    )


def _last_good(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "no checkpoint was written before; "
    saved = load_checkpoint(folder.last)
    return f"the last good checkpoint, of step {saved.step}, is {folder.last}; "


def _write_key(path: Path, key: bytes) -> None:
    path.unlink(missing_ok=True)  # never into what lies there: a link, a pipe, a file for all
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.hex() + "\n")
