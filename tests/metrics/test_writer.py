"""Writing metrics: each step stands once, in a whole line, whatever ended the run before."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dptrain.errors import RunFolderError
from dptrain.metrics.lines import read_metrics
from dptrain.metrics.writer import MetricsWriter
from tests.checkpoint.test_atomic import failing, largest_file
from tests.metrics.records import a_step, an_end, an_epoch

# Writes two records and a half, then waits to be killed.
CHILD = """
import os, sys
from pathlib import Path
from dptrain.metrics.writer import MetricsWriter
from tests.metrics.records import a_step

writer = MetricsWriter(Path(sys.argv[1]), print)
writer.write(a_step(1))
writer.write(a_step(2))
write = os.write
def half(descriptor, data):
    write(descriptor, data[: len(data) // 2])
    write(1, b"paused")
    sys.stdin.read()
os.write = half
writer.write(a_step(3))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def steps(path: Path) -> list[int]:
    return [record.step for record in read_metrics(path)]


def test_a_record_is_in_the_file_before_the_next(path: Path) -> None:
    with MetricsWriter(path, pytest.fail) as writer:
        assert read_metrics(path) == []
        for step in (1, 2, 3):
            writer.write(a_step(step))
            assert steps(path)[-1] == step
    writer.close()


def test_numbers_that_json_lacks_become_null(path: Path) -> None:
    with MetricsWriter(path, pytest.fail) as writer:
        writer.write(a_step(1, loss=math.nan, lr=math.inf, samples_per_second=-math.inf))
    assert b"nan" not in path.read_bytes().lower()
    assert read_metrics(path) == [a_step(1, loss=None, lr=None, samples_per_second=None)]


def test_numpy_numbers_are_numbers(path: Path) -> None:
    with MetricsWriter(path, pytest.fail) as writer:
        writer.write(a_step(1, loss=np.float64(0.1), lr=np.float32(0.5), epoch=np.int64(7)))
        writer.write(a_step(1, loss=np.float64("nan")))
        with pytest.raises(NotImplementedError, match="object in a record of metrics"):
            writer.write(a_step(1, loss=object()))
    assert read_metrics(path) == [a_step(1, loss=0.1, lr=0.5, epoch=7), a_step(1, loss=None)]


def test_killed_while_writing(path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(6) == b"paused"
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert path.read_bytes()[-1:] != b"\n"
    assert steps(path) == [1, 2]
    with MetricsWriter(path, pytest.fail) as writer:
        writer.write(a_step(3))
    assert steps(path) == [1, 2, 3]


def test_resuming_drops_what_came_after_the_checkpoint(path: Path) -> None:
    with MetricsWriter(path, pytest.fail) as writer:
        for record in (a_step(5), a_step(10), an_epoch(1), a_step(15), a_step(20), an_epoch(2)):
            writer.write(record)
    before = path.read_bytes()
    with MetricsWriter(path, pytest.fail) as writer:
        writer.truncate_after(20)
        assert path.read_bytes() == before
        writer.truncate_after(15)
        assert read_metrics(path) == [a_step(5), a_step(10), an_epoch(1), a_step(15)]
        writer.truncate_after(10)
        assert read_metrics(path) == [a_step(5), a_step(10), an_epoch(1)]
        writer.write(a_step(15))
        assert steps(path) == [5, 10, 10, 15]
        writer.truncate_after(0)
        assert path.read_bytes() == b""
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_resuming_keeps_all_lines_until_the_new_file_is_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MetricsWriter(path, pytest.fail) as writer:
        for step in (1, 2, 3):
            writer.write(a_step(step))
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", failing(5))
            with pytest.raises(RunFolderError, match="cannot write"):
                writer.truncate_after(1)
        assert steps(path) == [1, 2, 3]
        writer.write(a_step(4))
    assert steps(path) == [1, 2, 3, 4]


def test_resuming_names_a_damaged_line(path: Path) -> None:
    path.write_bytes(b"damaged\n")
    with (
        MetricsWriter(path, pytest.fail) as writer,
        pytest.raises(RunFolderError, match="line 1 is not a record"),
    ):
        writer.truncate_after(1)


def test_a_full_disk_is_told_once_and_costs_no_line(path: Path) -> None:
    told: list[str] = []
    with MetricsWriter(path, told.append) as writer:
        writer.write(a_step(1))
        with largest_file(path.stat().st_size + 20):
            writer.write(a_step(2))
            writer.write(a_step(3))
        writer.write(a_step(4))
    assert steps(path) == [1, 4]
    assert told == [
        f"{path}: a record was lost: File too large; training goes on, free some space to log the "
        "rest of it"
    ]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for below, message in [("file/x", "Not a directory"), ("", "Is a directory")]:
        with pytest.raises(RunFolderError, match=f"cannot be written: {message}; make it writable"):
            MetricsWriter(tmp_path / below, pytest.fail)


def test_a_run_that_goes_on_has_not_ended(path: Path) -> None:
    with MetricsWriter(path, print) as writer:
        for record in (an_epoch(1), an_epoch(2), an_end(2, 1)):
            writer.write(record)
        writer.truncate_after(20)
    assert read_metrics(path) == [an_epoch(1), an_epoch(2)]
