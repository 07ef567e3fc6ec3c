"""The picture: its panels, lines, scales and words, and that it is written whole.

How it looks was judged by eye; these tests read the SVG, in which text is text, and the figure.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dptrain.errors import RunFolderError, UsageError
from dptrain.metrics.records import Record
from dptrain.report.curves import draw_curves
from tests.checkpoint.test_atomic import largest_file
from tests.metrics.records import a_step, an_end, an_epoch

REGRESSION = {"train_accuracy": None, "test_accuracy": None}
RUN: list[Record] = [*(a_step(step) for step in range(1, 31)), *map(an_epoch, (1, 2, 3))]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, in order."""
    saved: list[Figure] = []
    save = Figure.savefig

    def noted(figure: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", noted)
    return saved


def text_of(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>(.*?)</text>", path.read_text("utf-8"))


def lines_of(figure: Figure, panel: int) -> list[tuple[str, str, Any, int]]:
    """Style, marker, colour and number of points of each line with points."""
    return [
        (str(line.get_linestyle()), str(line.get_marker()), line.get_color(), points)
        for line in figure.axes[panel].lines
        if (points := np.size(line.get_xdata()))
    ]


def test_one_run(tmp_path: Path, figures: list[Figure]) -> None:
    draw_curves([("20261121-034500-two-layer", RUN)], tmp_path / "curves.svg")
    words = text_of(tmp_path / "curves.svg")
    assert "20261121-034500-two-layer: test accuracy 0.8000" in words
    assert [words.count(word) for word in ("loss", "accuracy", "epoch")] == [1, 1, 2]
    assert [words.count(word) for word in ("train", "test", "train, per step")] == [1, 1, 1]
    assert "validation" not in words
    blue, vermillion = "#0072B2", "#D55E00"
    assert lines_of(figures[0], 0) == [
        ("-", "None", blue, 30),
        ("-", "o", blue, 3),
        ("--", "s", vermillion, 3),
    ]
    assert lines_of(figures[0], 1) == [("-", "o", blue, 3), ("--", "s", vermillion, 3)]


def test_the_gap_is_shaded_and_the_best_epoch_marked(tmp_path: Path, figures: list[Figure]) -> None:
    seen = {"validation_loss": 2.0, "validation_accuracy": 0.25}
    stopped = [*RUN[:-3], *(an_epoch(epoch, **seen) for epoch in (1, 2, 3)), an_end(3, 2)]
    draw_curves([("run", stopped)], tmp_path / "curves.svg")
    words = text_of(tmp_path / "curves.svg")
    assert words.count("gap 0.500 at epoch 2") == 1
    assert words.count("best epoch 2") == 1
    for panel, (train, unseen) in zip(figures[0].axes, [(1.0, 2.0), (0.5, 0.25)], strict=True):
        (shade,) = panel.collections
        corners = {tuple(corner) for corner in shade.get_paths()[0].vertices.tolist()}  # type: ignore[union-attr]
        assert {(1.0, train), (1.0, unseen), (3.0, unseen)} <= corners
        assert 2.0 in [line.get_xdata()[0] for line in panel.lines if len(line.get_xdata()) == 2]  # type: ignore[index, arg-type]
    draw_curves([("run", stopped), ("other", RUN)], tmp_path / "several.svg")
    assert not any("gap" in word or "best" in word for word in text_of(tmp_path / "several.svg"))
    assert not any(panel.collections for panel in figures[1].axes)


def test_a_gap_over_decades_down_to_nothing(tmp_path: Path, figures: list[Figure]) -> None:
    losses = [1.0, 1e-5, 0.0]
    run = [an_epoch(epoch, train_loss=loss) for epoch, loss in enumerate(losses, 1)]
    draw_curves([("run", run)], tmp_path / "curves.png")
    assert figures[0].axes[0].get_yscale() == "log"


def test_the_legend_of_one_panel_stays_in_the_picture(
    tmp_path: Path, figures: list[Figure]
) -> None:
    changes: dict[str, Any] = {**REGRESSION, "validation_loss": 12345.678}
    run = [*RUN[:-3], an_epoch(100, **changes), an_end(100, 100)]
    draw_curves([("run", run)], tmp_path / "curves.png")
    (legend,) = figures[0].legends
    assert len(legend.get_texts()) == 6
    box, whole = legend.get_window_extent(), figures[0].bbox
    assert whole.x0 <= box.x0
    assert box.x1 <= whole.x1
    panel = figures[0].axes[0].get_tightbbox()
    assert panel is not None
    assert box.y1 < panel.y0


@pytest.mark.parametrize("count", [2, 7, 8, 12])
def test_several_runs_in_one_figure(tmp_path: Path, figures: list[Figure], count: int) -> None:
    validated = [*RUN, an_epoch(4, validation_loss=0.5, validation_accuracy=0.5)]
    runs: list[tuple[str, Sequence[Record]]] = [("first", validated)]
    runs += [(f"run {index}", RUN) for index in range(1, count)]
    draw_curves(runs, tmp_path / "curves.svg")
    words = text_of(tmp_path / "curves.svg")
    assert words.count("first: test accuracy 0.8500") == 1
    assert all(f"run {index}: test accuracy 0.8000" in words for index in range(1, count))
    assert [words.count(word) for word in ("train", "test", "validation")] == [1, 1, 1]
    colours = {colour for _, _, colour, _ in lines_of(figures[0], 1)}
    assert len(colours) == count


def test_a_regression_has_no_accuracy(tmp_path: Path, figures: list[Figure]) -> None:
    draw_curves([("run", [an_epoch(1, **REGRESSION)])], tmp_path / "curves.svg")
    words = text_of(tmp_path / "curves.svg")
    assert "accuracy" not in words
    assert "run: test loss 1.1" in words
    assert len(figures[0].axes) == 1


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([1.0, 0.034], "linear"),
        ([1.0, 0.033], "log"),
        ([1.0, 0.0, 0.033], "log"),
        ([1.0, 0.0], "linear"),
        ([0.0, 0.0], "linear"),
        ([-1.0, 500.0, 1.0], "linear"),
        ([None, 1.0, 1.7e308, -0.0], "log"),
        ([1.0, 1e-100, 1e-99, 5e-324], "log"),
        ([1e-320, 5e-324], "log"),
        ([1.7e308, 1.6e308], "linear"),
        ([-1.7e308, 1.7e308], "linear"),
        ([0.5], "linear"),
    ],
)
def test_loss_over_decades_is_logarithmic(
    tmp_path: Path, figures: list[Figure], losses: list[float | None], scale: str
) -> None:
    records = [a_step(step, loss=loss) for step, loss in enumerate(losses, 1)]
    draw_curves([("run", records)], tmp_path / "curves.png")
    assert figures[0].axes[0].get_yscale() == scale


@pytest.mark.parametrize(
    ("records", "ticks"),
    [
        ([a_step(1), a_step(2)], 0.05),
        ([*map(a_step, range(1, 11)), an_epoch(1)], 0.2),
        ([an_epoch(1), an_epoch(2)], 1),
        ([an_epoch(epoch) for epoch in range(1, 17)], 5),
        ([an_epoch(epoch) for epoch in range(1, 101)], 20),
    ],
)
def test_epochs_have_few_round_ticks(
    tmp_path: Path, figures: list[Figure], records: list[Record], ticks: float
) -> None:
    draw_curves([("run", records)], tmp_path / "curves.png")
    for panel in figures[0].axes:
        low, high = panel.get_xlim()
        assert low == 0
        assert high > records[-1].epoch
        shown = [tick for tick in panel.get_xticks() if low <= tick <= high]
        assert shown == pytest.approx([index * ticks for index in range(len(shown))])


def test_accuracy_is_not_blown_up(tmp_path: Path, figures: list[Figure]) -> None:
    record = an_epoch(1, train_accuracy=1.0, test_accuracy=0.999)
    draw_curves([("run", [record])], tmp_path / "curves.png")
    low, high = figures[0].axes[1].get_ylim()
    assert low == pytest.approx(0.95, abs=0.001)
    assert 1.0 < high <= 1.02


def test_a_run_that_diverged_at_once_says_so(tmp_path: Path) -> None:
    draw_curves([("run", [a_step(1, loss=None)])], tmp_path / "curves.svg")
    assert "the loss was never finite" in text_of(tmp_path / "curves.svg")


def test_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    draw_curves([("a$b_{c$ \\frac", RUN), ("실험", RUN), ("x" * 30 + "y" * 30, RUN)], path)
    words = text_of(path)
    assert "a$b_{c$ \\frac: test accuracy 0.8000" in words
    assert "실험: test accuracy 0.8000" in words
    assert f"{'x' * 22}…{'y' * 22}: test accuracy 0.8000" in words
    draw_curves([("a$b_{c$ 실험", RUN)], tmp_path / "curves.png")


@pytest.mark.parametrize(
    ("name", "magic"), [("c.png", b"\x89PNG"), ("c.svg", b"<?xml"), ("c.PDF", b"%PDF-")]
)
def test_the_suffix_chooses_the_format(tmp_path: Path, name: str, magic: bytes) -> None:
    draw_curves([("run", RUN)], tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_other_formats_are_refused(tmp_path: Path) -> None:
    for name, message in [
        ("c.pgn", r"c.pgn: cannot draw a picture with the suffix '.pgn'; did you mean '.png'\?"),
        ("c.bmp", r"suffix '.bmp'; choose one of .png, .svg, .pdf"),
        ("curves", r"suffix ''; choose one of .png, .svg, .pdf"),
    ]:
        with pytest.raises(UsageError, match=message):
            draw_curves([("run", RUN)], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="late: there is nothing to draw before the first"):
        draw_curves([("early", RUN), ("late", [])], tmp_path / "curves.png")


def test_the_picture_is_written_whole_or_not(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    draw_curves([("run", RUN)], path)
    before = path.read_bytes()
    with largest_file(5000), pytest.raises(RunFolderError, match="free some space"):
        draw_curves([("other", RUN)], path)
    assert path.read_bytes() == before
    with Image.open(path) as image:
        image.load()
        assert min(image.size) > 500


def test_the_users_settings_neither_matter_nor_change(tmp_path: Path) -> None:
    draw_curves([("run", RUN)], tmp_path / "plain.png")
    with mpl.rc_context({"text.usetex": True, "axes.facecolor": "black", "font.size": 40}):
        draw_curves([("run", RUN)], tmp_path / "set.png")
        assert mpl.rcParams["font.size"] == 40
    assert (tmp_path / "set.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_drawing_opens_no_window_and_is_imported_late(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from dptrain.report.curves import draw_curves
from tests.metrics.records import an_epoch
assert not [name for name in sys.modules if name.startswith(("matplotlib", "PIL"))]
draw_curves([("run", [an_epoch(1)])], Path({str(tmp_path / "c.png")!r}))
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
