"""What is said while a long evaluation goes on."""

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest

from dptrain.exchange.engine import StepsDone
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


def test_a_long_epoch_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    job: Any = SimpleNamespace(batch_size=100, total_steps=2000)
    stream = io.StringIO()
    observer = LineObserver(stream)  # at 0 s
    observer._course = observers.Pace(job, 1000)  # at 20 s
    for end in (1100, 1200):  # at 40 s, two lines; then from 80 s, when it was printed
        observer.step(StepsDone(end - 100, end, 0.25, 0, 0, 0, 0))
    observer.step(StepsDone(1200, 1300, 0.5, 0, 0, 0, 0))
    assert stream.getvalue().splitlines() == [
        "step 1,100 of 2,000  loss 0.2500  250 rows/s  0:06:00 left",
        "step 1,300 of 2,000  loss 0.5000  250 rows/s  0:04:40 left",
    ]
