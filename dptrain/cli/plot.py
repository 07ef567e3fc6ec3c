"""``dptrain plot``."""

from pathlib import Path

from dptrain.cli.completion import TrainedRun
from dptrain.cli.output import print_json
from dptrain.errors import UsageError
from dptrain.metrics.lines import read_metrics
from dptrain.report.curves import draw_curves, unused
from dptrain.runfolder import RunFolder


def plot(*runs: TrainedRun, out: Path | None = None, json: bool = False) -> int:
    """Draw loss and accuracy of one or several runs in one figure.

    Args:
        runs: Run folders.
        out: The picture, .png, .svg or .pdf; by default curves.png in the run, or here for several;
            where there is one, curves-2.png.
        json: Print the result as one JSON object.
    """
    if not runs:
        raise UsageError(
            "plot needs at least one run folder, such as logs/20261121-120000-two-layer"
        )
    folders = [RunFolder.open(run) for run in runs]
    where = out or (folders[0].curves if len(folders) == 1 else unused(Path("curves.png")))
    series = [(folder.path.name, read_metrics(folder.metrics)) for folder in folders]
    draw_curves(series, where)
    if json:
        print_json({"picture": str(where), "runs": [str(f.path) for f in folders]})
    else:
        print(where)  # noqa: T201 - the result
    return 0
