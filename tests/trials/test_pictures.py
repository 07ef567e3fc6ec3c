"""Pictures of runs whose names are in any script, that are short, and that others lie beside."""

from pathlib import Path

import pytest
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

from dptrain.metrics.records import Record
from dptrain.report.curves import unused
from dptrain.report.fonts import families
from dptrain.report.series import series_of
from tests.metrics.records import a_step, an_epoch


def characters(font: str) -> set[int]:
    files = [each.fname for each in fontManager.ttflist if each.name == font]
    return set().union(*(FT2Font(file).get_charmap() for file in files))


def test_a_character_that_the_first_font_lacks_is_found_in_another() -> None:
    # of the fonts that come with matplotlib
    others_have = characters("STIXGeneral") - characters("DejaVu Sans")
    lacking = sorted(code for code in others_have if chr(code).isprintable())
    assert lacking
    first, *others = families([f"run {chr(lacking[0])}"])
    assert first == "DejaVu Sans"
    assert any(lacking[0] in characters(other) for other in others)


@pytest.mark.parametrize("name", ["한국어런", "日本語", "中文"])
def test_names_of_cjk_have_no_boxes_where_a_font_is_installed(name: str) -> None:
    found = families([name])
    installed = {font.name for font in fontManager.ttflist}
    if installed & {"Noto Sans CJK KR", "NanumGothic"}:
        assert {ord(c) for c in name} <= set().union(*map(characters, found))
    assert families(["plain"]) == ["DejaVu Sans"]


def test_few_steps_are_not_joined_by_lines() -> None:
    epochs: list[Record] = [an_epoch(epoch) for epoch in range(1, 11)]
    few: list[Record] = [a_step(step) for step in range(1, 6)]
    many: list[Record] = [a_step(step) for step in range(1, 31)]
    assert not len(series_of("linear", [*few, *epochs]).steps)
    assert len(series_of("mnist", [*many, *epochs]).steps) == 30
    assert len(series_of("not yet an epoch", few).steps) == 5


def test_a_regression_shows_r2() -> None:
    known = {"train_r2": 0.75, "test_r2": 0.5}
    changes = {"train_accuracy": None, "test_accuracy": None}
    found = series_of("linear", [an_epoch(epoch, **known, **changes) for epoch in (1, 2)])
    assert found.score == "R²"
    assert found.accuracies[0].tolist() == [[1, 0.75], [2, 0.75]]
    assert found.accuracies[1].tolist() == [[1, 0.5], [2, 0.5]]
    assert found.result == "test R² 0.5000"


def test_pictures_are_not_overwritten(tmp_path: Path) -> None:
    assert unused(tmp_path / "curves.png") == tmp_path / "curves.png"
    for name in ("curves.png", "curves-2.png"):
        (tmp_path / name).touch()
    assert unused(tmp_path / "curves.png") == tmp_path / "curves-3.png"
    assert unused(tmp_path / "scaling.png") == tmp_path / "scaling.png"
