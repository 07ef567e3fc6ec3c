"""What is said while a long evaluation goes on."""

import io
from typing import Any

import pytest

from dptrain.report import observers
from dptrain.report.observers import LineObserver, TerminalObserver


class Bar:
    """Stands where the bar of a terminal does."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, text: str) -> None:
        self.told.append(text)


def terminal() -> tuple[TerminalObserver, list[str]]:
    bar: Any = Bar()
    observer = TerminalObserver(io.StringIO())
    observer._bar = bar
    return observer, bar.told


def evaluate(observer: LineObserver) -> None:
    for split, done, rows in (("train", 500, 60_000), ("train", 12_000, 60_000), ("test", 99, 99)):
        observer.evaluating(split, done, rows)


def test_nothing_is_said_of_a_short_evaluation() -> None:
    stream = io.StringIO()
    evaluate(LineObserver(stream))
    assert stream.getvalue() == ""
    observer, told = terminal()
    evaluate(observer)
    assert told == []


def test_a_long_evaluation_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "LINE_SECONDS", -1.0)
    monkeypatch.setattr(observers, "LONG_SECONDS", -1.0)
    monkeypatch.setattr(observers, "REFRESH_SECONDS", -1.0)
    lines = [
        "evaluating train: 500 of 60,000 rows",
        "evaluating train: 12,000 of 60,000 rows",
        "evaluating test: 99 of 99 rows",
    ]
    stream = io.StringIO()
    evaluate(LineObserver(stream))
    assert stream.getvalue().splitlines() == lines
    observer, told = terminal()
    evaluate(observer)
    assert told == lines
