"""What somebody at the terminal, or a log file, sees of a run while it goes by.

Everything here goes to standard error: standard output is for results.
"""

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from dptrain.coordinator.observer import Observer
from dptrain.errors import printable
from dptrain.experiment.execution import Execution
from dptrain.invocation import program, word
from dptrain.machine.cores import crowding
from dptrain.metrics.records import EpochRecord
from dptrain.report.number_formats import epoch_text, loss_text, rate_text
from dptrain.report.streams import lenient, redraws

if TYPE_CHECKING:  # an observer is made before the mathematics is imported
    from dptrain.exchange.engine import StepsDone
    from dptrain.experiment.job import Job

REFRESH_SECONDS = 0.1
# after which an evaluation is worth a word: in a bar, and again and again in lines of their own
LONG_SECONDS = 2.0
LINE_SECONDS = 30.0
_BESIDE = 36  # columns for the step, the time left, and some of the bar itself


def observer_for(stream: TextIO | None) -> Observer:
    """Return a progress bar for a terminal, a line per epoch for anything else, even nothing."""
    stream = lenient(stream)
    return TerminalObserver(stream) if redraws(stream) else LineObserver(stream)


class SilentObserver:
    """Shows nothing, but warns."""

    def begin(self, job: "Job", execution: Execution, folder: Path, first_step: int) -> None:
        """Show nothing."""

    def waiting(self, address: str, key: Path, missing: int) -> None:
        """Show nothing."""

    def step(self, done: "StepsDone") -> None:
        """Show nothing."""

    def evaluating(self, split: str, done: int, rows: int) -> None:
        """Show nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Show nothing."""

    def note(self, message: str) -> None:
        """Show nothing."""

    def warn(self, message: str) -> None:
        """Raise a Python warning, which the caller can filter."""
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def close(self) -> None:
        """Nothing is held."""


class LineObserver:
    """A banner, then a line per epoch, and some within long ones."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._code = ""
        self._evaluates_since: float | None = None
        self._course: Pace | None = None
        self._printed = time.monotonic()
        self._lengths = ("", "")  # of the run, in epochs and in steps

    def begin(self, job: "Job", execution: Execution, folder: Path, first_step: int) -> None:
        """Print the banner."""
        from dptrain.report.banner import banner

        self._code = job.experiment.model if job.origin is not None else ""
        epochs = job.experiment.epochs or job.total_steps // job.steps_per_epoch
        self._lengths = (str(epochs), str(job.total_steps))
        self._print(banner(job, execution, folder, first_step))
        if words := crowding(execution.world_size):
            self._print(f"dptrain: {words}")
        self._course = Pace(job, first_step)

    def waiting(self, address: str, key: Path, missing: int) -> None:
        """Print how to start the workers that are waited for."""
        self._print(invitation(address, key, missing, self._code))

    def step(self, done: "StepsDone") -> None:
        """Print where a long epoch stands, now and then."""
        if self._course is not None and time.monotonic() - self._printed > LINE_SECONDS:
            self._print(self._course.line(done.end, done.loss))

    def evaluating(self, split: str, done: int, rows: int) -> None:
        """Print how far a long evaluation has come, now and then."""
        now = time.monotonic()
        if self._evaluates_since is None:
            self._evaluates_since = now
        if now - self._evaluates_since > LINE_SECONDS:
            self._evaluates_since = None
            self._print(evaluation_line(split, done, rows))

    def epoch(self, record: EpochRecord) -> None:
        """Print what the epoch came to."""
        self._evaluates_since = None
        self._print(epoch_line(record, *self._lengths))

    def note(self, message: str) -> None:
        """Print it."""
        self._print(message)

    def warn(self, message: str) -> None:
        """Print a warning."""
        self._print(f"dptrain: warning: {message}")

    def close(self) -> None:
        """Nothing is held."""

    def _print(self, text: str) -> None:
        self._printed = time.monotonic()
        text = printable(text)
        print(text, file=self._stream, flush=True)


class TerminalObserver(LineObserver):
    """A banner, one progress bar with loss, accuracy, rate and time left, a line per epoch."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._bar: Bar | None = None
        self._accuracy = ""
        self._shown = 0.0

    def begin(self, job: "Job", execution: Execution, folder: Path, first_step: int) -> None:
        """Print the banner and show the bar."""
        super().begin(job, execution, folder, first_step)
        self._bar = Bar(self._stream, job, first_step)

    def step(self, done: "StepsDone") -> None:
        """Move the bar, at most ten times a second."""
        now = time.monotonic()
        if self._bar is not None and now - self._shown > REFRESH_SECONDS:
            self._shown = now
            self._bar.move(done.end, f"loss {loss_text(done.loss)}", self._accuracy)

    def evaluating(self, split: str, done: int, rows: int) -> None:
        """Show in the bar how far a long evaluation has come."""
        now = time.monotonic()
        if self._evaluates_since is None:
            self._evaluates_since = now
        long = now - self._evaluates_since > LONG_SECONDS
        if self._bar is not None and long and now - self._shown > REFRESH_SECONDS:
            self._shown = now
            self._bar.tell(evaluation_line(split, done, rows))

    def epoch(self, record: EpochRecord) -> None:
        """Print what the epoch came to above the bar, and show its accuracy in it."""
        if record.test_accuracy is not None:
            self._accuracy = f"test {record.test_accuracy:.2%}"
        if self._bar is not None:
            self._bar.reach(record.step)
        super().epoch(record)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.progress.stop()
            self._bar = None

    def _print(self, text: str) -> None:
        text = printable(text)
        if self._bar is None:
            super()._print(text)
        else:
            console = self._bar.progress.console
            console.print(text, markup=False, highlight=False, soft_wrap=True)


class Pace:
    """How fast a run goes, and for how long it will."""

    def __init__(self, job: "Job", first_step: int) -> None:
        self._batch, self._total = job.batch_size, job.total_steps
        self._first, self._began = first_step, time.monotonic()

    def line(self, step: int, loss: float) -> str:
        """Return where the run stands after ``step`` steps, evaluations counted, on one line."""
        pace = (time.monotonic() - self._began) / max(1, step - self._first)
        minutes, seconds = divmod(round(pace * (self._total - step)), 60)
        hours, minutes = divmod(minutes, 60)
        return (
            f"step {step:,} of {self._total:,}  loss {loss_text(loss)}  "
            f"{rate_text(self._batch / max(pace, 1e-9))} rows/s  "
            f"{hours}:{minutes:02}:{seconds:02} left"
        )


class Bar:
    """The progress bar of a run.

    Attributes:
        progress: the library's object.
    """

    def __init__(self, stream: TextIO, job: "Job", first_step: int) -> None:
        # only a terminal needs these, and they take 70 ms to import
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._batch = job.batch_size
        self._first = first_step
        self._started = time.monotonic()
        self.progress = Progress(
            BarColumn(bar_width=24),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self.progress.add_task(
            "training", total=job.total_steps, completed=first_step, numbers=""
        )
        self.progress.start()

    def move(self, step: int, *numbers: str) -> None:
        """Show that ``step`` steps are done, and of the numbers those that there is room for."""
        rate = (step - self._first) * self._batch / max(1e-9, time.monotonic() - self._started)
        room = self.progress.console.width - _BESIDE
        found = ""
        for number in filter(None, [*numbers, f"{rate:,.0f} rows/s"]):
            if found and len(found) + len(number) > room:
                break
            found += f"  {number}" if found else number
        self.progress.update(self._task, completed=step, numbers=found)

    def reach(self, step: int) -> None:
        """Show that ``step`` steps are done, with the numbers as they are."""
        self.progress.update(self._task, completed=step)

    def tell(self, text: str) -> None:
        """Show a text in place of the numbers."""
        self.progress.update(self._task, numbers=text)


def evaluation_line(split: str, done: int, rows: int) -> str:
    """Return how far the evaluation of a split has come, on one line."""
    return f"evaluating {split}: {done:,} of {rows:,} rows"


def epoch_line(record: EpochRecord, epochs: str = "", steps: str = "") -> str:
    """Return what an epoch came to, on one line, as wide as that of so many epochs and steps."""
    parts = [
        f"epoch {epoch_text(record.epoch):>{len(epochs)}}",
        f"step {record.step:>{len(steps)}}",
    ]
    for split, loss, accuracy, r2 in (
        ("train", record.train_loss, record.train_accuracy, record.train_r2),
        ("validation", record.validation_loss, record.validation_accuracy, record.validation_r2),
        ("test", record.test_loss, record.test_accuracy, record.test_r2),
    ):
        if loss is not None:
            right = f" ({accuracy:.2%})" if accuracy is not None else ""
            right += f" (R² {r2:.4f})" if r2 is not None else ""
            parts.append(f"{split} {loss_text(loss)}{right}")
    if record.samples_per_second:
        parts.append(f"{rate_text(record.samples_per_second)} rows/s")
    return "  ".join(parts)


def invitation(address: str, key: Path, missing: int, code: str = "") -> str:
    """Return how to start the workers that a run waits for, and may import ``code``."""
    return (
        f"waiting for {missing} worker{'s' if missing > 1 else ''}; start each with\n"
        f"  {program()} worker --connect {address} --key {word(key.resolve())}"
        + f" --model {word(code)}"
        * bool(code)
    )
