"""The course of a run: steps, evaluations, checkpoints and records, whoever carries them out."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.digest import digest, tensor_digests
from dptrain.checkpoint.checkpoint import Checkpoint, save_checkpoint
from dptrain.coordinator.observer import Observer
from dptrain.coordinator.progress import RunProgress
from dptrain.errors import NonFiniteError, RunFolderError
from dptrain.exchange.engine import (
    Engine,
    ShouldStop,
    SplitScore,
    StepsDone,
    StepSplit,
    TrainingState,
    is_logged,
)
from dptrain.exchange.timeline import COORDINATOR, Timeline
from dptrain.experiment.job import SPLITS, Job
from dptrain.metrics.records import DigestRecord, EndRecord, EpochRecord, Record, StepRecord
from dptrain.metrics.writer import MetricsWriter
from dptrain.runfolder import RunFolder
from dptrain.trained import flat_parameters


class Trainer:
    """Drives an engine through an experiment.

    Attributes:
        total: the steps carried out by this process.
        progress: where the run stands.
        saved: whether the newest checkpoint could be written.
    """

    def __init__(
        self,
        job: Job,
        engine: Engine,
        folder: RunFolder,
        metrics: MetricsWriter,
        experiment_text: str,
        observer: Observer,
        progress: RunProgress,
        *,
        log_every: int,
        checkpoint_every: int | None,
        keep_checkpoints: bool = False,
        record_digests: bool = False,
        best: Checkpoint | None = None,
        owed: Checkpoint | None = None,
        timeline: Timeline | None = None,
    ) -> None:
        """Bind; of a run that is continued there may be two checkpoints.

        ``best`` is the best so far, if early stopping may restore it; ``owed`` likewise, if no file
        holds it.
        """
        self.job = job
        self.engine = engine
        self.total = StepSums()
        self.progress = progress
        self._folder = folder
        self._metrics = metrics
        self._text = experiment_text
        self._observer = observer
        self._log_every = log_every
        self._checkpoint_every = checkpoint_every
        self._keeps = keep_checkpoints
        self._records_digests = record_digests
        self._best = best
        self._owed = owed
        self._timeline = timeline
        self.saved = True
        self._told_of_disk = False
        self._restored: NDArray[Any] | None = None
        self._interval = StepSums()
        self._epoch = StepSums()

    def run(self, stop: ShouldStop) -> bool:
        """Train to the end; return False where ``stop`` ended it before, after a checkpoint.

        Raises:
            NonFiniteError: the loss or the weights are no longer finite.
            WorkersLostError: a worker is lost; the last committed step has been saved.
        """
        if self.end is not None:
            return True
        if self._evaluation_due():  # the run was stopped between an epoch's end and its evaluation
            self._close_epoch()
        while not self._is_done():
            self._train(self._boundary(), stop)
            self._record_digests()
            if stop():
                self.save()
                return False
            if self._evaluation_due():
                self._close_epoch()
            elif self._checkpoint_due():
                self.save()
        self._restore_best()
        return True

    @property
    def end(self) -> EndRecord | None:
        """How training ended, where there is early stopping and it has ended for good."""
        job, ending = self.job, self.progress.ending
        if ending is None or not self.progress.has_ended(job.experiment.patience, job.total_steps):
            return None
        return EndRecord(
            epoch=ending.step / job.steps_per_epoch,
            step=ending.step,
            best_epoch=self.progress.best_step / job.steps_per_epoch,
            best_step=self.progress.best_step,
            stopped_early=ending.step < job.total_steps,
            digest=digest(self.parameters),
        )

    @property
    def parameters(self) -> NDArray[Any]:
        """A copy of the flat vector of weights: the best where they have been restored."""
        if self._restored is not None:
            return self._restored
        return np.array(self.engine.state().parameters)

    def _is_done(self) -> bool:
        if self.progress.is_exhausted(self.job.experiment.patience):
            return True
        return self.progress.step >= self.job.total_steps

    def _restore_best(self) -> None:
        """Make the best epoch's weights the run's result, where there is early stopping.

        Also after the last epoch: which weights a run comes to should not hang on whether patience
        ended just before. The checkpoint `last` is that epoch's from now on, so a run that goes on
        after all does those epochs again, to the same bits.
        """
        if self.job.experiment.patience is None:
            return
        best, ending = self._best, self.progress.end()
        assert best is not None
        assert best.step == self.progress.best_step
        self._restored = flat_parameters(self.job.network, self.job.dtype, best)
        self.progress = RunProgress.of(best.step, best.progress)
        self.progress.ending = ending
        end = self.end
        assert end is not None
        self._record(end)
        plain = best.progress | self.progress.plain()
        self._write([self._folder.last], replace(best, experiment=self._text, progress=plain))

    def _evaluation_due(self) -> bool:
        step = self.progress.step
        ends = self._epoch_is_done() or step == self.job.total_steps
        return ends and step > self.progress.evaluated

    def _epoch_is_done(self) -> bool:
        return self.progress.step % self.job.steps_per_epoch == 0

    def _checkpoint_due(self) -> bool:
        every = self._checkpoint_every
        return every is not None and self.progress.step % every == 0

    def _boundary(self) -> int:
        """Return where the steps end that are done without looking at the weights."""
        step = self.progress.step
        if step == 0 and self._records_digests:
            return 1
        logged = self._log_every if self._records_digests else None
        spans = [self.job.steps_per_epoch, self._checkpoint_every, logged]
        ends = [step - step % span + span for span in spans if span]
        return min(self.job.total_steps, *ends)

    def _train(self, end: int, stop: ShouldStop) -> None:
        begin = self.progress.step
        for done in self.engine.train(begin, end, stop, self._log_every):
            self._interval.add(done, sum(map(self.job.rows, range(done.begin, done.end))))
            self.progress.step = done.end
            if is_logged(done.end, self._log_every):
                self._log(done)
            self._observer.step(done)
        self._flush()

    def _log(self, done: StepsDone) -> None:
        interval = self._flush()
        split = interval.split()
        self._record(
            StepRecord(
                step=done.end,
                epoch=done.end / self.job.steps_per_epoch,
                loss=done.loss,
                lr=self.job.updater.schedule(done.end - 1),
                samples_per_second=interval.rate(),
                compute_seconds=split.compute,
                exchange_seconds=split.exchange,
                wait_seconds=split.wait,
                update_seconds=split.update,
            )
        )

    def _flush(self) -> "StepSums":
        """Begin a new interval; return the one that has ended, which the sums now include."""
        interval, self._interval = self._interval, StepSums()
        self.total.include(interval)
        self._epoch.include(interval)
        return interval

    def _record_digests(self) -> None:
        step = self.progress.step
        if self._records_digests and is_logged(step, self._log_every):
            tensors = self.job.network.views(self.engine.state().parameters)
            epoch = step / self.job.steps_per_epoch
            self._record(DigestRecord(step=step, epoch=epoch, tensors=tensor_digests(tensors)))

    def _record(self, record: Record) -> None:
        self._metrics.write(record)

    def _close_epoch(self) -> None:
        interval, self._epoch = self._epoch, StepSums()
        with self._span("evaluate"):
            scores = {split: self._evaluated(split) for split in SPLITS}
        step = self.progress.step
        if not all(s is None or math.isfinite(s.loss) for s in scores.values()):
            raise NonFiniteError(f"the evaluation after step {step} has a loss that is not finite")
        loss = {split: s.loss if s else None for split, s in scores.items()}
        accuracy = {split: s.accuracy if s else None for split, s in scores.items()}
        r2 = {split: s.r2 if s else None for split, s in scores.items()}
        record = EpochRecord(
            epoch=step / self.job.steps_per_epoch,
            step=step,
            train_loss=loss["train"],
            train_accuracy=accuracy["train"],
            validation_loss=loss["validation"],
            validation_accuracy=accuracy["validation"],
            test_loss=loss["test"],
            test_accuracy=accuracy["test"],
            lr=self.job.updater.schedule(step - 1),
            seconds=interval.seconds,
            samples_per_second=interval.rate(),
            digest=digest(self.engine.state().parameters),
            train_r2=r2["train"],
            validation_r2=r2["validation"],
            test_r2=r2["test"],
        )
        self._record(record)
        merit = _merit([scores["validation"], scores["test"], scores["train"]])
        self.save(best=self.progress.judge(merit, self.job.experiment.min_improvement))
        self._observer.epoch(record)

    def _evaluated(self, split: str) -> SplitScore | None:
        rows = len(self.job.split(split))

        def alive(pieces: int = 0) -> None:
            done = min(rows, pieces * self.job.evaluation_rows)
            self._observer.evaluating(split, done, rows)

        return self.engine.evaluate(split, alive) if rows else None

    def save(self, *, best: bool = False) -> None:
        """Write the checkpoint ``last``, and ``best`` as well where asked.

        A disk that is full is told once, and training goes on.

        Raises:
            NonFiniteError: the weights are not finite; the checkpoints stay as they were.
        """
        with self._span("checkpoint"):
            self._save(best=best)

    @contextmanager
    def _span(self, name: str) -> Iterator[None]:
        """Note in the timeline, if there is one, how long the block takes."""
        began = time.perf_counter()
        yield
        if self._timeline is not None:
            self._timeline.add(COORDINATOR, name, began, time.perf_counter(), self.progress.step)

    def _save(self, *, best: bool) -> None:
        state = self.engine.state()
        if not np.isfinite(state.parameters).all():
            raise NonFiniteError(f"the weights after step {self.progress.step} are not finite")
        checkpoint = self._checkpoint(state)
        # Whenever `last` names another step as the best, `best` must be of that step: so a best
        # epoch's `best` comes after its `last`, which needs no other file, and before the next.
        if not best and self._owed is not None:
            self._write([self._folder.best], self._owed)
            if not self.saved:
                return
            self._owed = None
        files = [self._folder.last]
        if self._keeps and self._epoch_is_done():
            files.insert(0, self._folder.of_epoch(checkpoint.epoch))
        if best:
            files.append(self._folder.best)
            if self.job.experiment.patience is not None:
                self._best = self._copied()
        self._write(files, checkpoint)
        if best:  # what the engine holds goes on changing
            self._owed = None if self.saved else self._best or self._copied()

    def _copied(self) -> Checkpoint:
        state = self.engine.state()
        copies = TrainingState(np.array(state.parameters), list(map(np.array, state.slots)))
        return self._checkpoint(copies)

    def _write(self, files: Sequence[Path], checkpoint: Checkpoint) -> None:
        try:
            for file in files:
                save_checkpoint(file, checkpoint)
            self.saved = True
        except RunFolderError as error:
            self.saved = False
            if not self._told_of_disk:
                self._told_of_disk = True
                self._observer.warn(f"{error}; training goes on without new checkpoints")

    def _checkpoint(self, state: TrainingState) -> Checkpoint:
        names = self.job.updater.rule.slots
        return Checkpoint(
            tensors=self.job.network.views(state.parameters),
            optimizer=dict(zip(names, state.slots, strict=True)),
            step=self.progress.step,
            epoch=self.progress.step // self.job.steps_per_epoch,
            experiment=self._text,
            digest=digest(state.parameters),
            progress=self.progress.plain()
            | {"class_names": "\n".join(self.job.dataset.class_names)},
        )


class StepSums:
    """Sums over some steps."""

    def __init__(self) -> None:
        self.steps = 0
        self.rows = 0
        self.seconds = 0.0
        self._compute = self._exchange = self._wait = self._update = 0.0

    def add(self, done: StepsDone, rows: int) -> None:
        """Add steps of so many rows."""
        self.steps += done.end - done.begin
        self.rows += rows
        self.seconds += done.seconds
        self._compute += done.compute
        self._exchange += done.exchange
        self._wait += done.wait
        self._update += done.update

    def include(self, other: "StepSums") -> None:
        """Add the steps of another interval."""
        self.steps += other.steps
        self.rows += other.rows
        self.seconds += other.seconds
        self._compute += other._compute
        self._exchange += other._exchange
        self._wait += other._wait
        self._update += other._update

    def rate(self) -> float:
        """Return rows per second."""
        return self.rows / self.seconds if self.seconds else 0.0

    def split(self) -> StepSplit:
        """Return what an average step consisted of."""
        steps = max(1, self.steps)
        parts = (self._compute, self._exchange, self._wait, self._update)
        return StepSplit(*(each / steps for each in parts))


def _merit(scores: Sequence[SplitScore | None]) -> float:
    """Return how good the weights are by the first split there: accuracy, or the negative loss."""
    found = next(each for each in scores if each is not None)
    return -found.loss if found.accuracy is None else found.accuracy
