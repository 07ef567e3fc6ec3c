"""Calls that a container forbids: the way without them is taken, and the doctor says so."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from dptrain.cli.__main__ import main
from dptrain.errors import ResourceError
from tests.sessions import run, write_dataset


def forbidden(*_: object) -> NoReturn:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize(
    "calls",
    [
        ("pidfd_open",),
        ("memfd_create",),
        ("posix_fallocate",),
        ("pidfd_open", "memfd_create", "sched_setaffinity"),
    ],
    ids="+".join,
)
def test_a_run_without_them(
    calls: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"dataset": str(write_dataset(tmp_path / "small.npz"))}
    whole = run(data, tmp_path / "whole", workers=1)
    for call in calls:
        monkeypatch.setattr(os, call, forbidden)
    assert run(data, tmp_path / "run", workers=2).digest == whole.digest


def test_cores_that_cannot_be_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_dataset(tmp_path / "small.npz")
    job = ["train", "--dataset", str(data), "--model", "mlp:20-7-3", "--steps", "2", "--pin"]
    (tmp_path / "sitecustomize.py").write_text(
        "import os\ndef no(*_): raise PermissionError(1, 'no')\nos.sched_setaffinity = no\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the workers
    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    assert main([*job, "--out", str(tmp_path / "run")]) == 0
    assert "warning: --pin: this system does not let" in capsys.readouterr().err


def test_what_no_workers_can_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ZeroMQ would end the process."""
    data = {"dataset": str(write_dataset(tmp_path / "small.npz"))}
    monkeypatch.setattr(os, "eventfd", forbidden)
    for exchange in ("shared", "star"):
        with pytest.raises(ResourceError, match=r"eventfd: operation not permitted.*--workers 1"):
            run(data, tmp_path / exchange, workers=2, exchange=exchange)
    run(data, tmp_path / "alone", workers=1)
    assert main(["doctor"]) == 3
    assert capsys.readouterr().out.count("cannot be used: eventfd: operation not permitted") == 2


def test_the_doctor_tries(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    usual = capsys.readouterr().out
    for call in ("pidfd_open", "memfd_create", "sched_setaffinity"):
        monkeypatch.setattr(os, call, forbidden)
    assert main(["doctor"]) == 0
    here = capsys.readouterr().out
    for words, now in (
        ("deaths are noticed by polling", True),
        ("in an unlinked file of", True),
        ("without --pin", True),
        ("(memfd)", False),
    ):
        assert (words in here, words in usual) == (now, not now)
