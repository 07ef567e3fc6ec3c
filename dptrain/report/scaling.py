"""A study of scaling as tables, as a picture and as plain data."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dptrain.checkpoint.atomic import atomic_write
from dptrain.exchange.engine import StepSplit
from dptrain.report.tables import print_table
from dptrain.scaling.model import CostModel
from dptrain.scaling.study import CaseResult, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADER = ("workers", "exchange", "steps/s", "speed-up", "efficiency", "a step", "predicted")
PARTS = ("workers", *(f"{part} of it" for part in StepSplit._fields))
COLOURS = {"compute": "#0072b2", "update": "#009e73", "wait": "#d55e00", "exchange": "#999999"}


def print_study(study: Study) -> None:
    """Print a table for each kind of scaling, the cost model, and the recommendation."""
    for kind, model in study.model.items():
        own = [each for each in study.results if each.case.kind == kind]
        print_table(_title(own[0]), [_row(each) for each in own], HEADER)
        parts = [(str(e.case.workers), *(_time(part) for part in e.split)) for e in own]
        print_table("", parts, PARTS)
        print(_costs(model) + "\n")  # noqa: T201 - the result
    verdict = "the same to the last bit" if study.same else "DIFFERENT: this must not be"
    print(f"weights: {verdict}")  # noqa: T201
    print(f"recommended for this job on this machine: --workers {study.recommended}")  # noqa: T201


def _title(first: CaseResult) -> str:
    job = first.case.job
    split = f"{job.batch_size} rows in {job.shards} shard{'s' * (job.shards > 1)}"
    if first.case.kind == "strong":
        return f"strong scaling: minibatches of {split}, split over the workers"
    return f"weak scaling: {split} for the first count, in proportion for the others"


def _costs(model: CostModel) -> str:
    costs = [
        f"{_time(model.per_shard)} a shard",
        f"{model.per_byte * 1e12:.0f} µs a megabyte updated",
        f"{_time(model.per_meeting)} a meeting",
    ]
    if model.per_switch:
        costs.append(f"{_time(model.per_switch)} a turn on a shared core")
    return "cost model: " + ", ".join(costs)


def _row(result: CaseResult) -> tuple[str, ...]:
    case = result.case
    error = result.predicted / result.seconds - 1
    return (
        str(case.workers),
        str(case.execution.exchange),
        f"{1 / result.seconds:,.0f}" if result.seconds < 0.1 else f"{1 / result.seconds:.2f}",
        f"{result.speed_up:.2f}",
        f"{result.efficiency:.0%}",
        _time(result.seconds),
        f"{_time(result.predicted)} ({error:+.0%})",
    )


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms" if seconds >= 0.01 else f"{1e6 * seconds:.0f} µs"


def as_data(study: Study, warnings: Sequence[str]) -> dict[str, Any]:
    """Return everything as plain data; times are in seconds."""
    return {
        "scaling": [
            {
                "kind": each.case.kind,
                "workers": each.case.workers,
                "exchange": each.case.execution.exchange,
                "batch_size": each.case.job.batch_size,
                "shards": each.case.job.shards,
                "step_seconds": each.seconds,
                "slowest_round_seconds": each.slowest,
                "steps_per_second": 1 / each.seconds,
                "speed_up": each.speed_up,
                "efficiency": each.efficiency,
                "split": each.split._asdict(),
                "predicted_step_seconds": each.predicted,
                "digests": sorted(each.digests),
            }
            for each in study.results
        ],
        "cost_model": {kind: model._asdict() for kind, model in study.model.items()},
        "recommended_workers": study.recommended,
        "digests_equal": study.same,
        "warnings": list(warnings),
    }


def draw_study(study: Study, path: Path) -> None:
    """Draw speed-up, measured and predicted, and the split of a step, for each kind of scaling.

    Raises:
        RunFolderError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # here, because its import takes half a second

    kinds = list(study.model)
    figure = Figure(figsize=(9, 3.6 * len(kinds)), layout="constrained")
    panels = figure.subplots(len(kinds), 2, squeeze=False)
    for row, kind in zip(panels, kinds, strict=True):
        own = [each for each in study.results if each.case.kind == kind]
        _draw_speed_up(row[0], own)
        _draw_split(row[1], own)
        row[0].set_title(f"{kind} scaling")
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix[1:], dpi=120)
    atomic_write(path, image.getvalue())


def _draw_speed_up(panel: "Axes", own: Sequence[CaseResult]) -> None:
    workers = [each.case.workers for each in own]
    predicted = [each.speed_up * each.seconds / each.predicted for each in own]
    panel.plot(workers, [w / workers[0] for w in workers], ":", color="#999999", label="ideal")
    panel.plot(workers, predicted, "--", color="#e69f00", marker="x", label="predicted")
    panel.plot(workers, [e.speed_up for e in own], color="#0072b2", marker="o", label="measured")
    panel.set(xlabel="workers", ylabel="speed-up", xticks=workers)
    panel.set_ylim(bottom=0)
    panel.legend()


def _draw_split(panel: "Axes", own: Sequence[CaseResult]) -> None:
    places = range(len(own))
    low = [0.0] * len(own)
    unit, scale = ("ms", 1e3) if max(each.seconds for each in own) >= 1e-3 else ("µs", 1e6)
    for name, colour in COLOURS.items():
        parts = [scale * getattr(each.split, name) for each in own]
        panel.bar(places, parts, bottom=low, color=colour, label=name, width=0.6)
        low = [a + b for a, b in zip(low, parts, strict=True)]
    panel.set_xticks(places, [str(each.case.workers) for each in own])
    panel.set(xlabel="workers", ylabel=f"{unit} a step", title="a step")
    panel.set_ylim(top=1.25 * max(low))
    panel.legend(ncols=4, fontsize="small", loc="upper center", handlelength=1)
