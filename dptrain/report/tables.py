"""Closing tables and listings, on standard output."""

from collections.abc import Sequence
from typing import Any

from dptrain.coordinator.outcome import Outcome
from dptrain.metrics.records import EndRecord
from dptrain.own.origin import naming

_WIDEST = 500  # characters


def print_table(title: str, rows: Sequence[tuple[str, ...]], header: Sequence[str] = ()) -> None:
    """Print rows in aligned columns; numbers and all are strings already."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.show_header = bool(header)
    for i in range(len(rows[0]) if rows else len(header)):
        table.add_column(header[i] if header else "", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:  # a file has room
        wide = console.options.update(max_width=_WIDEST)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)


def print_outcome(outcome: Outcome, wall_seconds: float) -> None:
    """Print what a run came to."""
    rows = [("steps", f"{outcome.steps:,} of {outcome.job.total_steps:,}")]
    rows += score_rows(outcome.summary())
    if outcome.end:
        rows.append(("ended", end_line(outcome.end)))
    if outcome.seconds:
        rows.append(
            (
                "speed",
                f"{outcome.steps_per_second:,.0f} steps/s, "
                f"{outcome.samples_per_second:,.0f} rows/s",
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
    print_table("finished" if outcome.finished else "stopped", rows)
    for note in outcome.notes:
        print(note)  # noqa: T201
    if not outcome.finished:
        code = naming(outcome.job.experiment.model)
        print(f"continue with: dptrain train --resume {outcome.folder.path}{code}")  # noqa: T201


def end_line(end: EndRecord) -> str:
    """Return how training with early stopping ended."""
    ended = f"stopped early at epoch {end.epoch:g}" if end.stopped_early else "after all epochs"
    if end.best_step == end.step:
        return f"{ended}, the best"
    return f"{ended}, best epoch {end.best_epoch:g} restored"


def score_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return loss, and accuracy or R², of each split that was evaluated."""
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
        rows.append((split, f"{right}loss {loss:.4f}"))
    if gap := summary.get("gap"):
        right = "" if gap["accuracy"] is None else f"{100 * gap['accuracy']:.2f} points, "
        rows.append(("gap", f"{right}loss {gap['loss']:+.4f}, from train to {gap['unseen']}"))
    return rows


def step_split(outcome: Outcome) -> str:
    """Return what an average step consisted of."""
    split = outcome.step_split._asdict()
    whole = sum(split.values()) or 1.0
    return ", ".join(
        f"{name} {1e6 * seconds:,.0f} µs ({seconds / whole:.0%})" for name, seconds in split.items()
    )
