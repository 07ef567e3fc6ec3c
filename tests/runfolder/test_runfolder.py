"""Run folders: made once, written by one, found again by any of their members."""

import os
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from dptrain.errors import RunFolderError
from dptrain.runfolder import RunFolder

STARTED = datetime(2026, 11, 21, 3, 45, 0)

HOLDER = """
import sys
from pathlib import Path
from dptrain.runfolder import RunFolder

run = RunFolder.create_at(Path(sys.argv[1]))
for path in (run.experiment, run.last):
    path.touch()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder: logs/ is relative."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_run(path: Path, *members: str) -> Path:
    with RunFolder.create_at(path) as run:
        for member in ("experiment.toml", *members):
            (run.path / member).touch()
    return path


def test_a_run_is_made_under_logs() -> None:
    now = datetime.now()
    with RunFolder.create("two-layer") as run:
        assert run.path.parent == Path("logs")
        made = datetime.strptime(run.path.name, "%Y%m%d-%H%M%S-two-layer")
        assert abs((made - now).total_seconds()) < 60


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("mlp:784-50-10", "mlp-784-50-10"),
        ("two-layer", "two-layer"),
        ("../../etc: a/b ", "etc-a-b"),
        ("v1.5_x", "v1.5_x"),
        ("모델", "model"),
        ("", "model"),
        ("mlp:" + "100-" * 100, ("mlp-" + "100-" * 100)[:79]),
    ],
)
def test_the_model_is_in_the_name(model: str, name: str) -> None:
    with RunFolder.create(model, started=STARTED) as run:
        assert run.path == Path("logs") / f"20261121-034500-{name}"


def test_runs_of_the_same_second_get_a_number() -> None:
    runs = [RunFolder.create("m", parent=Path("a/b"), started=STARTED) for _ in range(3)]
    assert [str(run.path) for run in runs] == [
        "a/b/20261121-034500-m",
        "a/b/20261121-034500-m-2",
        "a/b/20261121-034500-m-3",
    ]
    for run in runs:
        run.close()


def test_members_have_their_places() -> None:
    with RunFolder.create_at(Path("run")) as run:
        members = [run.experiment, run.metrics, run.curves, run.last, run.best, run.rank_log(12)]
        assert [str(member) for member in members] == [
            "run/experiment.toml",
            "run/metrics.jsonl",
            "run/curves.png",
            "run/checkpoints/last.safetensors",
            "run/checkpoints/best.safetensors",
            "run/rank-12.log",
        ]
        assert all(member.parent.is_dir() for member in members)


def test_checkpoints_that_are_kept_of_epochs() -> None:
    with RunFolder.create_at(Path("run")) as run:
        assert str(run.of_epoch(3)) == "run/checkpoints/epoch-0003.safetensors"
        for epoch in (12, 3, 12345):
            run.of_epoch(epoch).touch()
        for stranger in ("epoch-x.safetensors", "epoch-3.safetensors", "epoch-0004.txt"):
            (run.last.parent / stranger).touch()
        assert list(run.kept()) == [3, 12, 12345]
        assert run.kept()[12] == run.of_epoch(12)
        run.discard_kept_after(3)
        assert list(run.kept()) == [3]
        assert len(list(run.last.parent.iterdir())) == 4


def test_a_folder_given_with_out_must_be_new_or_empty() -> None:
    Path("empty").mkdir()
    for path in ("empty", "new/below"):
        RunFolder.create_at(Path(path)).close()
        RunFolder.create_at(Path(path)).close()  # as after a run that failed before it began
    Path("checkpoints").mkdir()
    for stranger in ("empty/file", "new/below/checkpoints/last.safetensors"):
        Path(stranger).touch()
        folder = Path(stranger.removesuffix("/file").removesuffix("/checkpoints/last.safetensors"))
        message = f"{folder}: is not empty, and .*; choose another .* --out"
        with pytest.raises(RunFolderError, match=message):
            RunFolder.create_at(folder)
        assert Path(stranger).exists()


LEFT = ("experiment.toml", "rank-0.log", "rank-11.log", "metrics.jsonl", "worker.key")


def test_a_run_that_was_killed_before_it_saved_gives_its_folder_to_the_next() -> None:
    run = Path("run")
    RunFolder.create_at(run).close()
    for name in (*LEFT, ".experiment.toml.17.tmp", "checkpoints/.last.safetensors.17.tmp"):
        (run / name).write_text("old")
    RunFolder.create_at(run).close()
    assert {each.name for each in run.iterdir()} == {".lock", "checkpoints", "experiment.toml"}
    with (
        RunFolder.create_at(run),
        pytest.raises(RunFolderError, match=f"process {os.getpid()} is writing into this run"),
    ):
        RunFolder.create_at(run)


@pytest.mark.parametrize("lock", ["", "Vim 9.1", "12"])
def test_a_lock_of_another_program_makes_no_run_of_a_folder(lock: str, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(lock)
    for name in ("metrics.jsonl", ".notes.tmp", "rank-0.log"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(RunFolderError, match="is not empty"):
        RunFolder.create_at(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == "mine"
    assert (tmp_path / ".notes.tmp").read_text() == "mine"


@pytest.mark.parametrize("what", ["a folder", "a link"])
def test_what_is_not_a_plain_file_is_not_left_by_a_run(what: str, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("4194305\n")
    if what == "a folder":
        (tmp_path / ".mine.tmp").mkdir()
    else:
        (tmp_path / ".mine.tmp").symlink_to("elsewhere")
    with pytest.raises(RunFolderError, match="is not empty"):
        RunFolder.create_at(tmp_path)
    assert (tmp_path / ".mine.tmp").is_symlink() or (tmp_path / ".mine.tmp").is_dir()


@pytest.mark.parametrize("kept", ["checkpoints/best.safetensors", "notes.txt", "rank-x.log"])
def test_whatever_else_is_there_stays(kept: str) -> None:
    run = Path("run")
    RunFolder.create_at(run).close()
    for name in (*LEFT, kept):
        (run / name).write_text("old")
    with pytest.raises(RunFolderError, match=r"is not empty, .* choose another folder with --out"):
        RunFolder.create_at(run)
    assert all((run / name).read_text() == "old" for name in (*LEFT, kept))


def test_an_experiment_without_a_run_is_its_owners() -> None:
    Path("mine").mkdir()
    Path("mine/experiment.toml").write_text("[experiment]")
    with pytest.raises(RunFolderError, match="is not empty"):
        RunFolder.create_at(Path("mine"))


def test_a_strangers_folder_is_left_as_it_was() -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("three years")
    with pytest.raises(RunFolderError, match="is not empty"):
        RunFolder.create_at(Path("mine"))
    assert list(Path("mine").iterdir()) == [Path("mine/thesis.txt")]


def test_where_no_folder_can_be_made() -> None:
    Path("file").touch()
    for path in ("file", "file/run"):
        with pytest.raises(RunFolderError, match=r"cannot make the run folder: .*--out"):
            RunFolder.create_at(Path(path))
        with pytest.raises(RunFolderError, match=r"cannot make the run folder: .*--out"):
            RunFolder.create("m", parent=Path(path))
    Path("dangling").symlink_to("nowhere/at/all")
    with pytest.raises(RunFolderError, match="cannot make the run folder"):
        RunFolder.create("m", parent=Path("dangling"))


def test_a_run_is_found_by_its_folder_and_by_its_members(here: Path) -> None:
    a_run(Path("run"), "metrics.jsonl", "checkpoints/last.safetensors")
    members = [
        "",
        "experiment.toml",
        "metrics.jsonl",
        "checkpoints",
        "checkpoints/last.safetensors",
    ]
    for member in members:
        assert RunFolder.open(Path("run") / member).path == Path("run")
        assert RunFolder.open(here / "run" / member).path == here / "run"


def test_a_checkpoint_that_is_not_there() -> None:
    run = RunFolder.open(a_run(Path("run")))
    message = r"run: has no checkpoint checkpoints/last.safetensors; .* dptrain train run/exp"
    with pytest.raises(RunFolderError, match=message):
        run.existing_checkpoint("last")
    run.last.touch()
    assert run.existing_checkpoint("last") == run.last
    message = r"has no checkpoint checkpoints/best.safetensors \(but run/checkpoints/last.safe"
    with pytest.raises(RunFolderError, match=message):
        run.existing_checkpoint("best")


def test_what_is_no_run() -> None:
    Path("empty").mkdir()
    Path("image.png").touch()
    a_run(Path("logs/20261121-034500-two-layer"))
    a_run(Path("logs/20261121-034700-two-layer"))
    a_run(Path("elsewhere/first"))
    newest = "logs/20261121-034700-two-layer"
    for path, message in [
        ("empty", "empty: not a run folder: there is no empty/experiment.toml"),
        ("image.png", "image.png: not a run folder: there is no experiment.toml"),
        ("logs", f"logs: holds 2 run folders; name one, such as the newest, {newest}"),
        ("logs/20261121-034700-two-laye", f"there is no such run folder; did you mean '{newest}'?"),
        ("20261121-034700-two-layer", f"there is no such run folder; did you mean '{newest}'?"),
        ("elsewhere/frist", "did you mean 'elsewhere/first'?"),
        ("x", "x: there is no such run folder; runs are in logs/"),
        ("nowhere/x", "nowhere/x: there is no such run folder; runs are in logs/"),
        ("image.png/x", "image.png/x: there is no such run folder"),
        ("n" * 300, "cannot be read: File name too long"),
    ]:
        with pytest.raises(RunFolderError, match=re.escape(message)):
            RunFolder.open(Path(path))


def test_reading_needs_no_lock_and_writes_nothing() -> None:
    path = a_run(Path("run"), "checkpoints/last.safetensors")
    Path("run/.lock").unlink()
    before = sorted(path.rglob("*"))
    with RunFolder.open(path), RunFolder.open(path):
        assert sorted(path.rglob("*")) == before


def test_resuming_needs_a_checkpoint() -> None:
    path = a_run(Path("run"))
    with pytest.raises(RunFolderError, match="has no checkpoint"):
        RunFolder.resume(path)
    RunFolder.open(path).last.touch()
    RunFolder.resume(path).close()


def test_resuming_sweeps_what_a_killed_coordinator_left() -> None:
    path = a_run(Path("run"), "checkpoints/last.safetensors")
    orphans = [path / f".metrics.jsonl.{os.getpid()}.tmp"]
    orphans.append(path / "checkpoints" / f".last.safetensors.{os.getpid()}.tmp")
    for orphan in orphans:
        orphan.touch()
    with RunFolder.open(path):
        assert all(orphan.exists() for orphan in orphans)
    with RunFolder.resume(path) as run:
        assert not any(orphan.exists() for orphan in orphans)
        assert run.last.exists()


def test_a_folder_has_one_writer_at_a_time() -> None:
    path = a_run(Path("run"), "checkpoints/last.safetensors")
    with RunFolder.resume(path) as first:
        with pytest.raises(RunFolderError, match=f"process {os.getpid()} is writing into this run"):
            RunFolder.resume(path)
        assert RunFolder.open(path).path == first.path
    first.close()
    RunFolder.resume(path).close()


def test_the_lock_names_its_holder_and_ends_with_it() -> None:
    command = [sys.executable, "-c", HOLDER, "run"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        message = f"run: process {holder.pid} is writing into this run; .*`kill {holder.pid}`"
        with pytest.raises(RunFolderError, match=message):
            RunFolder.resume(Path("run"))
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
    with RunFolder.resume(Path("run")):
        assert Path("run/.lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_names_its_newest_holder() -> None:
    path = a_run(Path("run"), "checkpoints/last.safetensors")
    Path("run/.lock").write_text("12345678901234567\n")  # of another machine, with longer numbers
    with RunFolder.resume(path):
        assert Path("run/.lock").read_text() == f"{os.getpid()}\n"


def test_workers_do_not_inherit_the_lock() -> None:
    path = a_run(Path("run"), "checkpoints/last.safetensors")
    run = RunFolder.resume(path)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        run.close()
        RunFolder.resume(path).close()
        worker.communicate(b"\n")


def test_a_file_system_without_locks_is_used_without(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    RunFolder.create_at(Path("run")).close()


def test_a_lock_that_cannot_be_written() -> None:
    path = a_run(Path("run"), "checkpoints/last.safetensors")
    Path("run/.lock").unlink()
    Path("run/.lock").mkdir()
    with pytest.raises(RunFolderError, match=r"run/\.lock: cannot be written: Is a directory"):
        RunFolder.resume(path)
