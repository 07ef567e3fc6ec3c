"""A search as a ranking, on standard output and in a file, and as plain data."""

import math
from typing import Any

from dptrain.checkpoint.atomic import atomic_write
from dptrain.invocation import program, word
from dptrain.own.origin import naming
from dptrain.report.number_formats import epoch_text
from dptrain.report.tables import print_table
from dptrain.tune.folder import Search, SearchFolder
from dptrain.tune.objective import Metric
from dptrain.tune.trial import Trial, ranked, twins

MOST_ROWS = 20
MOST_REASONS = 3
DIGEST_DIGITS = 8


def notes_on(search: Search) -> list[str]:
    """Return what somebody who uses the result of a search should know."""
    notes = []
    if search.metric.startswith("test_"):
        notes.append(
            f"trials are ranked by {search.metric}, so the best will look better on the test rows "
            "than it is; to choose by other rows, hold some out with --validation 0.1"
        )
    if search.metric.startswith("train_"):
        notes.append(f"trials are ranked by {search.metric}, which tells nothing of new data")
    if search.method == "tpe" and search.behind > 1:
        notes.append(
            f"tpe chooses each trial by those at least {search.behind} before it, as "
            f"{search.behind} run at a time; with --side-by-side 1 it would learn from all"
        )
    return notes


def print_search(
    search: Search, trials: list[Trial], folder: SearchFolder, *, finished: bool
) -> None:
    """Print the ranking, and what to do with the best trial."""
    rows, header = _table(search, trials)
    narrow = [name.replace(" ", "\n") for name in header]
    print_table(_title(search, trials), rows[:MOST_ROWS], narrow, spare=("digest", "time"))
    lines = []
    code = naming(str(search.experiment.get("model", "")))
    if len(rows) > MOST_ROWS:
        lines.append(f"and {len(rows) - MOST_ROWS} more in {folder.ranking}")
    lines += _remarks(search, trials)
    if best := _best(search, trials):
        run = folder.run(best.number)
        lines.append(f"best: trial {best.number}, {_setting(best.parameters)}")
        which = "" if best.epoch == best.epochs else " --checkpoint best"
        lines.append(f"  use it:         {program()} evaluate {word(run)}{which}{code}")
        lines.append(f"  train it again: {program()} train {word(f'{run}/experiment.toml')}{code}")
    lines.append(f"search: {folder.path}")
    if not finished:
        lines.append(f"continue with: {program()} tune --resume {word(folder.path)}{code}")
    print("\n".join(lines))  # noqa: T201 - the result


def write_ranking(search: Search, trials: list[Trial], folder: SearchFolder) -> None:
    """Write all trials, the best first, as a table in Markdown.

    Raises:
        RunFolderError: the file cannot be written.
    """
    rows, header = _table(search, trials)
    lines = [f"# {_title(search, trials)}", "", _markdown(header), "|---" * len(header) + "|"]
    lines += [_markdown(row) for row in rows]
    if remarks := _remarks(search, trials):
        lines += ["", *(f"- {remark}" for remark in remarks)]
    atomic_write(folder.ranking, ("\n".join(lines) + "\n").encode())


def as_data(
    search: Search, trials: list[Trial], folder: SearchFolder, *, finished: bool
) -> dict[str, Any]:
    """Return everything as plain data, the trials ranked; times are in seconds."""
    best = _best(search, trials)
    drawn = folder.picture.exists()
    return {
        "search": str(folder.path),
        "finished": finished,
        "method": search.method,
        "metric": search.metric,
        "reached": any(trial.status == "target" for trial in trials) if search.until else None,
        "best": None if best is None else _plain(best, folder),
        "trials": [_plain(each, folder) for each in ranked(trials, Metric(search.metric))],
        "same_weights": twins(trials),
        "notes": notes_on(search),
        "ranking": str(folder.ranking),
        "picture": str(folder.picture) if drawn else None,
    }


def _plain(trial: Trial, folder: SearchFolder) -> dict[str, Any]:
    run = folder.run(trial.number)
    return {
        "trial": trial.number,
        "parameters": trial.parameters,
        "status": trial.status,
        "value": trial.value,
        "epoch": trial.epoch,
        **trial.measures,
        "epochs": trial.epochs,
        "steps": trial.steps,
        "seconds": trial.seconds,
        "digest": trial.digest,
        "exit_code": trial.exit_code,
        "message": trial.message or None,
        "run": str(run) if run.exists() else None,
    }


def _best(search: Search, trials: list[Trial]) -> Trial | None:
    order = ranked(trials, Metric(search.metric))
    return order[0] if order and order[0].value is not None else None


def _title(search: Search, trials: list[Trial]) -> str:
    more = f" of {search.trials}" if len(trials) < search.trials else ""
    return f"{len(trials)}{more} trials of a {search.method} search, by {spelt(search.metric)}"


def _table(search: Search, trials: list[Trial]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the rows, the best trial first, and their header."""
    order = ranked(trials, Metric(search.metric))
    names = list(dict.fromkeys(name for trial in order for name in trial.parameters))
    kind = search.metric.partition("_")[2]
    others = [f"{split}_{kind}" for split in ("train", "validation", "test")]
    measures = [
        name
        for name in others
        if name != search.metric and any(name in trial.measures for trial in order)
    ]
    header = ["trial", *names, spelt(search.metric), *(m.partition("_")[0] for m in measures)]
    header += ["epoch", "time", "status", "digest"]
    rows = []
    for trial in order:
        row = [str(trial.number), *(value_text(trial.parameters.get(name)) for name in names)]
        row += [measure_text(trial.measures.get(name)) for name in (search.metric, *measures)]
        row += [_epochs(trial), duration(trial.seconds), trial.status]
        rows.append((*row, (trial.digest or "")[:DIGEST_DIGITS]))
    return rows, header


def _epochs(trial: Trial) -> str:
    """Return the epoch of the best value, and how many were trained where these are more."""
    if trial.epoch is None:
        return f"0 of {epoch_text(trial.epochs)}" if trial.epochs else ""
    return epoch_text(trial.epoch) + (
        f" of {epoch_text(trial.epochs)}" if trial.epochs > trial.epoch else ""
    )


def _remarks(search: Search, trials: list[Trial]) -> list[str]:
    remarks = []
    if search.until:
        winner = next((trial for trial in trials if trial.status == "target"), None)
        remarks.append(
            f"no trial reached {search.until}"
            if winner is None
            else f"trial {winner.number} reached {search.until} at epoch "
            f"{epoch_text(winner.epochs)}"
        )
    remarks += [
        f"trials {', '.join(map(str, group))} came to the same weights with different settings: "
        "what they differ in decides nothing here"
        for group in twins(trials)
    ]
    failed = [trial for trial in trials if trial.status == "failed"]
    remarks += [
        f"trial {trial.number} failed: {trial.message.splitlines()[0]}"
        for trial in failed[:MOST_REASONS]
    ]
    if len(failed) > MOST_REASONS:
        remarks.append(f"{len(failed) - MOST_REASONS} more failed; trials.jsonl has the reasons")
    return remarks


def _setting(parameters: dict[str, Any]) -> str:
    return " ".join(f"{name}={value_text(value)}" for name, value in parameters.items())


def _markdown(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def spelt(metric: str) -> str:
    """Return a metric's name in words."""
    return metric.replace("_", " ")


def value_text(value: object) -> str:
    """Return a parameter's value as it is shown."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def measure_text(value: float | None) -> str:
    """Return a measure as it is shown."""
    return "" if value is None or not math.isfinite(value) else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Return a time as it is shown."""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
