"""Files that are nested, huge, torn or neither file nor folder get one message, in bounded time."""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dptrain.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from dptrain.cli import pictures
from dptrain.cli.__main__ import main
from dptrain.data.npy import npy_header
from dptrain.errors import DataError, UsageError, printable
from dptrain.experiment import toml_limits
from dptrain.experiment.files import parse_toml
from tests.sessions import run, write_dataset

Told = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    data = write_dataset(folder / "small.npz")
    run({"dataset": str(data)}, folder / "run", workers=1)
    return folder / "run"


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Run a verb that fails; return what it says."""

    def failing(code: int, *arguments: object) -> str:
        capsys.readouterr()
        assert main([str(each) for each in arguments]) == code
        return capsys.readouterr().err

    return failing


def nested(depth: int) -> str:
    return f"[experiment]\nlayers = {'[' * depth}{']' * depth}\n"


def keyed(parts: int) -> str:
    return f"[experiment]\n{'.'.join(['a'] * parts)} = 1\n"


ODD_TOML = {
    "brackets": (nested(151), "is nested more than 150 deep"),
    "tables": ("[experiment]\na = " + "{b = " * 151 + "1" + "}" * 151, "is nested more than 150"),
    "dotted": (keyed(21), "has a key of more than 20 parts"),
    "quoted": (keyed(21).replace("a", '"a"'), "has a key of more than 20 parts"),
    "header": (f"[{'.'.join(['a'] * 21)}]\n", "has a key of more than 20 parts"),
    "integer": ("[experiment]\nepochs = " + "9" * 5000, "is not valid TOML: Exceeds the limit"),
}


@pytest.mark.parametrize("name", ODD_TOML)
def test_toml_that_is_no_experiment(name: str, told: Told, trained: Path, tmp_path: Path) -> None:
    text, words = ODD_TOML[name]
    (tmp_path / "odd.toml").write_text(text)
    assert words in told(2, "train", tmp_path / "odd.toml")

    def odd(found: Checkpoint) -> Checkpoint:
        return replace(found, experiment=text)

    edited(trained, tmp_path / "run", odd)
    for verb in ("evaluate", "inspect"):
        assert words in told(1, verb, tmp_path / "run")


def edited(trained: Path, copy: Path, change: Callable[[Checkpoint], Checkpoint]) -> Path:
    """Copy a run with another checkpoint, whose checksum is right."""
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "experiment.toml").write_bytes((trained / "experiment.toml").read_bytes())
    last = Path("checkpoints") / "last.safetensors"
    save_checkpoint(copy / last, change(load_checkpoint(trained / last)))
    return copy


def test_brackets_and_dots_in_strings_and_comments_are_nothing() -> None:
    names = ", ".join(f'"[{i}, {i + 1})"' for i in range(200))
    words = ".".join(["a"] * 30)
    text = f"[experiment]  # {'[' * 200}\ncolumns = [{names}]\nlabel = '''{words}\n{'{' * 200}'''\n"
    found = parse_toml(text, "the test")
    assert len(found["experiment"]["columns"]) == 200


def test_a_text_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml_limits, "MOST_BYTES", 100)
    with pytest.raises(UsageError, match="has 101 characters, and an experiment at most 100"):
        parse_toml("#" * 101, "the test")


def test_json_that_is_nested(told: Told) -> None:
    deep = '{"a": ' + "[" * 20_000 + "]" * 20_000 + "}"
    assert "nested too deeply" in told(2, "train", "--model", "net.py:Net", "--model.args", deep)


def png(width: int, height: int) -> bytes:
    """Return a picture without pixels, of which only the header is ever read here."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    ends = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + ends


HEADER = npy_header((10**9, 4, 5), np.dtype("f8"))
ODD_SAMPLES: dict[str, tuple[bytes, str]] = {
    "a.png": (png(10_001, 10_000), "has 10,001 x 10,000 pixels, more than 100,000,000; make it"),
    "b.png": (png(40_000, 40_000), "has too many pixels"),
    "a.npy": (HEADER, "truncated: shape (1000000000, 4, 5) takes 160,000,000,000 bytes"),
    "b.npy": (HEADER[:60] + b"(" * (len(HEADER) - 60), "cannot be read"),
    "a.csv": (b"1" * 200_000 + b",1" * 19 + b"\n", "line 1: field larger than field limit"),
}


@pytest.mark.parametrize("name", ODD_SAMPLES)
def test_samples_that_cannot_be_read(name: str, told: Told, trained: Path, tmp_path: Path) -> None:
    data, words = ODD_SAMPLES[name]
    (tmp_path / name).write_bytes(data)
    assert f"{tmp_path / name}: " in (
        said := told(1, "predict", trained, "--input", tmp_path / name)
    )
    assert words in said


def test_the_limit_of_pixels_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_PIXELS", 12)
    (tmp_path / "a.png").write_bytes(png(4, 3))
    pictures._opened(tmp_path / "a.png").close()
    (tmp_path / "a.png").write_bytes(png(13, 1))
    with pytest.raises(DataError, match="has 13 x 1 pixels, more than 12"):
        pictures._opened(tmp_path / "a.png")


@pytest.mark.parametrize("count", [2, 4, 2000])
def test_class_names_that_are_not_as_many_as_the_outputs(
    count: int, told: Told, trained: Path, tmp_path: Path
) -> None:
    names = "\n".join(f"c{i}" for i in range(count))

    def renamed(found: Checkpoint) -> Checkpoint:
        return replace(found, progress={**found.progress, "class_names": names})

    copy = edited(trained, tmp_path / "run", renamed)
    np.save(tmp_path / "x.npy", np.zeros((1, 4, 5)))
    for verb in (("predict", copy, "--input", tmp_path / "x.npy"), ("evaluate", copy)):
        assert "last.safetensors: " in (said := told(1, *verb))
        assert str(count) in said


def test_a_pipe_is_no_data_set(told: Told, trained: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    assert "a.csv: is neither a file nor a folder" in told(
        1, "train", "--dataset", tmp_path / "a.csv"
    )

    def elsewhere(found: Checkpoint) -> Checkpoint:
        data = trained.parent / "small.npz"
        return replace(
            found, experiment=found.experiment.replace(str(data), str(tmp_path / "a.csv"))
        )

    copy = edited(trained, tmp_path / "run", elsewhere)
    assert "a.csv: is neither a file nor a folder" in told(1, "evaluate", copy)
    os.mkfifo(tmp_path / "a.npy")
    for name in ("a.csv", "a.npy"):
        assert f"{name}: is not a file" in told(1, "predict", trained, "--input", tmp_path / name)


@pytest.mark.parametrize("name", ["metrics.jsonl", ".lock", "rank-0.log", "experiment.toml"])
def test_a_pipe_in_a_run_folder_is_not_waited_for(
    name: str, told: Told, trained: Path, tmp_path: Path
) -> None:
    copy = edited(trained, tmp_path / "run", lambda found: found)
    (copy / name).unlink(missing_ok=True)
    os.mkfifo(copy / name)
    said = told(1, "train", "--resume", copy)
    assert str(copy / name) in said
    assert str(copy) in told(1, "verify", copy)


def test_what_a_terminal_would_obey_is_written_out(
    told: Told, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printable("a\x1b[2Jb\x07\x9b\r\tc\nd é") == "a\\x1b[2Jb\\x07\\x9b\\x0d\tc\nd é"

    def named(found: Checkpoint) -> Checkpoint:
        return replace(found, tensors=found.tensors | {"more\x1b[31m": np.zeros(1, np.float32)})

    said = told(1, "inspect", edited(trained, tmp_path / "tensors", named))
    assert "\\x1b[31m" in said
    assert "\x1b" not in said

    def classes(found: Checkpoint) -> Checkpoint:
        return replace(found, progress={**found.progress, "class_names": "a\x1b[2J\nb\nc"})

    copy = edited(trained, tmp_path / "classes", classes)
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 5)))
    assert main(["predict", str(copy), "--input", str(tmp_path / "x.npy")]) == 0
    assert "\x1b" not in capsys.readouterr().out
