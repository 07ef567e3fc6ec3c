"""Output that is closed, full, or of few characters: what was trained is trained all the same."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dptrain
from dptrain.cli.__main__ import main
from dptrain.report.observers import observer_for
from tests.commands import command
from tests.sessions import write_dataset


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    data = write_dataset(tmp_path_factory.mktemp("data") / "small.npz")
    return ["train", "--dataset", str(data), "--model", "mlp:20-7-3", "--batch-size", "20"]


def lasts(run: Path) -> bool:
    return (run / "checkpoints" / "last.safetensors").exists()


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams(closed: tuple[int, ...], job: list[str], tmp_path: Path) -> None:
    """Closed as a shell does, so that the numbers are free for the files that come next."""
    shell = 'exec "$@" ' + " ".join(f"{'<' if n == 0 else f'{n}>'}&-" for n in closed)
    line = command(*job, "--steps", 3, "--out", tmp_path / "run")
    done = subprocess.run(["/bin/sh", "-c", shell, "sh", *line], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert lasts(tmp_path / "run")
    assert b"Traceback" not in done.stderr
    assert (b"digest" in done.stdout) == (1 not in closed)


@pytest.mark.parametrize("verb", ["train", "inspect", "doctor"])
@pytest.mark.parametrize("encoding", ["ascii", "euc-kr", "shift_jis", "latin-1"])
def test_characters_that_an_encoding_lacks(
    verb: str,
    encoding: str,
    job: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path_factory.getbasetemp() / f"run-{encoding}"
    arguments = {
        "train": [*job, "--workers", "1", "--steps", "3", "--out", str(run)],
        "inspect": ["inspect", str(run)],
        "doctor": ["doctor"],
    }
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    assert main(arguments[verb]) == 0
    assert b"digest" in written.getvalue() or verb == "doctor"


class Writes:
    """What scripts put in the place of a stream, and what is left of a terminal that is closed."""

    def write(self, text: str) -> None:
        """Fail."""
        raise OSError(5, text)


@pytest.mark.parametrize("stream", [None, Writes()])
def test_a_run_without_anything_to_show_it_on(
    stream: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network, x = dptrain.Network(8, [dptrain.Dense(2)]), np.eye(8, dtype=np.float32)
    monkeypatch.setattr(sys, "stderr", stream)
    run = tmp_path / "run"
    found = dptrain.fit(network, (x, np.arange(8) % 2), steps=3, batch_size=4, workers=1, out=run)
    assert found.notes
    assert lasts(run)
    assert not capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("holds", [True, False])
def test_output_that_cannot_be_written_is_told_of(
    holds: bool,
    job: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Path("/dev/full").open("wb", buffering=-1 if holds else 0) as file:
        full = io.TextIOWrapper(file, write_through=not holds)
        monkeypatch.setattr(sys, "stdout", full)
        assert main([*job, "--workers", "1", "--steps", "3", "--out", str(tmp_path / "run")]) == 1
    assert "cannot write to standard output: no space left on device" in capsys.readouterr().err
    assert lasts(tmp_path / "run")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_messages_that_cannot_be_written_stop_nothing(job: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*job, "--steps", 3, "--out", tmp_path / "run"),
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert done.returncode == 0
    assert b"digest" in done.stdout


def test_a_reader_that_goes_away_does_not_end_a_run() -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    observer = observer_for(stream)
    os.close(reader)
    observer.note("nobody reads this")
    observer.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


@pytest.mark.parametrize("module", ["cyclopts", "dptrain.cli.train", "dptrain.runfolder"])
def test_interrupted_while_it_imports(module: str, job: list[str], tmp_path: Path) -> None:
    """The interrupt comes when the module is looked for; it is then imported on and on."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Strike:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Strike())\n"
    )
    done = subprocess.run(
        [sys.executable, *command(*job, "--out", tmp_path / "run")[1:]],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "dptrain: interrupted\n")


def test_a_reader_that_has_had_enough_is_no_error_without_a_buffer_either() -> None:
    command = [sys.executable, "-u", "-m", "dptrain.cli", "doctor", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert not done.stderr
