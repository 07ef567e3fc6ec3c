"""What somebody at the terminal, or a log file, sees of a search while it goes by."""

from typing import TYPE_CHECKING, Any, TextIO

from dptrain.metrics.records import EpochRecord
from dptrain.report.number_formats import epoch_text
from dptrain.report.streams import redraws
from dptrain.report.tune import duration, measure_text, spelt, value_text
from dptrain.tune.folder import Search, SearchFolder
from dptrain.tune.objective import Metric
from dptrain.tune.trial import Trial, ranked

if TYPE_CHECKING:
    from rich.progress import Progress


def progress_for(stream: TextIO, search: Search, folder: SearchFolder) -> "SearchProgress":
    """Return a bar above which lines appear for a terminal, lines for anything else."""
    kind = TerminalProgress if redraws(stream) else SearchProgress
    return kind(stream, search, folder)


class SearchProgress:
    """A line for every trial that has ended."""

    def __init__(self, stream: TextIO, search: Search, folder: SearchFolder) -> None:
        self._stream = stream
        self._search = search
        self._metric = Metric(search.metric)
        self._trials = [trial for trial in folder.trials() if trial.final]
        together = f", {search.side_by_side} at a time" if search.side_by_side > 1 else ""
        done = f", {len(self._trials)} of them done" if self._trials else ""
        self.note(f"{search.method} search, {search.trials} trials{together}{done}: {folder.path}")

    def note(self, text: str) -> None:
        """Print something about the search."""
        self._print(f"dptrain: {text}")

    def begun(self, number: int, parameters: dict[str, Any]) -> None:
        """Print nothing: a log file wants results."""

    def evaluated(self, number: int, record: EpochRecord) -> None:
        """Print nothing."""

    def ended(self, trial: Trial) -> None:
        """Print what a trial came to."""
        self._trials.append(trial)
        self._print(self._line(trial))

    def warned(self, number: int, text: str) -> None:
        """Print a warning."""
        self._print(f"dptrain: warning: trial {number}: {text}")

    def close(self) -> None:
        """Nothing is held."""

    def _line(self, trial: Trial) -> str:
        settings = " ".join(f"{name}={value_text(v)}" for name, v in trial.parameters.items())
        parts = [f"trial {trial.number} of {self._search.trials}", settings]
        if trial.status == "failed":
            parts.append(f"failed: {trial.message.splitlines()[0]}")
            return "  ".join(parts)
        parts.append(f"{spelt(self._metric.name)} {measure_text(trial.value)}")
        parts.append(
            f"epoch {epoch_text(trial.epochs)}" + f" {trial.status}" * (trial.status != "done")
        )
        parts.append(duration(trial.seconds))
        best = self._best()
        if best is not None:
            parts.append("best so far" if best is trial else f"best: trial {best.number}")
        return "  ".join(parts)

    def _best(self) -> Trial | None:
        order = ranked(self._trials, self._metric)
        return order[0] if order and order[0].value is not None else None

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class TerminalProgress(SearchProgress):
    """The same lines, and under them a bar with the best value and the trials that run."""

    def __init__(self, stream: TextIO, search: Search, folder: SearchFolder) -> None:
        self._bar: Progress | None = None
        self._running: dict[int, float] = {}
        super().__init__(stream, search, folder)
        from rich import progress  # only a terminal needs it
        from rich.console import Console

        self._bar = progress.Progress(
            progress.BarColumn(bar_width=24),
            progress.TextColumn("{task.completed:.0f}/{task.total:.0f} trials"),
            progress.TextColumn("{task.fields[best]}"),
            progress.TextColumn("{task.fields[running]}"),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._bar.add_task("", total=search.trials, best="", running="")
        self._bar.start()
        self._show()

    def begun(self, number: int, parameters: dict[str, Any]) -> None:  # noqa: ARG002
        """Show that a trial runs."""
        self._running[number] = 0.0
        self._show()

    def evaluated(self, number: int, record: EpochRecord) -> None:
        """Show how far a trial is."""
        self._running[number] = record.epoch
        self._show()

    def ended(self, trial: Trial) -> None:
        """Print what a trial came to."""
        self._running.pop(trial.number, None)
        super().ended(trial)
        self._show()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self) -> None:
        if self._bar is None:
            return
        best = self._best()
        self._bar.update(
            self._task,
            completed=len(self._trials),
            best="" if best is None else f"best {measure_text(best.value)}",
            running="  ".join(
                f"trial {n} epoch {epoch_text(at)}" for n, at in self._running.items()
            ),
        )

    def _print(self, text: str) -> None:
        if self._bar is None:
            super()._print(text)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
