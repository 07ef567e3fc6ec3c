"""What a gradient check shows in a small terminal: one line at a time, failures at once."""

import io
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.cells import cell_len

from dptrain.cli.__main__ import main
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.report import Failure
from dptrain.gradcheck.verdict import Verdict
from dptrain.report.gradcheck_progress import Progress

NETWORK = """
import numpy as np

class Net:
    def __init__(self):
        self.params = {"W": 0.01 * np.random.randn(4, 3), "b": np.zeros(3)}
    def predict(self, x):
        e = np.exp(x @ self.params["W"] + self.params["b"])
        return e / e.sum(axis=1, keepdims=True)
    def loss(self, x, t):
        return -np.sum(t * np.log(self.predict(x))) / len(x)
    def gradient(self, x, t):
        d = (self.predict(x) - t) / len(x)
        return {"W": x.T @ d, "b": FACTOR * d.sum(axis=0)}
"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", ["analytic = formulas " * 9, "가중치 " * 30])
def test_the_line_fits_the_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = Terminal()
    comparison = Comparison(name, "analytic", "here", Verdict.FAIL, ())
    with Progress(quiet=False, stream=stream) as progress:
        progress.stage(12, 47)
        progress.tell(comparison)
    lines = stream.getvalue().split("\r\033[K")
    assert lines[1].startswith("check 12 of 47, 0:0")
    assert lines[2].startswith("check 12 of 47, 0:0")
    assert 30 < cell_len(lines[2]) < 40
    assert lines[-1] == ""


def test_a_failure_is_printed_at_once_and_once_and_then_why_also_into_files() -> None:
    comparison = Comparison("a = b", "analytic", "here", Verdict.FAIL, ())
    failure = Failure(comparison, [Diagnosis("scaled", "W is twice what it should be", 0.0)])
    stream = io.StringIO()
    for quiet in (False, True):
        progress = Progress(quiet=quiet, stream=stream)
        progress.tell(comparison)
        assert stream.getvalue() == "FAIL: a = b does not hold: here\n" or quiet
        progress.failed(failure)
        progress.tell(comparison)
    assert stream.getvalue().splitlines()[1:] == ["  likely: W is twice what it should be"]


def checked(
    factor: float, options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    (folder / "net.py").write_text(NETWORK.replace("FACTOR", str(factor)))
    ways = ["--workers", "1", "--exchange", "inline", "--dataset", "iris", "--point", "initial"]
    code = main(["gradcheck", f"{folder}/net.py:Net", *ways, *options])
    out, err = capsys.readouterr()
    return code, out, err


def test_failures_come_first_and_end_the_check_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = checked(1.5, ["--fail-fast"], tmp_path, capsys)
    assert code == 3
    assert "likely: b is 1.5 times what it should be" in err
    assert out.startswith("FAIL: ")
    rows = [line for line in out.splitlines() if line.rstrip().endswith(("pass", "FAIL"))]
    verdicts = [(row.lstrip().startswith(">> "), row.split()[-1]) for row in rows]
    assert verdicts[0] == (True, "FAIL")
    assert set(verdicts[1:]) == {(False, "pass")}
    assert "distributed = analytic" not in out  # what comes later is not done
    assert out.rstrip().splitlines()[-2].startswith("FAIL in ")


def test_what_could_have_been_seen_is_a_sentence_unless_all_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = checked(1, [], tmp_path, capsys)
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("power: ")]
    assert line.endswith("--verbose lists all")
    assert "detectable" not in out
    code, out, _ = checked(1, ["--verbose"], tmp_path, capsys)
    assert "detectable" in out
    assert "\033" not in out  # no colours in a file


def test_pictures_of_what_is_wrong_count_elements_in_whole_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved: list[Figure] = []
    save = Figure.savefig

    def noted(figure: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", noted)
    code, *_ = checked(
        1.5, ["--fail-fast", "--html", str(tmp_path / "page.html")], tmp_path, capsys
    )
    assert code == 3
    (axes, _) = saved[0].axes  # that of b, and its colours
    assert axes.get_xlabel() == "element"
    assert all(tick.is_integer() for tick in axes.get_xticks())
