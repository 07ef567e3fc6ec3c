"""Runs as ``dptrain train`` carries them out, with a run folder, real workers and checkpoints."""

import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from shutil import copyfile
from typing import Any, Literal, NamedTuple

from dptrain.coordinator.resuming import recorded
from dptrain.coordinator.session import Session
from dptrain.exchange.engine import StepsDone
from dptrain.experiment.execution import Execution
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.deadline import Deadline
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.runs.course import Small
from dptrain.launch.local import WORKER, Program
from dptrain.metrics.records import EpochRecord
from dptrain.own.network import drawing_kept
from dptrain.runfolder import RunFolder


class Leg(NamedTuple):
    """One call of training.

    Attributes:
        way: exchange and workers.
        last: how it ends: with the last step; when it is asked to stop; or killed, after a
            checkpoint and one step more.
        stop: the steps done when it is stopped, or of the checkpoint before it is killed.
        settings: of its execution, besides; every step is logged, unless they say otherwise.
    """

    way: Way
    last: Literal["done", "asked", "killed"] = "done"
    stop: int = 0
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def execution(self) -> Execution:
        """How it is carried out."""
        settings: dict[str, Any] = {"worker_timeout": 30.0, "log_every": 1, **dict(self.settings)}
        if self.last == "killed":
            settings["checkpoint_every"] = self.stop
        settings |= {"workers": self.way.workers, "exchange": self.way.exchange}
        return build(Execution, settings, "the check")


class KilledError(Exception):
    """What ends a run in the midst of a step, as a death of its process would."""


class Watcher:
    """Follows a run, keeps copies of its checkpoints, and ends it where its leg says so.

    Attributes:
        stop: what the run asks whether to go on.
        told: after how many steps the run said that it begins.
        begun: after how many steps it did; None where it did none.
    """

    def __init__(self, leg: Leg, folder: RunFolder, copies: Path) -> None:
        self.stop = Deadline()
        self._leg, self._folder, self._copies = leg, folder, copies
        self.told = 0
        self.begun: int | None = None

    def begin(self, job: Job, execution: Execution, folder: Path, first_step: int) -> None:
        """Note where the run begins."""
        del job, execution, folder
        self.told = first_step

    def step(self, done: StepsDone) -> None:
        """End the run, where this is the step."""
        if self.begun is None:
            self.begun = done.begin
        if self._leg.last == "asked" and done.end == self._leg.stop:
            self.stop.receive(signal.SIGINT)
        if self._leg.last == "killed" and done.end > self._leg.stop:
            raise KilledError

    def epoch(self, record: EpochRecord) -> None:
        """Keep the checkpoint that was just written."""
        copyfile(self._folder.last, evaluated(self._copies, record.step))

    def waiting(self, address: str, key: Path, missing: int) -> None:
        """Nobody is waited for."""

    def evaluating(self, split: str, done: int, rows: int) -> None:
        """Nothing is shown."""

    def note(self, message: str) -> None:
        """Nothing is shown; what is wrong will show in what the run leaves."""

    warn = note

    def close(self) -> None:
        """Nothing is held."""


def evaluated(copies: Path, step: int) -> Path:
    """Return where the checkpoint is kept that a run wrote with an evaluation."""
    return copies / f"evaluated-{step}.safetensors"


def left(copies: Path, step: int) -> Path:
    """Return where the checkpoint is kept that a leg left behind."""
    return copies / f"left-{step}.safetensors"


def carry_out(few: Small, leg: Leg, run: Path, copies: Path, worker: Program = WORKER) -> Watcher:
    """Carry out a leg of a run: begin it, or go on where its folder is there already.

    Args:
        few: what to train.
        leg: how, and how far.
        run: the run folder.
        copies: folder for copies of its checkpoints.
        worker: what worker processes run, or what forks them.

    Raises:
        DptrainError: the run ended with an error.
    """
    folder = RunFolder(run)
    watcher = Watcher(leg, folder, copies)
    experiment: Experiment = few.job.experiment
    with ExitStack() as stack:
        known: dict[str, Any] = {"prepared": few.data, "origin": few.job.origin, "worker": worker}
        if run.exists():
            known["resumed"] = resumed = RunFolder.resume(run)
            stack.callback(resumed.close)
            experiment = build(Experiment, recorded(resumed)[0], str(run))
        stack.enter_context(suppress(KilledError))
        session = Session(experiment, leg.execution, watcher, out=run, **known)
        with drawing_kept():
            session.run(stop=watcher.stop)
    copyfile(folder.last, left(copies, leg.stop))
    return watcher
