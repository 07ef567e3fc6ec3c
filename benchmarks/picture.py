"""The medians as a picture, drawn from the JSON file that `benchmarks.steps` writes.

python -m benchmarks.picture benchmarks/results.json     # writes results.png beside it
"""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.measuring import Results
from benchmarks.programs import OWN
from benchmarks.tables import title

COLOURS = {"dptrain": "#0072B2", "peers": "#BBBBBB"}
ROW, MARGIN, WIDTH = 0.27, 0.95, 8.0  # inches: of a bar, around the bars of a panel, of the figure
ROOM = 1.16  # right of the longest bar, for its number


def draw(results: Results, path: Path) -> None:
    """Draw one panel per job, and write it; the suffix of the path chooses the format."""
    jobs = {job: programs for job, programs in results.items() if programs}
    heights = [len(programs) * ROW + MARGIN for programs in jobs.values()]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    panels = figure.subplots(len(jobs), squeeze=False, height_ratios=heights)[:, 0]
    for panel, (job, programs) in zip(panels, jobs.items(), strict=True):
        _panel(panel, programs)
        panel.set_title(title(job), loc="left", fontsize="medium")
    handles = [Patch(color=colour, label=label) for label, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def _panel(panel: Axes, programs: Mapping[str, Sequence[float]]) -> None:
    medians = [statistics.median(values) for values in programs.values()]
    unit, factor, digits = ("ms", 1e3, 1) if max(medians) >= 0.01 else ("µs", 1e6, 0)
    lows = [m - min(values) for m, values in zip(medians, programs.values(), strict=True)]
    highs = [max(values) - m for m, values in zip(medians, programs.values(), strict=True)]
    panel.barh(
        list(programs),
        [m * factor for m in medians],
        xerr=[[low * factor for low in lows], [high * factor for high in highs]],
        color=[COLOURS["dptrain" if name.startswith(OWN) else "peers"] for name in programs],
        error_kw={"elinewidth": 1, "capsize": 2},
        height=0.75,
    )
    for row, (median, high) in enumerate(zip(medians, highs, strict=True)):
        panel.annotate(
            f"{median * factor:.{digits}f} {unit}",
            ((median + high) * factor, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    panel.set_ylim(len(medians) - 0.5, -0.5)  # from top to bottom, as in the table
    panel.set_xlim(0, max(m + h for m, h in zip(medians, highs, strict=True)) * factor * ROOM)
    panel.set_xlabel(f"{unit} per step", fontsize="small")
    panel.tick_params(labelsize="small")
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    draw(json.loads(source.read_text(encoding="utf-8")), source.with_suffix(".png"))
