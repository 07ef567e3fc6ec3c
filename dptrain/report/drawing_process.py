"""A process that is ready to draw by the time a run ends.

Importing matplotlib takes half a second, as long as many a small run. Where a core is free, another
process does that while the last steps are trained.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import psutil

from dptrain.coordinator.observer import Observer
from dptrain.errors import RunFolderError
from dptrain.experiment.execution import Execution
from dptrain.metrics.records import EpochRecord

if TYPE_CHECKING:  # an observer is made before the mathematics is imported
    from dptrain.exchange.engine import StepsDone
    from dptrain.experiment.job import Job

# A run that still takes this long leaves the artist time enough; a longer one need not yet feed it.
READY_SECONDS = 4.0


class DrawingProcess:
    """Passes on what an observer is told, and has the curves drawn at the end.

    Attributes:
        observer: who wants to see the run.
    """

    def __init__(self, observer: Observer, *, draws: bool = True) -> None:
        """Bind; without ``draws`` only pass on what the observer is told."""
        self.observer = observer
        self._draws = draws
        self._process: subprocess.Popen[str] | None = None
        self._run: Path | None = None
        self._free = False
        self._began = 0.0
        self._first = self._total = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send the process home; it has nothing to clean up."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def begin(self, job: "Job", execution: Execution, folder: Path, first_step: int) -> None:
        """Everything is decided, and nothing computed yet."""
        workers = execution.world_size
        self._free = self._draws and len(psutil.Process().cpu_affinity() or ()) > workers
        self._began, self._first, self._total = time.monotonic(), first_step, job.total_steps
        self.observer.begin(job, execution, folder, first_step)

    def waiting(self, address: str, key: Path, missing: int) -> None:
        """The run waits for workers that somebody starts by hand."""
        self.observer.waiting(address, key, missing)

    def step(self, done: "StepsDone") -> None:
        """Engage the artist when the end is near."""
        if self._free and self._process is None:
            seconds = (time.monotonic() - self._began) / (done.end - self._first)
            if seconds * (self._total - done.end) < READY_SECONDS:
                self._process = _start()
        self.observer.step(done)

    def evaluating(self, split: str, done: int, rows: int) -> None:
        """An evaluation goes on."""
        self.observer.evaluating(split, done, rows)

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done and evaluated."""
        self.observer.epoch(record)

    def note(self, message: str) -> None:
        """Something is worth knowing."""
        self.observer.note(message)

    def warn(self, message: str) -> None:
        """Something is wrong that does not stop the run."""
        self.observer.warn(message)

    def close(self) -> None:
        """The run is over, however it ended."""
        self.observer.close()

    def ask_for(self, run: Path) -> None:
        """Ask for the curves of a finished run; whoever has been engaged begins to draw."""
        if not self._draws:
            return
        self._run = run
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # `wait` finds out why
                self._process.stdin.write(f"{run}\n")
                self._process.stdin.flush()

    def wait(self) -> None:
        """Return when the curves that were asked for, if any, are drawn.

        Raises:
            RunFolderError: there is nothing to draw, or the picture cannot be written.
        """
        if self._run is None:
            return
        if self._process is None:
            draw_run(self._run)
            return
        said, _ = self._process.communicate()
        if self._process.returncode:
            raise RunFolderError(said.strip() or f"{self._run}: the curves could not be drawn")


def draw_run(run: Path) -> None:
    """Draw the curves of a run into its folder; errors as in `draw_curves`."""
    from dptrain.metrics.lines import read_metrics
    from dptrain.report.curves import draw_curves
    from dptrain.runfolder import RunFolder

    folder = RunFolder.open(run)
    draw_curves([(folder.path.name, read_metrics(folder.metrics))], folder.curves)


def _start() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "dptrain.report.drawing_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding=sys.getfilesystemencoding(),
        errors="surrogateescape",
        start_new_session=True,  # Ctrl-C is for the run
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def main() -> int:
    """Load what drawing needs, then wait for the name of a run folder."""
    import matplotlib.figure

    from dptrain.report import curves

    assert matplotlib.figure
    assert curves
    line = sys.stdin.readline()
    if not line:
        return 0  # the run came to no good end
    try:
        draw_run(Path(line.rstrip("\n")))
    except RunFolderError as error:
        with contextlib.suppress(BrokenPipeError):
            print(error, flush=True)  # noqa: T201 - the answer
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
