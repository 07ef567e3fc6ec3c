"""Every verb, used as its help says."""

import json
import os
import pty
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.commands import command, dptrain, result
from tests.sessions import write_dataset

RESULT_KEYS = {
    "run",
    "digest",
    "steps",
    "epochs",
    "train_accuracy",
    "test_accuracy",
    "loss",
    "wall_seconds",
    "steps_per_second",
    "samples_per_second",
    "workers",
    "shards",
    "exchange",
}

FLAGS = [
    "--model",
    "--dataset",
    "--workers",
    "--shards",
    "--exchange",
    "--transport",
    "--epochs",
    "--steps",
    "--batch-size",
    "--activation",
    "--init",
    "--loss",
    "--label-smoothing",
    "--class-weights",
    "--positive-weight",
    "--huber-delta",
    "--l1",
    "--optimizer",
    "--lr",
    "--schedule",
    "--weight-decay",
    "--clip-norm",
    "--seed",
    "--dtype",
    "--validation",
    "--out",
    "--json",
    "--resume",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def job(data: Path) -> tuple[object, ...]:
    return ("--dataset", data, "--model", "mlp:20-7-3", "--batch-size", 20, "--epochs", 3)


@pytest.fixture(scope="module")
def run(job: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert set(result("train", *job, "--out", folder, "--curves")) >= RESULT_KEYS
    return folder


def test_a_run_folder_has_everything(run: Path) -> None:
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert files >= {
        "experiment.toml",
        "metrics.jsonl",
        "curves.png",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "rank-0.log",
        "rank-1.log",
    }
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "rank 0: joined" in (run / "rank-0.log").read_text()


def test_curves_need_not_be_drawn(job: tuple[object, ...], tmp_path: Path) -> None:
    result("train", *job, "--out", tmp_path / "run", "--no-curves")
    assert not (tmp_path / "run/curves.png").exists()
    assert dptrain("plot", tmp_path / "run").returncode == 0
    assert (tmp_path / "run/curves.png").exists()


def test_the_recorded_experiment_gives_the_same_digest(run: Path, tmp_path: Path) -> None:
    first = result("evaluate", run)["digest"]
    again = result("train", run / "experiment.toml", "--workers", 1, "--out", tmp_path / "again")
    assert again["digest"] == first
    assert again["exchange"] == "inline"


def test_evaluate_agrees_with_training(run: Path) -> None:
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    found = result("evaluate", run)
    assert found["loss"] == record["train_loss"]
    assert found["test_accuracy"] == record["test_accuracy"]
    assert dptrain("evaluate", run, "--checkpoint", "best").returncode == 0


def test_predict_where_there_is_but_one_class(tmp_path: Path) -> None:
    x = np.arange(24.0).reshape(12, 2)
    np.savez(tmp_path / "one.npz", x_train=x, t_train=np.zeros(12, int))
    np.save(tmp_path / "x.npy", x[:1])
    job = ("--dataset", tmp_path / "one.npz", "--model", "mlp:2-1", "--steps", 1, "--workers", 1)
    result("train", *job, "--out", tmp_path / "run")
    done = dptrain("predict", tmp_path / "run", "--input", tmp_path / "x.npy")
    assert done.returncode == 0, done.stderr
    assert "100.00%" in done.stdout


def test_predict_from_arrays_tables_and_pictures(data: Path, run: Path, tmp_path: Path) -> None:
    with np.load(data) as arrays:
        x = arrays["x_test"][:4]
    np.save(tmp_path / "x.npy", x)
    np.savetxt(tmp_path / "x.csv", x.reshape(4, 20), delimiter=",")
    from_array = result("predict", run, "--input", tmp_path / "x.npy")
    from_table = result("predict", run, "--input", tmp_path / "x.csv")
    assert from_array["classes"] == from_table["classes"]
    np.testing.assert_allclose(np.sum(from_array["probabilities"], axis=1), 1, atol=1e-6)
    from PIL import Image

    Image.fromarray(np.full((4, 5), 255, np.uint8)).save(tmp_path / "x.png")
    np.save(tmp_path / "white.npy", np.ones((4, 5)))
    picture = result("predict", run, "--input", tmp_path / "x.png")
    white = result("predict", run, "--input", tmp_path / "white.npy")
    assert picture["probabilities"] == white["probabilities"]


def test_plot_inspect_and_doctor(run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "both.svg"
    assert result("plot", run, run, "--out", picture)["picture"] == str(picture)
    assert "<svg" in picture.read_text()
    seen = result("inspect", run)
    assert [layer["name"] for layer in seen["layers"]] == ["flatten1", "dense1", "relu1", "dense2"]
    assert seen["parameters"] == 20 * 7 + 7 + 7 * 3 + 3
    assert "dense1" in dptrain("inspect", run).stdout
    examined = result("doctor")
    assert examined["ok"]
    blas = [f["value"] for f in examined["findings"] if f["what"] == "BLAS"]
    assert all("1 thread" in value for value in blas)


def test_flag_over_environment_over_file_over_default(
    job: tuple[object, ...], tmp_path: Path
) -> None:
    file = tmp_path / "experiment.toml"
    file.write_text("[experiment]\nlr = 0.25\nseed = 3\nepochs = 2\n[execution]\nworkers = 1\n")
    environment = os.environ | {"DPTRAIN_LR": "0.125", "DPTRAIN_SEED": "4"}
    out = tmp_path / "run"
    done = dptrain("train", file, *job[:-2], "--seed", 5, "--out", out, env=environment)
    assert done.returncode == 0, done.stderr
    experiment = result("inspect", out)["experiment"]
    assert (experiment["seed"], experiment["lr"], experiment["epochs"]) == (5, 0.125, 2)
    assert experiment["shards"] == 4


def test_off_a_terminal_there_is_a_line_per_epoch(job: tuple[object, ...], tmp_path: Path) -> None:
    done = dptrain("train", *job, "--out", tmp_path / "run")
    lines = done.stderr.splitlines()
    assert "minibatch global batch 20 = 4 shards of 5 over 2 workers (shared)" in lines
    assert [line.split()[:2] for line in lines if line.startswith("epoch")] == [
        ["epoch", "1"],
        ["epoch", "2"],
        ["epoch", "3"],
    ]
    assert "digest" in done.stdout
    assert "\x1b" not in done.stderr + done.stdout


def test_on_a_terminal_there_is_a_bar(job: tuple[object, ...], tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("train", *job[:-1], 60, "--out", tmp_path / "run"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    screen = b""
    while True:
        try:
            screen += os.read(ours, 65536)
        except OSError:  # how Linux tells that the other side is closed
            break
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = screen.decode()
    assert "global batch 20" in text
    assert "\x1b[" in text
    assert "rows/s" in text
    assert "finished" in text


def test_help_names_every_setting() -> None:
    text = dptrain("train", "--help", env=os.environ | {"COLUMNS": "200"}).stdout
    for flag in FLAGS:
        assert flag in text
    assert "auto" in text


def test_completion_can_be_installed(tmp_path: Path) -> None:
    environment = os.environ | {"HOME": str(tmp_path), "SHELL": "/bin/bash"}
    done = dptrain("--install-completion", env=environment)
    assert done.returncode == 0, done.stderr
    installed = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("train" in path.read_text() for path in installed)
