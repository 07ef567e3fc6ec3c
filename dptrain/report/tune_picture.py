"""A search as a picture: what the trials came to in turn, and against each parameter."""

import io
import math
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dptrain.checkpoint.atomic import atomic_write
from dptrain.report.fonts import families
from dptrain.report.tune import spelt, value_text
from dptrain.tune.folder import Search
from dptrain.tune.objective import Metric, parse_goals
from dptrain.tune.search import space_of
from dptrain.tune.space import SearchParameter, ValueChoices
from dptrain.tune.trial import Trial, ranked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY, _LIGHT = "#0072B2", "#D55E00", "#555555", "#999999"
_PANEL_WIDTH, _PANEL_HEIGHT = 3.9, 3.1
_MOST_PANELS_A_ROW = 3
_MOST_TICKS = 12
# Of so many values each has a place and its name, whatever lies between them.
_MOST_NAMED = 6
# How far below the best is shown, in distances of the median from the best. Trials that diverged
# would otherwise press all the others into one line.
_REACH = 2.5
_DODGE = 0.12

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _GREY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "savefig.dpi": 120,
    "svg.fonttype": "none",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
}


class _Look(NamedTuple):
    name: str
    style: dict[str, Any]


_LOOKS = {
    "done": _Look("trained to the end", {"marker": "o", "color": _BLUE, "alpha": 0.75}),
    "pruned": _Look("pruned", {"marker": "x", "color": _LIGHT}),
    "failed": _Look("failed", {"marker": "x", "color": _ORANGE}),
}


def draw_search(search: Search, trials: Sequence[Trial], path: Path) -> None:
    """Draw the metric of every trial, in turn and against each parameter.

    Args:
        search: what was searched.
        trials: of which at least one has a value.
        path: the picture; its suffix chooses the format.

    Raises:
        RunFolderError: the file cannot be written.
    """
    import matplotlib as mpl  # here, because its import takes half a second

    image = io.BytesIO()
    # The user's own matplotlibrc may ask for LaTeX or white on black.
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        mpl.rcParams["font.family"] = families(map(str, search.parameters))
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        _figure(search, trials).savefig(image, format=path.suffix[1:])
    atomic_write(path, image.getvalue())


def _figure(search: Search, trials: Sequence[Trial]) -> "Figure":
    from matplotlib.figure import Figure  # without pyplot, which looks for a screen

    space = space_of(search.parameters, search.experiment)
    count = 1 + len(space)
    columns = 2 if count in (2, 4) else min(count, _MOST_PANELS_A_ROW)
    rows = -(-count // columns)
    size = (_PANEL_WIDTH * columns, _PANEL_HEIGHT * rows + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    panels = list(grid.flat)
    for spare in panels[count:]:
        spare.set_visible(False)
    metric = Metric(search.metric)
    low, high = _limits(metric, [t.value for t in trials if t.value is not None])
    worst = low if metric.higher else high
    shown_at = {t.number: _clipped(t, low, high, worst) for t in trials}
    _draw_course(panels[0], trials, metric, shown_at)
    for panel, parameter in zip(panels[1:count], space, strict=True):
        _draw_against(panel, parameter, trials, metric, shown_at)
    pad = 0.05 * (high - low)
    for place, panel in enumerate(panels[:count]):
        panel.set_ylim(low - pad, high + pad)
        _draw_goals(panel, search, metric, low, high)
        if place % columns == 0:
            panel.set_ylabel(spelt(metric.name))
    _explain(figure, search, trials, shown_at)
    return figure


def _limits(metric: Metric, values: Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest value to show; what is far behind lies at the edge."""
    merits = [metric.merit(value) for value in values]
    best = max(merits)
    reach = best - _REACH * (best - statistics.median(merits))
    # only where it gains much
    worst = reach if best - min(merits) > 2 * (best - reach) > 0 else min(merits)
    low, high = sorted((metric.merit(worst), metric.merit(best)))
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _clipped(trial: Trial, low: float, high: float, worst: float) -> float:
    return worst if trial.value is None else min(max(trial.value, low), high)


def _kind(trial: Trial) -> str:
    return "done" if trial.status == "target" else trial.status


def _scatter(
    panel: "Axes", trials: Sequence[Trial], places: dict[int, float], shown_at: dict[int, float]
) -> None:
    for kind, look in _LOOKS.items():
        own = [t for t in trials if _kind(t) == kind and t.number in places]
        at = [(places[t.number], shown_at[t.number]) for t in own]
        if at:
            xs, ys = zip(*at, strict=True)
            panel.scatter(xs, ys, s=26, linewidths=1.2, zorder=3, **look.style)
    beyond = [t for t in trials if t.value is not None and t.value != shown_at[t.number]]
    if at := [(places[t.number], shown_at[t.number]) for t in beyond if t.number in places]:
        xs, ys = zip(*at, strict=True)
        panel.scatter(xs, ys, s=90, marker="o", fc="none", ec=_LIGHT, lw=0.8, zorder=2)


def _mark_best(panel: "Axes", place: float, value: float) -> None:
    panel.scatter([place], [value], s=150, marker="*", color=_ORANGE, ec="white", lw=0.6, zorder=4)


def _draw_course(
    panel: "Axes", trials: Sequence[Trial], metric: Metric, shown_at: dict[int, float]
) -> None:
    from matplotlib.ticker import MaxNLocator

    places = {t.number: float(t.number) for t in trials}
    _scatter(panel, trials, places, shown_at)
    best: float | None = None
    line = []
    for trial in trials:
        counts = trial.status in ("done", "target") and trial.value is not None
        if counts and (best is None or metric.merit(shown_at[trial.number]) > metric.merit(best)):
            best = shown_at[trial.number]
        if best is not None:
            line.append((trial.number, best))
    if line:
        xs, ys = zip(*line, strict=True)
        panel.plot(xs, ys, color=_ORANGE, lw=1.4, drawstyle="steps-post", zorder=2)
    first = ranked(list(trials), metric)[0]
    _mark_best(panel, first.number, shown_at[first.number])
    panel.set_title("in turn, and the best so far")
    panel.set_xlabel("trial")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_against(
    panel: "Axes",
    parameter: SearchParameter,
    trials: Sequence[Trial],
    metric: Metric,
    shown_at: dict[int, float],
) -> None:
    name, space = parameter
    if isinstance(space, ValueChoices) and (len(space.values) <= _MOST_NAMED or not space.ordered):
        values = sorted(space.values) if space.ordered else space.values
        places = _dodged(name, values, trials)
        _name_places(panel, values)
    else:
        places = {t.number: float(t.parameters[name]) for t in trials}
        if space.log or _spans_decades(list(places.values())):
            panel.set_xscale("log")
        else:
            _label_few(panel, whole=all(place.is_integer() for place in places.values()))
    _scatter(panel, trials, places, shown_at)
    first = ranked(list(trials), metric)[0]
    _mark_best(panel, places[first.number], shown_at[first.number])
    panel.set_title(name).set_parse_math(False)
    panel.set_xlabel(" ")


def _spans_decades(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= 100


def _label_few(panel: "Axes", *, whole: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=whole))


def _dodged(name: str, values: Sequence[Any], trials: Sequence[Trial]) -> dict[int, float]:
    """Return places for the trials of each value, a little apart in the order of the trials."""
    places = {}
    for i, value in enumerate(values):
        own = [t.number for t in trials if t.parameters[name] == value]
        for k, number in enumerate(own):
            shift = 0.0 if len(own) == 1 else 2 * k / (len(own) - 1) - 1
            places[number] = i + _DODGE * shift
    return places


def _name_places(panel: "Axes", values: Sequence[object]) -> None:
    names = [value_text(value) for value in values]
    step = math.ceil(len(names) / _MOST_TICKS)
    panel.set_xticks(range(0, len(names), step), names[::step])
    panel.set_xlim(-0.5, len(names) - 0.5)
    if sum(map(len, names[::step])) > 40:
        panel.tick_params(axis="x", rotation=30)
    for label in panel.get_xticklabels():
        label.set_parse_math(False)


def _draw_goals(panel: "Axes", search: Search, metric: Metric, low: float, high: float) -> None:
    for goal in parse_goals(search.until) if search.until else ():
        if goal.metric == metric and low <= goal.bound <= high:
            panel.axhline(goal.bound, color=_GREY, ls=":", lw=1.2, zorder=1)


def _explain(
    figure: "Figure", search: Search, trials: Sequence[Trial], shown_at: dict[int, float]
) -> None:
    from matplotlib.lines import Line2D

    kinds = {_kind(trial) for trial in trials}
    lines = [
        Line2D([], [], ls="", ms=5, label=look.name, **look.style)
        for kind, look in _LOOKS.items()
        if kind in kinds
    ]
    lines.append(Line2D([], [], ls="", marker="*", ms=10, color=_ORANGE, label="best"))
    if any(t.value is not None and t.value != shown_at[t.number] for t in trials):
        edge: dict[str, Any] = {"ls": "", "marker": "o", "ms": 9, "mfc": "none", "mec": _LIGHT}
        lines.append(Line2D([], [], label="beyond the edge", **edge))
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize="small")
    best = ranked(list(trials), Metric(search.metric))[0]
    figure.suptitle(
        f"{search.method} search, best: trial {best.number} with {spelt(search.metric)} "
        f"{best.value:.4f}",
        fontsize="medium",
    )
