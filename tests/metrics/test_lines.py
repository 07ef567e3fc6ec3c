"""Reading metrics: every record, or an error that names the line."""

import json
import re
from pathlib import Path

import pytest

from dptrain.errors import RunFolderError
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.writer import MetricsWriter
from tests.metrics.records import a_step, an_epoch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path, pytest.fail) as writer:
        for record in (a_step(9), a_step(10), an_epoch(1)):
            writer.write(record)
    return path


def test_records_come_back(path: Path) -> None:
    assert read_metrics(path) == [a_step(9), a_step(10), an_epoch(1)]


def test_an_empty_file_has_no_records(path: Path) -> None:
    path.write_bytes(b"")
    assert read_metrics(path) == []


def test_each_line_is_an_object_that_anyone_can_read(path: Path) -> None:
    objects = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(each["kind"], each["step"]) for each in objects] == [
        ("step", 9),
        ("step", 10),
        ("epoch", 10),
    ]
    assert objects[0]["loss"] == 1 / 9
    assert objects[2]["digest"] == "ab" * 32
    assert objects[2]["validation_loss"] is None


def test_a_line_that_is_being_written_is_left_out(path: Path) -> None:
    whole = path.read_bytes()
    lines = whole.count(b"\n")
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert len(read_metrics(path)) == whole[:length].count(b"\n") < lines


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"\xff",
        b"\0" * 50,
        b"[" * 100_000,
        b'{"kind":"step","surprise":' + b"[" * 100_000,
        b'{"kind":"epoch","digest":"\xff"}',
        b"{}",
        b'{"kind":"step"}',
        b'{"kind":"walk","step":1}',
    ],
)
def test_another_line_is_named(path: Path, line: bytes) -> None:
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, lines[2], b""]))
    message = f"{re.escape(str(path))}: line 3 is not a record of metrics .*; delete that line"
    with pytest.raises(RunFolderError, match=message):
        read_metrics(path)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"nothing\.jsonl: there are no metrics; they begin"):
        read_metrics(tmp_path / "nothing.jsonl")
    with pytest.raises(RunFolderError, match="is not a file"):
        read_metrics(tmp_path)
