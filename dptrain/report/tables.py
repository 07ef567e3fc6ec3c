"""Closing tables and listings, on standard output."""

import signal
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dptrain.coordinator.outcome import Outcome
from dptrain.coordinator.resuming import command_on
from dptrain.errors import printable
from dptrain.metrics.records import EndRecord
from dptrain.report.hints import hint
from dptrain.report.number_formats import epoch_text, loss_text, rate_text, seconds_text

_WIDEST = 500  # characters
_SHORT = 12  # of a column that is not folded while others can be
_BETWEEN = 3  # columns of the terminal between those of a table


def print_table(
    title: str,
    rows: Sequence[tuple[str, ...]],
    header: Sequence[str] = (),
    colours: Mapping[str, str] = MappingProxyType({}),
    spare: Sequence[str] = (),
) -> None:
    """Print rows in aligned columns; numbers and all are strings already.

    Args:
        title: above the table, in one line unless it is wider than the terminal.
        rows: of cells.
        header: of the columns, if they have one.
        colours: of cells in the last column, by their text, where the terminal has colours.
        spare: of the header, which columns are left out, first to last, where the terminal is too
            narrow.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [tuple(map(printable, row)) for row in rows]  # names come from files
    console = Console(markup=False, highlight=False)
    if console.is_terminal:
        for name in spare:
            if _needed(_widths(rows, header)) > console.width:
                rows, header = _without(header.index(name), rows, header)
    widths = _widths(rows, header)
    fits = _needed([min(width, _SHORT) for width in widths]) <= console.width
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.show_header = bool(header)
    for i, width in enumerate(widths):
        whole = fits and width <= _SHORT  # the long ones are folded first
        table.add_column(header[i] if header else "", overflow="fold", no_wrap=whole)
    for *cells, last in rows:
        table.add_row(*cells, Text(last, colours.get(last, "")))
    if not console.is_terminal:  # a file has room
        wide = console.options.update(max_width=_WIDEST)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    if title:  # not as the table's, which folds it to the width of the table
        console.print(Text(title, "italic"))
    console.print(table)


def _widths(rows: Sequence[tuple[str, ...]], header: Sequence[str]) -> list[int]:
    """Return how wide the columns of a table are."""
    from rich.cells import cell_len

    lines = [tuple(header), *rows] if header else rows
    columns = zip(*lines, strict=True)
    return [
        max(cell_len(part) for cell in column for part in cell.split("\n")) for column in columns
    ]


def _needed(widths: Sequence[int]) -> int:
    return sum(widths) + _BETWEEN * len(widths)


def _without(
    left_out: int, rows: Sequence[tuple[str, ...]], header: Sequence[str]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return a table without one of its columns."""
    whole = [tuple(header), *rows]
    first, *others = [(*line[:left_out], *line[left_out + 1 :]) for line in whole]
    return others, list(first)


def print_line(text: str, style: str = "") -> None:
    """Print a text, in a style and broken between words where it goes to a terminal."""
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    console.print(text, style=style, soft_wrap=not console.is_terminal)


def print_outcome(outcome: Outcome, wall_seconds: float, lies_at: str = "") -> None:
    """Print what a run came to; ``lies_at`` is a file in place of a script's arrays."""
    rows = [("steps", f"{outcome.steps:,} of {outcome.job.total_steps:,}")]
    rows += score_rows(outcome.summary())
    if outcome.end:
        rows.append(("ended", end_line(outcome.end)))
    if outcome.seconds:
        rows.append(
            (
                "speed",
                f"{rate_text(outcome.steps_per_second)} steps/s, "
                f"{rate_text(outcome.samples_per_second)} rows/s",
            )
        )
        rows.append(("a step", step_split(outcome)))
    rows.append(
        (
            "time",
            f"{wall_seconds:.1f} s, of which {outcome.seconds:.1f} s training and "
            f"{outcome.startup_seconds:.1f} s start",
        )
    )
    rows.append(("digest", outcome.digest[:16]))
    rows.append(("run", str(outcome.folder.path)))
    print_table("finished" if outcome.finished else f"stopped{_by(outcome.exit_code)}", rows)
    notes = [*outcome.notes, *filter(None, [hint(outcome)])]
    for note in notes:
        print_line(f"note: {note}")
    if not outcome.finished:
        way = command_on(outcome.job.experiment, outcome.folder.path, lies_at)
        print(f"continue with: {way}")  # noqa: T201


def _by(exit_code: int) -> str:
    """Return which signal stopped a run, unless it was Ctrl-C."""
    number = exit_code - 128
    return f" by {signal.Signals(number).name}" if number > 0 and number != signal.SIGINT else ""


def end_line(end: EndRecord) -> str:
    """Return how training with early stopping ended."""
    ended = (
        f"stopped early at epoch {epoch_text(end.epoch)}"
        if end.stopped_early
        else "after all epochs"
    )
    if end.best_step == end.step:
        return f"{ended}, the best"
    return f"{ended}, best epoch {epoch_text(end.best_epoch)} restored"


def score_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return loss, and accuracy or R², of each split that was evaluated, and after which step."""
    evaluated = summary["evaluated_step"]
    earlier = not summary["finished"] and evaluated not in (None, summary["steps"])
    then = f", after step {evaluated:,}" if earlier else ""
    rows = []
    for split, loss in (
        ("train", summary["loss"]),
        ("validation", summary["validation_loss"]),
        ("test", summary["test_loss"]),
    ):
        if loss is None:
            continue
        accuracy = summary[f"{split}_accuracy"]
        r2 = summary[f"{split}_r2"]
        right = "" if accuracy is None else f"{accuracy:.2%} correct, "
        right += "" if r2 is None else f"R² {r2:.4f}, "
        rows.append((split, f"{right}loss {loss_text(loss)}{then}"))
    if gap := summary.get("gap"):
        right = "" if gap["accuracy"] is None else f"{100 * gap['accuracy']:.2f} points, "
        rows.append(
            ("gap", f"{right}loss {loss_text(gap['loss'], '+')}, from train to {gap['unseen']}")
        )
    return rows


def step_split(outcome: Outcome) -> str:
    """Return what an average step consisted of."""
    split = outcome.step_split._asdict()
    whole = sum(split.values()) or 1.0
    return ", ".join(
        f"{name} {seconds_text(seconds)} ({seconds / whole:.0%})" for name, seconds in split.items()
    )
