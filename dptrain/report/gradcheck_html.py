"""A gradient check as one HTML file with its pictures inside, which needs no network to be read."""

import base64
import html
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.checkpoint.atomic import atomic_write
from dptrain.gradcheck.report import Failure, Report
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.network import Tensor
from dptrain.report.fonts import families
from dptrain.report.gradcheck import comparison_rows, failure_lines, power_rows

Array = NDArray[Any]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid #ddd; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; white-space: pre-wrap; }
.pass, .kink { color: #0a6b3d; } .fail { color: #b00020; } .inconclusive { color: #8a5a00; }
img { max-width: 100%; }
"""
MOST_PICTURES = 4


def write_html(report: Report, path: Path) -> None:
    """Write a report.

    Raises:
        RunFolderError: the file cannot be written.
    """
    verdict = report.verdict.value
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<meta name=viewport content='width=device-width'><title>gradcheck: {verdict}</title>",
        f"<style>{STYLE}</style>",
        f"<h1>gradcheck: <span class={verdict}>{verdict}</span></h1>",
        f"<p>{html.escape(report.subject)}; {report.seconds:.1f} s.</p>",
        *(part for failure in report.failures for part in _failure(failure)),
        "<h2>Compared</h2>",
        _table(
            ("comparison", "times", "elements", "largest difference", "verdict"),
            comparison_rows(report),
        ),
        *(f"<p>{html.escape(each)}</p>" for each in report.remarks),
        *_slopes(report),
        "<h2>Power</h2><p>The smallest relative error of one element that would have been seen, in "
        "the median element and in the best; blind are those where even an error as large as the "
        "value would have passed.</p>",
        _table(
            ("compared", "tensor", "elements", "blind", "detectable", "at best"), power_rows(report)
        ),
        f"<h2>Again</h2><pre>{html.escape(report.replay)}</pre></html>\n",
    ]
    atomic_write(path, "\n".join(parts).encode())


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(each)}" for each in header)
    verdicts = {each.value for each in Verdict}
    body = "".join(
        "<tr>"
        + "".join(
            f"<td class={cell}>{cell}" if cell in verdicts else f"<td>{html.escape(cell)}"
            for cell in row
        )
        for row in rows
    )
    return f"<table><tr>{head}{body}</table>"


def _failure(failure: Failure) -> Iterator[str]:
    yield f"<h2 class=fail>{html.escape(failure.comparison.name)} does not hold</h2>"
    yield f"<pre>{html.escape(chr(10).join(failure_lines(failure)))}</pre>"
    if failure.found is None or failure.wanted is None:
        return
    failed = {t.tensor for t in failure.comparison.tensors if t.failed}
    shown = [t for t in failure.tensors if t.name in failed][:MOST_PICTURES]
    if shown:
        picture = _heat_maps(failure.found - failure.wanted, failure.wanted, shown)
        yield f"<img alt='where the gradient is wrong' src='{picture}'>"


def _heat_maps(difference: Array, wanted: Array, tensors: Sequence[Tensor]) -> str:
    """Return a picture of the differences, relative to the largest element of each tensor."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 2.6 * len(tensors)), layout="constrained")
    for axes, tensor in zip(
        figure.subplots(len(tensors), 1, squeeze=False)[:, 0], tensors, strict=True
    ):
        own = slice(tensor.start, tensor.stop)
        size = np.abs(wanted[own]).max(initial=0) or 1.0
        with np.errstate(all="ignore"):
            shares = np.nan_to_num(difference[own] / size, nan=0.0, posinf=1e30, neginf=-1e30)
        matrix = shares.reshape(tensor.shape[0] if tensor.shape else 1, -1)
        turned = matrix.shape[0] > matrix.shape[1]
        matrix = matrix.T if turned else matrix
        limit = float(np.abs(matrix).max(initial=0)) or 1.0
        image = axes.imshow(
            matrix, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        axes.set_title(
            f"{tensor.name}: found minus wanted, relative to its largest element",
            fontsize=9,
            fontfamily=families([tensor.name]),
        )
        if len(tensor.shape) > 1:
            others = "column" if len(tensor.shape) == 2 else "place in the row, all its axes in one"
            axes.set_xlabel("row" if turned else others, fontsize=8)
            axes.set_ylabel(others if turned else "row", fontsize=8)
        else:
            axes.set_xlabel("element", fontsize=8)
            axes.set_yticks([])
        for axis in (axes.xaxis, axes.yaxis)[: max(1, len(tensor.shape))]:
            axis.set_major_locator(MaxNLocator(integer=True))  # they are places in the tensor
        figure.colorbar(image, ax=axes)
    return _embedded(figure)


def _slopes(report: Report) -> Iterator[str]:
    """Yield the Taylor test's picture: with the right gradient the rest falls with slope 2."""
    found = [each for each in report.comparisons if each.curve]
    if not found:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for each in found:
        axes.loglog(*zip(*each.curve, strict=True), "o-", markersize=3)
        axes.lines[-1].set_label(f"{each.where}: {each.note}")
    axes.set_xlabel("h")
    axes.set_ylabel("|L(θ + hd) - L(θ) - h⟨g, d⟩|")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    yield "<h2>Taylor test</h2><p>With the right gradient the rest falls with the square of h.</p>"
    yield f"<img alt='Taylor test' src='{_embedded(figure)}'>"


def _embedded(figure: Any) -> str:
    into = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(into, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(into.getvalue()).decode()
