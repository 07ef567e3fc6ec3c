"""Timelines: what is written can be read by whoever knows the format."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dptrain.exchange.marks import PHASES, Marks
from dptrain.exchange.timeline import COORDINATOR, MOST_STEPS, Timeline
from dptrain.metrics.trace import write_trace
from tests.sessions import run, write_dataset


def events(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    return found


def test_what_is_written(tmp_path: Path) -> None:
    spans = [(1, "forward", 12.5, 12.75, 3), (-1, "evaluate", 10.0, 12.0, None)]
    write_trace(tmp_path / "trace.json", [(-1, "coordinator"), (1, "rank 1")], spans)
    lanes = {
        e["tid"]: e["args"]["name"] for e in events(tmp_path / "trace.json")[::2] if e["ph"] == "M"
    }
    assert lanes == {1: "coordinator", 2: "rank 1"}
    assert [e for e in events(tmp_path / "trace.json") if e["ph"] == "X"] == [
        {"ph": "X", "pid": 1, "tid": 1, "name": "evaluate", "ts": 0.0, "dur": 2e6},
        {"ph": "X", "pid": 1, "tid": 2, "name": "forward", "ts": 2.5e6, "dur": 2.5e5,
         "args": {"step": 3}},
    ]  # fmt: skip


def test_marks_become_spans() -> None:
    timeline = Timeline()
    marks = Marks(0.0, 1.0, 3.0, 3.25, 6.0, 6.5, 7.0, 9.0, 9.0, 9.0, 10.0, 10.5)
    timeline.add_steps(4, [[marks]])
    assert [(s.name, s.began, s.ended) for s in timeline] == [
        ("gather", 0.0, 1.0), ("forward", 1.0, 3.0), ("wait", 3.0, 3.25), ("backward", 3.25, 6.0),
        ("wait", 6.0, 6.5), ("gather", 6.5, 7.0), ("wait", 7.0, 9.0), ("reduce+update", 9.0, 10.0),
        ("wait", 10.0, 10.5),
    ]  # fmt: skip
    assert [end for _, end in PHASES] == list(range(1, len(Marks._fields)))


def test_a_timeline_has_an_end() -> None:
    timeline = Timeline()
    marks = [[Marks(*range(len(Marks._fields)))]]
    timeline.add_steps(0, marks * MOST_STEPS)
    assert timeline.full is False
    timeline.add_steps(MOST_STEPS, marks)
    timeline.add(COORDINATOR, "evaluate", 0.0, 1.0, None)
    assert bool(timeline.full)
    assert max(span.step or 0 for span in timeline) == MOST_STEPS - 1


@pytest.mark.parametrize("exchange", ["inline", "star", "shared"])
def test_every_exchange_has_a_timeline(exchange: str, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    workers = 1 if exchange == "inline" else 2
    ways = {"workers": workers, "exchange": exchange, "trace": True}
    run({"dataset": str(data)}, tmp_path / "run", **ways)
    spans = [e for e in events(tmp_path / "run" / "trace.json") if e["ph"] == "X"]
    named = {"gather", "forward", "backward", "reduce+update", "evaluate", "checkpoint"}
    assert {e["name"] for e in spans} == named | ({"wait"} if workers > 1 else set())
    for step in range(9):
        forward = [e["tid"] for e in spans if e["name"] == "forward" and e["args"]["step"] == step]
        assert sorted(forward) == [rank + 2 for rank in range(workers)]
    for lane in {e["tid"] for e in spans} - {1}:  # a rank does one thing at a time
        own = [e for e in spans if e["tid"] == lane]
        for before, after in pairwise(own):
            assert before["ts"] + before["dur"] <= after["ts"] + 0.01


@pytest.mark.parametrize("exchange", ["star", "shared"])
def test_waiting_in_the_middle_of_a_pass_is_waiting(exchange: str, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    changes = {"dataset": str(data), "norm": "batch"}
    run(changes, tmp_path / "run", workers=2, exchange=exchange, trace=True)
    spans = [e for e in events(tmp_path / "run" / "trace.json") if e["ph"] == "X"]
    for lane in (2, 3):
        names = [e["name"] for e in spans if e["tid"] == lane]
        pairs = list(pairwise(names))
        assert ("forward", "wait") in pairs
        assert ("wait", "backward") in pairs
        assert ("forward", "backward") not in pairs


def test_without_the_flag_there_is_no_timeline(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    run({"dataset": str(data)}, tmp_path / "run", workers=2)
    assert not (tmp_path / "run" / "trace.json").exists()
