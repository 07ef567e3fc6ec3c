"""What a gradient check prints: a line for every comparison, and the certificate of its power."""

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from dptrain.gradcheck.comparison import Comparison, Entry, TensorResult, worst_line
from dptrain.gradcheck.report import Failure, Report
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.report.tables import print_table


class Progress:
    """Shows on a terminal what is being compared."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)  # noqa: T201

    def tell(self, comparison: Comparison) -> None:
        """Show a comparison that is done."""
        if self._shown:
            line = f"{comparison.name}: {comparison.where}"
            print(f"\r\033[K{line[:100]}", end="", file=sys.stderr, flush=True)  # noqa: T201


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
    """Return the power certificate: for each kind of comparison and each tensor."""
    groups: dict[tuple[str, str], list[TensorResult]] = defaultdict(list)
    for comparison in report.comparisons:
        if comparison.edge not in ("analytic", "distributed", "numerical"):
            continue
        dtype = comparison.where.split(",")[0]
        for tensor in comparison.tensors:
            groups[f"{comparison.name}, {dtype}", tensor.tensor].append(tensor)
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


def print_report(report: Report) -> None:
    """Print the verdict, what was compared, what it could have seen, and what is wrong."""
    print_table(f"gradcheck  {report.subject}", comparison_rows(report), _HEADER)
    certificate = power_rows(report)
    header = ("compared", "tensor", "elements", "blind", "detectable", "at best")
    print_table(
        "power: the smallest relative error of one element that would be seen", certificate, header
    )
    for remark in report.remarks:
        print(f"note: {remark}\n")  # noqa: T201
    for failure in report.failures:
        lines = [*failure_lines(failure), f"  again: {_again(report, failure)}"]
        print("\n".join(lines) + "\n")  # noqa: T201
    print(f"{report.verdict.value.upper()} in {report.seconds:.1f} s")  # noqa: T201
    print(f"again: {report.replay}")  # noqa: T201


def power_rows(report: Report) -> list[tuple[str, ...]]:
    """Return the power certificate as text."""
    return [
        (p.name, p.tensor, f"{p.compared:,}", f"{p.blind:,}", *map(_small, p.detectable))
        for p in powers(report)
        if not p.name.startswith(("loss", "reported"))
    ]


_HEADER = ("comparison", "times", "elements", "largest difference", "verdict")


def comparison_rows(report: Report) -> list[tuple[str, ...]]:
    """Return a row for every kind of comparison."""
    groups: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in report.comparisons:
        groups[comparison.name].append(comparison)
    return [
        (
            name,
            f"{len(own):,}",
            f"{sum(each.compared for each in own):,}",
            _share(own),
            worst(each.verdict for each in own).value,
        )
        for name, own in groups.items()
    ]


def _share(comparisons: Sequence[Comparison]) -> str:
    """Return how much of its tolerance the largest difference takes."""
    entries = [each.worst[1] for each in comparisons if each.worst is not None]
    if not entries:
        return next((each.note for each in comparisons if each.note), "nothing compared")
    if all(entry.found == entry.wanted for entry in entries):
        return "none"
    ratios = [_ratio(entry) for entry in entries]
    top = max(ratios)
    return f"{top:.1%} of the tolerance" if top < 100 else f"{top:.3g} times the tolerance"


def _ratio(entry: Entry) -> float:
    difference = abs(entry.found - entry.wanted)
    if not difference:
        return 0.0
    return difference / entry.tolerance if entry.tolerance else math.inf


def _again(report: Report, failure: Failure) -> str:
    """Return the command that does a failed comparison again, with the weights that it was at."""
    where = failure.comparison.where
    if "--point" in report.replay or " weights" not in where:
        return report.replay
    point = "initial" if "initial weights" in where else "burnt-in"
    return f"{report.replay} --point {point}"


def failure_lines(failure: Failure) -> list[str]:
    """Return what is wrong and why, line by line."""
    comparison = failure.comparison
    lines = [f"{comparison.name} does not hold: {comparison.where}"]
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
        "verdict": Verdict.FAIL.value,
    }


def _what(result: TensorResult) -> str:
    """Return what was compared of a tensor: its elements, or derivatives along directions."""
    along = result.worst is not None and not result.worst.place and result.size > 1
    return "directions" if along else "elements"
