"""Progress on narrow terminals, and on those that cannot replace a line."""

import io
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from dptrain.report.gradcheck_progress import Progress
from dptrain.report.observers import Bar, LineObserver, TerminalObserver, observer_for
from dptrain.report.tables import print_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


JOB: Any = SimpleNamespace(batch_size=100, total_steps=180_000)


@pytest.mark.parametrize(
    ("columns", "shown", "left_out"),
    [
        (40, ["loss 0.1"], ["test", "rows/s"]),
        (64, ["loss 0.1", "test 96.00%"], ["rows/s"]),
        (100, ["loss 0.1", "test 96.00%", "rows/s"], []),
    ],
)
def test_the_bar_has_the_numbers_that_there_is_room_for(
    columns: int, shown: list[str], left_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bar = Bar(stream, JOB, 0)
    bar.move(100_000, "loss 0.1", "test 96.00%")
    bar.progress.stop()
    (line,) = [line for line in stream.getvalue().split("\r") if "loss" in line][-1:]
    assert "step 100000/180000" in line
    assert [word for word in shown if word not in line] == []
    assert [word for word in left_out if word in line] == []
    assert "…" not in line


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_replaces_no_line_gets_lines(
    term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(observer_for(Terminal()), TerminalObserver)
    monkeypatch.setenv("TERM", term)
    assert type(observer_for(Terminal())) is LineObserver
    stream = Terminal()
    with Progress(quiet=False, stream=stream) as progress:
        progress.stage(12, 47)
    assert stream.getvalue() == ""


ROWS = [("1", "0.003428", "softmax-cross-entropy", "0.6667", "12 of 20", "0.05 s", "3aef1210")]
HEADER = ("trial", "lr", "loss", "test\naccuracy", "epoch", "time", "digest")


@pytest.mark.parametrize(
    ("columns", "whole", "left_out"),
    [
        (100, ["softmax-cross-entropy", "0.6667", "0.05 s", "3aef1210"], []),
        (80, ["softmax-cross-entropy", "0.003428", "0.05 s"], ["digest", "3aef1210"]),
        (60, ["0.003428", "0.6667", "12 of 20"], ["digest", "time", "0.05 s"]),
    ],
)
def test_numbers_of_a_table_are_not_folded_where_something_else_can_be(
    columns: int, whole: list[str], left_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    print_table("", ROWS, HEADER, spare=("digest", "time"))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert [word for word in whole if word not in shown] == []
    assert [word for word in left_out if word in shown] == []
    assert max(map(len, shown.splitlines())) <= columns


def test_a_file_gets_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ROWS, HEADER, spare=("digest", "time"))
    assert "3aef1210" in capsys.readouterr().out
