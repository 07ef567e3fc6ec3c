"""Compressing real runs: the table says what the written file holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.compression import measured, variants
from dptrain.errors import DataError, UsageError
from dptrain.experiment.evaluation_job import evaluation_job
from dptrain.trained import load_run
from dptrain.weights.model_file import model_bytes
from tests.commands import dptrain, result
from tests.sessions import run, write_dataset

WEIGHTS = 20 * 7 + 7 * 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    run({"dataset": str(data), "steps": 60, "lr": 0.02}, path, workers=1)
    return path


def table(folder: Path, fractions: list[float], bits: int | None) -> list[Any]:
    trained, saved = load_run(folder, "last")
    job = evaluation_job(trained.experiment, None)
    return list(measured(trained, saved, job, variants(trained, fractions, bits)))


def test_rows_of_the_table(folder: Path, data: Path) -> None:
    found = table(folder, [0.5, 0.9], 8)
    assert [(row.pruned, row.bits) for row in found] == [
        (None, None), (0.5, None), (0.9, None), (None, 8), (0.5, 8), (0.9, 8),
    ]  # fmt: skip
    assert [row.nonzero for row in found[:3]] == [WEIGHTS, WEIGHTS - 80, WEIGHTS - 145]
    assert found[0].agreement == 1
    assert found[2].agreement < 1
    trained, _ = load_run(folder, "last")
    with np.load(data) as arrays:
        x, t = arrays["x_test"], arrays["t_test"]
    assert found[0].accuracy == trained.accuracy(x, t)
    pruned = variants(trained, [0.9], None)[1]
    again = type(trained)(
        trained.network, pruned.parameters, trained.experiment, trained.class_names
    )
    assert found[2].accuracy == again.accuracy(x, t)
    assert found[2].agreement == np.mean(again.classify(x) == trained.classify(x))


def test_zeros_and_small_numbers_take_less_room(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data.npz")
    run({"dataset": str(data), "model": "mlp:20-200-3", "steps": 1}, tmp_path / "run", workers=1)
    sizes = {(row.pruned, row.bits): row.bytes for row in table(tmp_path / "run", [0.9], 8)}
    assert sizes[0.9, 8] < sizes[0.9, None] < sizes[None, 8] < sizes[None, None]


@pytest.mark.parametrize("flags", [("--prune", 0.8), ("--bits", 8), ("--prune", 0.8, "--bits", 4)])
def test_the_written_model_is_the_last_row(
    flags: tuple[object, ...], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small.npz"
    compressed = result("compress", folder, *flags, "--out", out)
    row = compressed["rows"][-1]
    assert compressed["out"] == str(out)
    assert row["bytes"] == out.stat().st_size
    evaluated = result("evaluate", out)
    assert evaluated["test_accuracy"] == row["accuracy"]
    assert evaluated["test_loss"] == row["loss"]
    assert result("inspect", out)["digest"] == evaluated["digest"]
    again = result("compress", out, *flags)["rows"]
    assert {each["nonzero"] for each in again} == {row["nonzero"]}
    assert {each["loss"] for each in again} == {row["loss"]}
    assert again[-1]["bytes"] == row["bytes"]


def test_predicting_with_a_compressed_model(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.npz"
    result("compress", folder, "--bits", 8, "--out", out)
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal((5, 4, 5)))
    before = result("predict", folder, "--input", tmp_path / "x.npy")
    after = result("predict", out, "--input", tmp_path / "x.npy")
    assert before["class_names"] == after["class_names"]
    assert before["probabilities"] != after["probabilities"]
    np.testing.assert_allclose(before["probabilities"], after["probabilities"], atol=0.02)


def test_without_options_several_are_tried(folder: Path) -> None:
    done = dptrain("compress", folder)
    assert done.returncode == 0, done.stderr
    cells = [line.split() for line in done.stdout.splitlines()]
    assert ["0.9", "8"] in [row[:2] for row in cells]
    assert len([row for row in cells if row and row[-1].endswith("%")]) == 8


def test_a_regression_has_losses_only(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data.npz", regression=True)
    run({"dataset": str(data), "model": "mlp:20-7-2"}, tmp_path / "run", workers=1)
    found = table(tmp_path / "run", [0.5], 8)
    assert {(row.accuracy, row.agreement) for row in found} == {(None, None)}
    assert len({row.loss for row in found}) == 4
    assert dptrain("compress", tmp_path / "run").returncode == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--prune", "1.5"), "prune=1.5 must be a fraction"),
        (("--prune", "half"), "prune='half' is not a list of fractions"),
        (("--bits", "9"), "bits=9 must be 2 to 8"),
        (("--bits", "7.5"), "needs a whole number"),
        (("--out", "small.npz"), "give --prune or --bits"),
        (("--prune", "0.5,0.8", "--out", "small.npz"), "names 2 fractions; choose one"),
        (("--prune", "0.5", "--out", "small.bin"), "a model's name ends with .npz"),
    ],
)
def test_mistakes(flags: tuple[str, ...], message: str, folder: Path) -> None:
    done = dptrain("compress", folder, *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_no_test_rows(folder: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data.npz")
    with np.load(data) as arrays:
        np.savez(tmp_path / "train.npz", x_train=arrays["x_train"], t_train=arrays["t_train"])
    experiment = {"dataset": str(tmp_path / "train.npz"), "test": 0.0}
    run(experiment, tmp_path / "run", workers=1)
    with pytest.raises(DataError, match="no test rows"):
        table(tmp_path / "run", [0.5], None)


def test_a_model_file_has_no_best_weights(folder: Path, tmp_path: Path) -> None:
    trained, saved = load_run(folder, "best")
    (tmp_path / "a.npz").write_bytes(model_bytes(saved, {}))
    again, _ = load_run(tmp_path / "a.npz", "last")
    np.testing.assert_array_equal(again.parameters, trained.parameters)
    with pytest.raises(UsageError, match="leave out --checkpoint best"):
        load_run(tmp_path / "a.npz", "best")
