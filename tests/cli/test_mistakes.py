"""Users' mistakes: one clear message, the right exit code, no traceback, nothing lost."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.cli.__main__ import main
from tests.commands import command, dptrain, result
from tests.sessions import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


Refused = Callable[..., str]


def message_of(out: str, err: str) -> str:
    assert "Traceback" not in err
    assert not out
    assert len([line for line in err.splitlines() if line.startswith("dptrain: ")]) == 1, err
    return err


def refused(code: int, *arguments: object, **settings: Any) -> str:
    """Run a verb that must fail; return its message."""
    done = dptrain(*arguments, **settings)
    assert done.returncode == code, done.stderr
    return message_of(done.stdout, done.stderr)


@pytest.fixture
def refused_here(capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a verb that must fail in this process, which takes a tenth of the time of another."""

    def run(code: int, *arguments: object) -> str:
        assert main([*map(str, arguments)]) == code
        return message_of(*capfd.readouterr())

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "two-leyer"), "did you mean 'two-layer'"),
        (("--model", "mlp:784"), "at least two sizes"),
        (("--model", "mlp:784-0-10"), "sizes of 1 or more"),
        (("--model", "mlp:784-x-10"), "sizes of 1 or more"),
        (("--model", "mlp:100-10"), "takes 100 inputs"),
        (("--model", "mlp:784-20-11"), "10 classes"),
        (("--loss", "sum-of-squares", "--model", "mlp:784-5"), "10 classes"),
        (("--optimizer", "adm"), "did you mean 'adam'"),
        (("--activation", "rlu"), "did you mean 'relu'"),
        (("--modle", "two-layer"), "did you mean '--model'"),
        (("--lr", "0"), "lr=0.0 is not allowed"),
        (("--lr", "-1"), "lr=-1.0"),
        (("--lr", "nan"), "lr=nan"),
        (("--lr", "fast"), "--lr"),
        (("--batch-size", "0"), "batch_size=0"),
        (("--batch-size", "1.5"), "needs a whole number"),
        (("--batch-size", "70000"), "60000 training rows"),
        (("--shards", "-2"), "shards=-2"),
        (("--workers", "8", "--shards", "4"), "workers=8 needs at least 8 shards"),
        (("--workers", "none"), "'auto'"),
        (("--workers", "2", "--exchange", "inline"), "one process"),
        (("--join", "3", "--workers", "2"), "join=3"),
        (("--epochs", "1", "--steps", "1"), "exclude each other"),
        (("--momentum", "0.5", "--optimizer", "adam"), "momentum=0.5 means nothing"),
        (("--label-smoothing", "0.1", "--loss", "hinge"), "label_smoothing=0.1 means nothing to"),
        (("--positive-weight", "2"), "it is for binary-cross-entropy"),
        (("--huber-delta", "2", "--loss", "mean-squared-error"), "it is for huber"),
        (("--huber-delta", "0", "--loss", "huber"), "huber_delta=0.0 is not allowed"),
        (("--label-smoothing", "1"), "label_smoothing=1.0 is not allowed"),
        (("--class-weights", "1,2"), "class_weights has 2 numbers, but the data set has 10"),
        (("--class-weights", "1,x"), "such as 1,2.5"),
        (("--class-weights", "1,0"), "class_weights=[1.0, 0.0] is not allowed"),
        (("--l1", "-1"), "l1=-1.0 is not allowed"),
        (("--loss", "hing"), "did you mean 'hinge'"),
        (("--decay-rate", "0.5"), "means nothing to schedule constant"),
        (("--init", "he", "--init-std", "0.1"), "init_std is for init normal"),
        (("--validation", "1"), "validation=1.0"),
        (("--seed", "-1"), "seed=-1"),
        (("--patience", "5"), "hold some out with --validation 0.1"),
        (("--min-improvement", "0.1"), "means nothing without patience"),
        (("--train-rows", "60001"), "more than the 60000 training rows that there are"),
        (("--augment-shift", "28"), "augment_shift=28 would shift images of shape (28, 28) out"),
    ],
)
def test_settings(
    arguments: tuple[str, ...], message: str, tmp_path: Path, refused_here: Refused
) -> None:
    run = tmp_path / "run"
    assert message in refused_here(2, "train", "--out", run, *arguments)
    assert not run.exists()


def test_verbs() -> None:
    assert "did you mean 'train'" in refused(2, "trian")
    assert "run" in refused(2, "evaluate").lower()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[experiment]\nmodle = 'two-layer'", "unknown key 'modle'; did you mean 'model'"),
        ("lr = 0.1", "put it under [experiment]"),
        ("[experimnt]\nlr = 0.1", "experimnt"),
        ("[experiment]\nlr = 'fast'", "lr='fast'"),
        ("[experiment]\noptimizer = 'adm'", "did you mean 'adam'"),
        ("[experiment\n", "not valid TOML"),
        ("[[experiment.layers]]\nlayer = 'dnse'\nunits = 10", "did you mean 'dense'"),
    ],
)
def test_experiment_files(text: str, message: str, tmp_path: Path, refused_here: Refused) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text(text)
    assert message in refused_here(2, "train", file, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def damaged(tmp_path: Path, kind: str) -> Path:
    """Write a data set that cannot be used."""
    x = np.ones((20, 4))
    t = np.arange(20) % 2
    path = tmp_path / "data.npz"
    if kind == "nan":
        x[3, 1] = np.nan
    elif kind == "negative label":
        t[5] = -1
    elif kind == "rows":
        t = t[:-1]
    if kind == "csv":
        path = tmp_path / "data.csv"
        path.write_text("a,b,label\n1,2,0\n1,x,1\n")
    elif kind == "idx":
        path = tmp_path / "idx"
        path.mkdir()
        (path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + bytes(20))
        (path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x05abc")
    elif kind == "key":
        np.savez(path, x_trian=x, t_train=t)
    else:
        np.savez(path, x_train=x, t_train=t)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.mark.parametrize(
    "kind", ["nan", "negative label", "rows", "csv", "idx", "key", "truncated", "missing"]
)
def test_data(kind: str, tmp_path: Path, refused_here: Refused) -> None:
    path = tmp_path / "nowhere.npz" if kind == "missing" else damaged(tmp_path, kind)
    run = tmp_path / "run"
    message = refused_here(1, "train", "--dataset", path, "--model", "mlp:4-2", "--out", run)
    assert str(path) in message or "x_train" in message or "t_train" in message
    assert not run.exists()


def test_a_diverging_run(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = ("--dataset", data, "--model", "mlp:20-7-3", "--batch-size", 20, "--optimizer", "sgd")
    for workers in (1, 2):
        where = f"{run}{workers}"
        limits = ("--workers", workers, "--out", where, "--checkpoint-every", 1)
        done = dptrain("train", *job, "--lr", "1e30", *limits)
        assert done.returncode == 5
        assert "Traceback" not in done.stderr
        assert "step " in done.stderr
        assert re.search(r"rank [01], shard [0-3]", done.stderr)
        assert "layer dense" in done.stderr
        assert f"{where}/checkpoints/last.safetensors" in done.stderr
        assert result("evaluate", where)["step"] >= 1


def test_checkpoints(data: Path, tmp_path: Path) -> None:
    job = ("--dataset", data, "--batch-size", 20, "--steps", 3, "--workers", 1)
    run, other = tmp_path / "run", tmp_path / "other"
    result("train", *job, "--model", "mlp:20-7-3", "--out", run)
    result("train", *job, "--model", "mlp:20-8-3", "--out", other)
    file = run / "checkpoints" / "last.safetensors"
    good = file.read_bytes()
    for verb in (("evaluate", run), ("train", "--resume", run)):
        file.write_bytes(good[:-100])
        assert str(file) in refused(1, *verb)
        file.write_bytes(good[:2000] + bytes([good[2000] ^ 1]) + good[2001:])
        assert str(file) in refused(1, *verb)
    file.unlink()
    assert "has no checkpoint" in refused(1, "train", "--resume", run)
    assert "no such run folder" in refused(1, "evaluate", tmp_path / "nowhere")


def test_resuming_keeps_the_experiment(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = ("--dataset", data, "--batch-size", 20, "--steps", 3, "--workers", 1)
    result("train", *job, "--model", "mlp:20-7-3", "--out", run)
    assert "its own lr" in refused(2, "train", "--resume", run, "--lr", 1)
    assert "leave out --out" in refused(2, "train", "--resume", run, "--out", tmp_path)
    message = refused(2, "train", "--resume", run, "--workers", 8)
    assert "workers=8 needs at least 8 shards" in message
    assert "never overwrites" in refused(1, "train", *job, "--out", run)


def test_data_that_has_changed_is_noticed(tmp_path: Path) -> None:
    path, run = tmp_path / "data.npz", tmp_path / "run"
    write_dataset(path)
    job = ("--dataset", path, "--model", "mlp:20-7-3", "--batch-size", 20, "--steps", 3)
    result("train", *job, "--workers", 1, "--out", run)
    write_dataset(path, rows=138)
    message = refused(1, "train", run / "experiment.toml", "--out", tmp_path / "again")
    assert "is not what the experiment was recorded with" in message


def test_unwritable_folders(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    job = ("--dataset", data, "--model", "mlp:20-7-3", "--batch-size", 20, "--steps", 3)
    assert str(file) in refused(1, "train", *job, "--out", file / "run")


def test_a_full_disk_is_told_once(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = ("--dataset", data, "--model", "mlp:20-4000-3", "--batch-size", 20, "--epochs", 3)
    line = command("train", *job, "--workers", 1, "--out", run, "--json")
    script = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *line]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("training goes on") == 1
    assert "Traceback" not in done.stderr
    assert '"steps": 21' in done.stdout


def test_prediction_inputs(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = ("--dataset", data, "--batch-size", 20, "--steps", 3, "--workers", 1)
    result("train", *job, "--model", "mlp:20-7-3", "--out", run)
    wrong = tmp_path / "wrong.npy"
    np.save(wrong, np.ones((2, 7)))
    assert "samples of shape (4, 5)" in refused(2, "predict", run, "--input", wrong)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    assert str(broken) in refused(1, "predict", run, "--input", broken)
    assert "no such file" in refused(1, "predict", run, "--input", tmp_path / "nowhere.npy")
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    assert str(objects) in refused(1, "predict", run, "--input", objects)
