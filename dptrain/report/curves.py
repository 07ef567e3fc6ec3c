"""Loss and accuracy over epochs, of one run or several, as a picture.

Training is solid with circles, test dashed with squares, as in the book. Of one run, colours tell
the splits apart as well; of several, they tell the runs apart. The colours are Okabe and Ito's,
which people with any colour vision can tell apart.

Of one run, the gap between the training rows and unseen ones (validation rows, or else test rows)
is shaded, and a vertical line marks the epoch whose weights early stopping restored.
"""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dptrain.checkpoint.atomic import atomic_write
from dptrain.errors import RunFolderError, UsageError, suggestion
from dptrain.metrics.records import Record
from dptrain.report.fonts import families
from dptrain.report.series import SPLITS, Points, Series, series_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY = "#555555"
_SHAPES: tuple[dict[str, Any], ...] = (
    {"ls": "-", "marker": "o"},
    {"ls": "--", "marker": "s"},
    {"ls": ":", "marker": "^"},
)
_STEPS: dict[str, Any] = {"lw": 0.8, "alpha": 0.35, "zorder": 1.5}
_GAP: dict[str, Any] = {"color": "#999999", "alpha": 0.22, "lw": 0, "zorder": 1.2}
_BEST: dict[str, Any] = {"color": "#333333", "ls": (0, (1, 1.5)), "lw": 1.3, "zorder": 1.8}

_NAME_LIMIT = 44
_MARKERS_PER_LINE = 16
_RATIO_FOR_LOG = 30.0
_LEAST_ACCURACY_SPAN = 0.1
_LEAST_R2 = -1.0  # what is further down is far worse than the mean of the targets

# The layout, in inches. Matplotlib's own layout engines draw everything twice, for half a second.
_PANEL_WIDTH, _PANEL_HEIGHT = 4.4, 3.1
_LEFT, _RIGHT, _TOP, _BOTTOM, _BOTTOM_PER_RUN = 0.75, 0.2, 0.7, 0.75, 0.18
_LEGEND_ROW = 0.22
_LEGEND_COLUMNS = 3  # for each panel

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _GREY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.titlesize": "medium",
    "grid.alpha": 0.3,
    "legend.columnspacing": 1.6,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "savefig.dpi": 120,
    "svg.fonttype": "none",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
}


def draw_curves(runs: Sequence[tuple[str, Sequence[Record]]], path: Path) -> None:
    """Draw the runs, each a name and its records, into one figure, and write it atomically.

    The suffix of the path chooses the format: .png, .svg or .pdf. Loss is drawn on a logarithmic
    scale when it spans more than a decade and a half; without any accuracy or R² there is no panel
    for it. Raises UsageError for another suffix, RunFolderError when a run has no records
    or the file cannot be written.
    """
    check_format(path)
    for name, records in runs:
        if not records:
            raise RunFolderError(f"{name}: there is nothing to draw before the first logged step")

    import matplotlib as mpl  # here, because its import takes longer than starting to train

    image = io.BytesIO()
    # The user's own matplotlibrc may ask for LaTeX or white on black.
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        # A run's name may be in any script.
        mpl.rcParams["font.family"] = families(name for name, _ in runs)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = _figure([series_of(name, records) for name, records in runs])
        figure.savefig(image, format=path.suffix[1:].lower())
    atomic_write(path, image.getvalue())


def check_format(path: Path) -> None:
    """Raise UsageError unless the suffix of a picture's path is one of `FORMATS`."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        near = suggestion(suffix, FORMATS) or f"; choose one of {', '.join(FORMATS)}"
        raise UsageError(f"{path}: cannot draw a picture with the suffix {suffix!r}{near}")


def unused(path: Path) -> Path:
    """Return the path, or where a file has that name the first free one of `NAME-2`, `NAME-3` …."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


def _figure(runs: Sequence[Series]) -> "Figure":
    from matplotlib.figure import Figure  # without pyplot, which looks for a screen

    count = 2 if any(len(points) for run in runs for points in run.accuracies) else 1
    bottom = _BOTTOM + _BOTTOM_PER_RUN * len(runs)
    if count == 1 and len(runs) == 1:  # too narrow for one row of all that one run has
        bottom += _LEGEND_ROW
    cell = _LEFT + _PANEL_WIDTH + _RIGHT
    width, height = count * cell, bottom + _PANEL_HEIGHT + _TOP
    figure = Figure(figsize=(width, height))
    panels = [
        figure.add_axes(
            (
                (index * cell + _LEFT) / width,
                bottom / height,
                _PANEL_WIDTH / width,
                _PANEL_HEIGHT / height,
            )
        )
        for index in range(count)
    ]
    _draw_loss(panels[0], runs)
    if count == 2:
        _draw_accuracy(panels[1], runs)
    if len(runs) == 1:
        for panel, gap in zip(panels, runs[0].gaps, strict=False):
            _mark(panel, gap, runs[0].best)
    for panel in panels:
        _scale_epochs(panel, max(run.end for run in runs))
    _explain(figure, runs)
    return figure


def _colour(runs: int, run: int, split: int) -> Any:
    """Return a line's colour: its split's in a figure of one run, otherwise its run's."""
    if runs == 1:
        return _COLOURS[split]
    if runs <= len(_COLOURS):
        return _COLOURS[run]
    from matplotlib import colormaps  # here, for the reason given in draw_curves

    return colormaps["viridis"](0.95 * run / (runs - 1))


def _draw_lines(panel: "Axes", runs: int, run: int, lines: Sequence[Points]) -> None:
    for split, points in enumerate(lines):
        panel.plot(
            *points.T,
            color=_colour(runs, run, split),
            markevery=max(1, len(points) // _MARKERS_PER_LINE),
            **_SHAPES[split],
        )


def _draw_loss(panel: "Axes", runs: Sequence[Series]) -> None:
    for index, run in enumerate(runs):
        panel.plot(*run.steps.T, color=_colour(len(runs), index, 0), **_STEPS)
        _draw_lines(panel, len(runs), index, run.losses)
    drawn = np.concatenate([points[:, 1] for run in runs for points in (run.steps, *run.losses)])
    if not len(drawn):
        panel.set_yticks([])
        panel.text(0.5, 0.5, "the loss was never finite", ha="center", transform=panel.transAxes)
    elif drawn.min() >= 0 and drawn.max() > _RATIO_FOR_LOG * drawn[drawn > 0].min(initial=np.inf):
        panel.set_yscale("log", nonpositive="mask")
    panel.set_title("loss")


def _draw_accuracy(panel: "Axes", runs: Sequence[Series]) -> None:
    for index, run in enumerate(runs):
        _draw_lines(panel, len(runs), index, run.accuracies)
    scores = {run.score for run in runs if any(len(points) for points in run.accuracies)}
    low, high = panel.get_ylim()
    middle = (low + high) / 2
    half = max(high - low, _LEAST_ACCURACY_SPAN) / 2
    least = -0.02 if scores == {"accuracy"} else _LEAST_R2
    panel.set_ylim(max(middle - half, least), min(middle + half, 1 + 0.04 * half))
    panel.set_title(" and ".join(sorted(scores)))


def _mark(panel: "Axes", gap: Points, best: float | None) -> None:
    """Shade the gap and mark the best epoch."""
    if len(gap):
        panel.fill_between(*gap.T, **_GAP)
    if best is not None:
        panel.axvline(best, **_BEST)


def _scale_epochs(panel: "Axes", end: float) -> None:
    from matplotlib.ticker import MaxNLocator  # here, for the reason given in draw_curves

    panel.set_xlim(0, 1.02 * end or 1)
    panel.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=end >= 2))
    panel.set_xlabel("epoch")


def _explain(figure: "Figure", runs: Sequence[Series]) -> None:
    """Add title and legends, outside the panels so that they hide nothing."""
    names = [_named(run) for run in runs]
    if len(runs) == 1:
        figure.suptitle(names[0]).set_parse_math(False)
        _explain_splits(figure, runs, "lower center")
        return
    _explain_splits(figure, runs, "upper center")
    from matplotlib.lines import Line2D  # here, for the reason given in draw_curves

    lines = [Line2D([], [], color=_colour(len(runs), run, 0), lw=4) for run in range(len(runs))]
    legend = figure.legend(lines, names, loc="lower center", fontsize="small")
    for text in legend.get_texts():
        text.set_parse_math(False)


def _explain_splits(
    figure: "Figure", runs: Sequence[Series], place: Literal["lower center", "upper center"]
) -> None:
    from matplotlib.lines import Line2D  # here, for the reason given in draw_curves
    from matplotlib.patches import Patch

    lines: list[Line2D | Patch] = []
    for index, split in enumerate(SPLITS):
        if any(len(run.losses[index]) + len(run.accuracies[index]) for run in runs):
            colour = _colour(1, 0, index) if len(runs) == 1 else _GREY
            lines.append(Line2D([], [], color=colour, label=split.name, **_SHAPES[index]))
    if any(len(run.steps) for run in runs):
        colour = _colour(1, 0, 0) if len(runs) == 1 else _GREY
        lines.append(Line2D([], [], color=colour, label="train, per step", **_STEPS))
    if len(runs) == 1 and runs[0].gap:
        lines.append(Patch(label=runs[0].gap, **_GAP))
    if len(runs) == 1 and runs[0].best is not None:
        lines.append(Line2D([], [], label=f"best epoch {runs[0].best:g}", **_BEST))
    columns = min(len(lines), _LEGEND_COLUMNS * len(figure.axes)) if len(runs) == 1 else len(lines)
    figure.legend(handles=lines, loc=place, ncols=columns or 1)


def _named(run: Series) -> str:
    half = _NAME_LIMIT // 2
    name = run.name if len(run.name) <= _NAME_LIMIT else f"{run.name[:half]}…{run.name[-half:]}"
    return f"{name}: {run.result}" if run.result else name
