"""A session of training: start the workers first of all, then import, prepare and train.

This file imports no mathematics. A worker needs a quarter of a second to import what it needs, and
so does the coordinator; so the workers are started before the coordinator's own imports, which
stand in `Session.run` for this one reason.
"""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dptrain.coordinator.observer import Observer
from dptrain.coordinator.signals import StopSignal, stop_on_signals
from dptrain.errors import Interrupted
from dptrain.experiment.execution import Execution, settle_execution
from dptrain.experiment.schema import OWN_LAYERS, Experiment
from dptrain.launch.local import WORKER, Crew, Program
from dptrain.machine.cores import can_pin
from dptrain.own.origin import Origin, demand, is_own, own_name
from dptrain.runfolder import RunFolder

if TYPE_CHECKING:
    from dptrain.checkpoint.checkpoint import Checkpoint
    from dptrain.coordinator.outcome import Outcome


class Session:
    """One call of training; whatever it opens is closed when `run` ends, however it ends."""

    def __init__(
        self,
        experiment: Experiment,
        execution: Execution,
        observer: Observer,
        *,
        out: Path | None = None,
        resumed: RunFolder | None = None,
        prepared: Path | None = None,
        origin: Origin | None = None,
        begins: "Checkpoint | None" = None,
        began: float | None = None,
        worker: Program = WORKER,
    ) -> None:
        """Decide the execution; raise `UsageError` where settings exclude each other.

        Args:
            experiment: as given, or as recorded in the run to resume.
            execution: as given.
            observer: sees the run go by.
            out: the run folder; by default a new one under ``logs/``.
            resumed: a run to continue from its last checkpoint; locked, closed by `run`.
            prepared: a folder of prepared data, in place of the experiment's data set.
            origin: the network of the user's own that this call has named, if any.
            begins: weights to begin with.
            began: when the user began to wait, by `time.perf_counter`; now, unless given.
            worker: what worker processes run, as arguments of Python, or what forks them.
        """
        self._began = time.perf_counter() if began is None else began
        demand(experiment.model, origin)
        self._experiment = experiment
        self._execution = settle_execution(execution, experiment.shards)
        self._observer = observer
        self._out = out
        self._resumed = resumed
        self._prepared = prepared
        self._origin = origin
        self._begins = begins
        self._worker = worker

    def run(self, *, handle_signals: bool = True, stop: StopSignal | None = None) -> "Outcome":
        """Train. Whatever happens, no process, socket or lock is left behind.

        Args:
            handle_signals: whether SIGINT, SIGTERM and the like stop the run after the present
                step; see `stop_on_signals`.
            stop: what stops it in place of signals.

        Raises:
            DptrainError: of the kind that says what went wrong.
        """
        with ExitStack() as stack:
            stack.callback(self._observer.close)
            if stop is None:
                stop = stack.enter_context(stop_on_signals()) if handle_signals else StopSignal()
            if self._execution.pin and not can_pin():
                self._observer.warn("--pin: this system does not let processes be bound to cores")
            folder = self._resumed or self._new_folder()
            stack.enter_context(folder)
            stack.callback(folder.discard_unless_begun)
            crew = stack.enter_context(self._crew(folder))
            from dptrain.coordinator.run import Run

            run = Run(
                self._experiment,
                self._execution,
                self._observer,
                folder,
                crew,
                stop,
                self._began,
                resumes=self._resumed is not None,
                prepared=self._prepared,
                origin=self._origin,
                begins=self._begins,
            )
            try:
                return run.carry_out()
            except Interrupted as error:
                error.exit_code = stop.exit_code or error.exit_code
                raise

    def _new_folder(self) -> RunFolder:
        if self._out is not None:
            return RunFolder.create_at(self._out)
        if self._experiment.layers is not None:
            return RunFolder.create(OWN_LAYERS)
        model = self._experiment.model
        return RunFolder.create(own_name(model) if is_own(model) else model)

    def _crew(self, folder: RunFolder) -> Crew:
        return Crew.of(self._execution, folder.rank_log, self._worker)
