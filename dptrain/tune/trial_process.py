"""``python -m dptrain.tune.trial_process``: a process that carries out one trial after another.

It lives as long as its standard input is open. After every evaluation it waits to be told whether
to go on, so that a trial ends exactly there and not some steps later. One process for many trials,
because importing what training needs takes longer than many a trial.
"""

import os
import queue
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dptrain.coordinator.session import Session
from dptrain.coordinator.signals import StopSignal
from dptrain.errors import EXIT_ERROR, EXIT_SIGTERM, DptrainError
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.machine.signals import leave_to_parent
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.records import EpochRecord
from dptrain.own.origin import Named
from dptrain.runfolder import RunFolder
from dptrain.tune.messages import (
    Ended,
    FromLane,
    GoOn,
    Order,
    StopTrial,
    ToLane,
    TrialEvaluated,
    Warned,
    decode_to_lane,
    encode,
)

if TYPE_CHECKING:
    from dptrain.exchange.engine import StepsDone
    from dptrain.experiment.job import Job


class Hearing:
    """Listens to the search in a thread of its own, so that a stop is heard amid the steps.

    Attributes:
        stop: of the trial that was ordered last.
    """

    def __init__(self, descriptor: int) -> None:
        self.stop = StopSignal()
        self._descriptor = descriptor
        self._number = 0
        self._heard: queue.SimpleQueue[ToLane | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def order(self) -> Order | None:
        """Return the next order; None when the search has ended."""
        while True:
            heard = self._heard.get()
            if heard is None or isinstance(heard, Order):
                return heard

    def await_decision(self) -> None:
        """Return when the trial may go on, or has been told to stop."""
        while not self.stop():
            heard = self._heard.get()
            if heard is None:
                self._heard.put(None)  # for `order`
            elif isinstance(heard, GoOn) and heard.number == self._number:
                return

    def _listen(self) -> None:
        rest = b""
        # not through sys.stdin, whose lock a thread may not hold when the interpreter ends
        while data := os.read(self._descriptor, 1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(decode_to_lane(line))
        self.stop.exit_code = EXIT_SIGTERM
        self._heard.put(None)

    def _take(self, message: ToLane) -> None:
        if isinstance(message, Order):  # the trial before has ended, or there would be none
            self._number, self.stop = message.number, StopSignal()
        elif isinstance(message, StopTrial) and message.number == self._number:
            self.stop.exit_code = EXIT_SIGTERM
        self._heard.put(message)


class Teller:
    """Tells the search what happens in a trial; an observer of its session."""

    def __init__(self, number: int, descriptor: int, hearing: Hearing) -> None:
        self._number = number
        self._descriptor = descriptor
        self._hearing = hearing

    def begin(self, job: "Job", execution: Execution, folder: Path, first_step: int) -> None:  # noqa: ARG002
        """Tell the evaluations that a resumed trial has behind it: they are judged anew."""
        if first_step:
            for record in read_metrics(RunFolder.open(folder).metrics):
                if isinstance(record, EpochRecord) and record.step <= first_step:
                    self.epoch(record)

    def waiting(self, address: str, key: Path, missing: int) -> None:
        """Nobody starts workers by hand for a trial."""

    def step(self, done: "StepsDone") -> None:
        """Tell nothing."""

    def evaluating(self, split: str, done: int, rows: int) -> None:
        """Tell nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Tell the evaluation, and wait for the decision unless it has come already."""
        self.tell(TrialEvaluated(self._number, record))
        self._hearing.await_decision()

    def note(self, message: str) -> None:
        """Nobody looks at a single trial."""

    def warn(self, message: str) -> None:
        """Pass on a warning."""
        self.tell(Warned(self._number, message))

    def close(self) -> None:
        """Nothing is held."""

    def tell(self, message: FromLane) -> None:
        """Write a line; the search may be gone."""
        line = memoryview(encode(message) + b"\n")
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except BrokenPipeError:
            self._hearing.stop.exit_code = EXIT_SIGTERM


def carry_out(order: Order, hearing: Hearing, teller: Teller) -> Ended:
    """Carry out a trial, or the rest of one."""
    began = time.perf_counter()
    try:
        outcome = _session(order, teller).run(stop=hearing.stop)
    except DptrainError as error:
        code = error.exit_code or EXIT_ERROR
        return Ended(order.number, time.perf_counter() - began, exit_code=code, message=str(error))
    return Ended(order.number, time.perf_counter() - began, finished=outcome.finished)


def _session(order: Order, teller: Teller) -> Session:
    folder = Path(order.folder)
    execution = build(Execution, order.execution, "the search")
    code = Named(order.code) if order.code else None
    if not RunFolder(folder).last.is_file():
        if folder.exists():  # stopped before there was a checkpoint
            shutil.rmtree(folder)
        experiment = build(Experiment, order.experiment, "the search")
        return Session(experiment, execution, teller, out=folder, origin=code)
    from dptrain.coordinator.resuming import recorded

    resumed = RunFolder.resume(folder)
    try:
        settled: dict[str, Any] = recorded(resumed)[0]
        experiment = build(Experiment, settled, str(folder))
        return Session(experiment, execution, teller, resumed=resumed, origin=code)
    except BaseException:
        resumed.close()
        raise


def main() -> int:
    """Carry out trials until the search has no more of them."""
    leave_to_parent()  # the search, which tells its lanes
    sys.stdout.flush()
    answers = os.dup(1)
    os.dup2(2, 1)  # what anybody prints goes to the log, not among the answers
    hearing = Hearing(0)
    while (order := hearing.order()) is not None:
        teller = Teller(order.number, answers, hearing)
        teller.tell(carry_out(order, hearing, teller))
    return 0


if __name__ == "__main__":
    sys.exit(main())
