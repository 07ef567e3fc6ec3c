"""The run's key is written into a file of its own, whatever lies in its place."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dptrain.coordinator.run import _write_key
from dptrain.runfolder import RunFolder
from tests.sessions import run, write_dataset


def readable(path: Path) -> None:
    path.write_text("old")
    path.chmod(0o644)


def link(path: Path) -> None:
    precious = path.with_name("precious")
    precious.write_text("precious")
    path.symlink_to(precious)


def nothing(path: Path) -> None:
    """There is nothing there."""


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("plant", [readable, link, dangling, os.mkfifo, nothing])
def test_what_lies_there_is_not_written_to(plant: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "worker.key"
    plant(path)
    _write_key(path, bytes(range(32)))
    assert path.is_file()
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert bytes.fromhex(path.read_text()) == bytes(range(32))
    for name, text in (("precious", "precious"), ("nowhere", None)):
        other = tmp_path / name
        assert not other.exists() or other.read_text() == text


def test_a_key_that_a_killed_coordinator_left_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    run({"dataset": str(data)}, tmp_path / "run", workers=1)
    key = tmp_path / "run" / "worker.key"
    key.write_text("old")
    with RunFolder.resume(tmp_path / "run"):
        assert not key.exists()
