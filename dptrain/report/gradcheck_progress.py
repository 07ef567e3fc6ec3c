"""What a gradient check shows while it goes on: how far it is, and at once what has failed."""

import shutil
import sys
import time
from typing import Self, TextIO

from dptrain.gradcheck.checking import Watcher
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.report import Failure
from dptrain.gradcheck.verdict import Verdict
from dptrain.report.gradcheck import does_not_hold
from dptrain.report.streams import redraws


class Progress(Watcher):
    """Shows on a terminal what is being compared, and prints every failure as it comes."""

    def __init__(self, *, quiet: bool, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._shown = not quiet and redraws(self._stream)
        self._began = time.monotonic()
        self._stage = ""
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def stage(self, number: int, count: int) -> None:
        """Show which part of the check begins, counted from 1."""
        self._stage = f"check {number} of {count}"
        self._show("")

    def tell(self, comparison: Comparison) -> None:
        """Show a comparison that is done, and print at once the first of an edge that fails."""
        self._show(f"{comparison.name}: {comparison.where}")
        if comparison.verdict is Verdict.FAIL and comparison.edge not in self._told:
            self._told.add(comparison.edge)
            self._print(f"FAIL: {does_not_hold(comparison)}")

    def failed(self, failure: Failure) -> None:
        """Print why what was printed last does not hold: the likeliest reason."""
        for each in failure.diagnoses[:1]:
            self._print(f"  likely: {each.sentence}")

    def _print(self, line: str) -> None:
        if not self._quiet:
            self._write("")
            print(line, file=self._stream, flush=True)

    def _show(self, what: str) -> None:
        seconds = int(time.monotonic() - self._began)
        line = f"{self._stage}, {seconds // 60}:{seconds % 60:02d}  {what}".rstrip()
        self._write(fitted(line, shutil.get_terminal_size().columns - 1))

    def _write(self, line: str) -> None:
        """Replace the line that is shown."""
        if self._shown:
            print(f"\r\033[K{line}", end="", file=self._stream, flush=True)


def fitted(line: str, columns: int) -> str:
    """Return a line that takes up so many columns at most, with its end cut off."""
    from rich.cells import set_cell_size  # here, because only a terminal has columns

    return set_cell_size(line, columns).rstrip()
