"""What a gradient check prints: a line for every kind of comparison, and what has failed."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from dptrain.gradcheck.comparison import LOSS, Comparison, Entry, TensorResult, worst_line
from dptrain.gradcheck.report import FOLLOWS, Failure, Report
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.report.tables import print_line, print_table


class Power(NamedTuple):
    """What all comparisons of one kind could have seen in one tensor.

    Attributes:
        name: of the comparison.
        tensor: its name.
        compared: elements, over all comparisons.
        blind: of them, where even an error as large as the value would have passed.
        detectable: smallest relative error that would have been seen: in the median element, and in
            the best.
    """

    name: str
    tensor: str
    compared: int
    blind: int
    detectable: tuple[float, float]


def powers(report: Report) -> list[Power]:
    """Return the power certificate: for each kind of comparison of gradients and each tensor."""
    groups: dict[tuple[str, str], list[TensorResult]] = defaultdict(list)
    for comparison in report.comparisons:
        if comparison.edge not in ("analytic", "distributed", "numerical"):
            continue
        for tensor in comparison.tensors:
            if tensor.tensor != LOSS.name:
                groups[f"{comparison.name}, {comparison.dtype}", tensor.tensor].append(tensor)
    found = []
    for (name, which), results in groups.items():
        medians = [r.detectable[0] for r in results if not math.isnan(r.detectable[0])]
        best = [r.detectable[1] for r in results if not math.isnan(r.detectable[1])]
        found.append(
            Power(
                name,
                which,
                sum(r.compared for r in results),
                sum(r.blind for r in results),
                (max(medians, default=math.nan), min(best, default=math.nan)),
            )
        )
    return found


def print_report(report: Report, *, verbose: bool = False) -> None:
    """Print the verdict, what is wrong, and what was compared, what failed before all else.

    With ``verbose`` also the numbers of what follows from another failure, and what every kind of
    comparison could have seen in every tensor.
    """
    verdict, colour = report.verdict.value.upper(), COLOURS[report.verdict.value]
    told = f"{verdict} in {report.seconds:.1f} s"
    print_line(f"{verdict}: {report.subject}\n", colour)
    for failure in report.failures:
        first, *lines = [*failure_lines(failure), f"  again: {_again(report, failure)}"]
        if list(failure.diagnoses) == [FOLLOWS] and not verbose:  # nothing to look into by itself
            lines = [f"  {FOLLOWS.sentence}"]
        print_line(first, COLOURS["fail"])
        print("\n".join(lines) + "\n")  # noqa: T201
    print_table("", [_marked(row) for row in comparison_rows(report)], _HEADER, COLOURS)
    if verbose:
        header = ("compared", "tensor", "elements", "blind", "detectable", "at best")
        print_table(f"power: {_POWER}", power_rows(report), header)
    elif (power := power_line(report)) is not None:
        print_line(f"{power}\n")
    for remark in report.remarks:
        print_line(f"note: {remark}\n")
    print_line(told, colour)  # once more, where a terminal has scrolled
    print(f"again: {report.replay}")  # noqa: T201


def _marked(row: tuple[str, ...]) -> tuple[str, ...]:
    """Return a row of the table, with a mark if it fails."""
    name, *cells, verdict = row
    wrong = verdict in (Verdict.FAIL, Verdict.ERROR)
    return (f"{'>> ' if wrong else ''}{name}", *cells, verdict.upper() if wrong else verdict)


def power_line(report: Report) -> str | None:
    """Return the power certificate in a sentence: the weakest comparison by formulas or numbers."""
    found = [p for p in powers(report) if not math.isnan(p.detectable[0])]
    if not found:
        return None
    weakest = max(found, key=lambda p: p.detectable[0])
    return (
        f"power: {_POWER} is {_small(min(p.detectable[1] for p in found))} at best and "
        f"{_small(weakest.detectable[0])} at worst ({weakest.name}, in {weakest.tensor}); "
        "--verbose lists all"
    )


def power_rows(report: Report) -> list[tuple[str, ...]]:
    """Return the power certificate as text."""
    return [
        (p.name, p.tensor, f"{p.compared:,}", f"{p.blind:,}", *map(_small, p.detectable))
        for p in powers(report)
    ]


_POWER = "the smallest relative error of one element that would be seen"
COLOURS = {"pass": "green", "kink": "green", "inconclusive": "yellow"}
COLOURS |= dict.fromkeys(("fail", "FAIL", "error", "ERROR"), "bold red")
_FAR = 1e6  # tolerances: what more there is to know stands in what has failed
_HEADER = ("comparison", "times", "elements", "largest difference", "verdict")


def comparison_rows(report: Report) -> list[tuple[str, ...]]:
    """Return a row for every kind of comparison, those that fail first."""
    groups: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in report.comparisons:
        groups[comparison.name].append(comparison)
    rows = [
        (
            name,
            f"{len(own):,}",
            f"{sum(each.compared for each in own):,}",
            _share(own),
            worst(each.verdict for each in own).value,
        )
        for name, own in groups.items()
    ]
    severity = [*Verdict]
    return sorted(rows, key=lambda row: severity.index(Verdict(row[-1])), reverse=True)


def _share(comparisons: Sequence[Comparison]) -> str:
    """Return how much of its tolerance the largest difference takes."""
    entries = [each.worst[1] for each in comparisons if each.worst is not None]
    if not entries:
        return next((each.note for each in comparisons if each.note), "nothing compared")
    if all(entry.found == entry.wanted for entry in entries):
        return "none"
    ratios = [_ratio(entry) for entry in entries]
    top = max(ratios)
    if top > _FAR:
        return "far beyond the tolerance"
    return f"{top:.1%} of the tolerance" if top < 100 else f"{top:,.0f} times the tolerance"


def _ratio(entry: Entry) -> float:
    difference = abs(entry.found - entry.wanted)
    if not difference:
        return 0.0
    return difference / entry.tolerance if entry.tolerance else math.inf


def _again(report: Report, failure: Failure) -> str:
    """Return the command that does a failed comparison again, with the weights that it was at."""
    point = failure.comparison.point
    if "--point" in report.replay or not point:
        return report.replay
    return f"{report.replay} --point {point.replace(' ', '-')}"


def does_not_hold(comparison: Comparison) -> str:
    """Return which comparison has failed, and where."""
    return f"{comparison.name} does not hold: {comparison.where}"


def failure_lines(failure: Failure) -> list[str]:
    """Return what is wrong and why, line by line."""
    comparison = failure.comparison
    lines = [does_not_hold(comparison)]
    if comparison.note:
        lines.append(f"  {comparison.note}")
    if (worst_element := worst_line(comparison)) is not None:
        lines.append(f"  {worst_element}")
    lines += [
        f"  {each.tensor}: {each.failed:,} of {each.compared:,} {_what(each)} are wrong"
        for each in comparison.tensors
        if each.failed
    ]
    if failure.weights:
        lines.append(
            f"  shards count {', '.join(f'{round(w, 9):.4g}' for w in failure.weights)} times"
        )
    for i, each in enumerate(failure.diagnoses):
        if each == FOLLOWS:
            lines.append(f"  {each.sentence}")
            continue
        what = "likely" if i == 0 else "or"
        lines.append(f"  {what}: {each.sentence} ({each.kind}, unexplained {each.residual:.1e})")
    return lines


def _small(value: float) -> str:
    return "—" if math.isnan(value) else f"{value:.1e}"


def as_data(report: Report) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "verdict": report.verdict.value,
        "blamed": report.blamed or None,
        "subject": report.subject,
        "check_seed": report.seed,
        "seconds": report.seconds,
        "replay": report.replay,
        "remarks": report.remarks,
        "comparisons": [_comparison_data(each) for each in report.comparisons],
        "failures": [_failure_data(each) for each in report.failures],
        "power": [p._asdict() | {"detectable": list(p.detectable)} for p in powers(report)],
    }


def _comparison_data(comparison: Comparison) -> dict[str, Any]:
    found = comparison.worst
    return {
        "name": comparison.name,
        "edge": comparison.edge,
        "where": comparison.where,
        "verdict": comparison.verdict.value,
        "compared": comparison.compared,
        "worst": None if found is None else {"tensor": found[0]} | found[1]._asdict(),
        "note": comparison.note,
    }


def _failure_data(failure: Failure) -> dict[str, Any]:
    return {
        "name": failure.comparison.name,
        "edge": failure.comparison.edge,
        "where": failure.comparison.where,
        "shard_weights": list(failure.weights),
        "diagnoses": [
            {"kind": d.kind, "sentence": d.sentence, "residual": d.residual}
            for d in failure.diagnoses
        ],
        "verdict": failure.comparison.verdict.value,
    }


def _what(result: TensorResult) -> str:
    """Return what was compared of a tensor: its elements, or derivatives along directions."""
    along = result.worst is not None and not result.worst.place and result.size > 1
    return "directions" if along else "elements"
