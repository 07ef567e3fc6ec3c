"""Whole runs with a network of the user's own, from the command line; real processes throughout."""

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.invocation import word
from tests.commands import dptrain, finish, result, start, wait_until
from tests.own.nets import EXAMPLE, EXAMPLES, FUNCTION, like_the_example
from tests.sessions import write_dataset

SIZES = json.dumps({"input_size": 20, "hidden_size": 7, "output_size": 3, "weight_init_std": 0.3})
MARK = """
from pathlib import Path
(Path(__file__).parent / "mark").touch()
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    data = write_dataset(tmp_path_factory.mktemp("data") / "small.npz")
    return ("--dataset", data, "--batch-size", 30, "--lr", 0.1, "--epochs", 4)


def own(model: str = EXAMPLE, arguments: str = SIZES) -> tuple[object, ...]:
    return ("--model", model, "--model.args", arguments)


def refused(code: int, *arguments: object) -> str:
    done = dptrain(*arguments)
    assert done.returncode == code, done.stderr
    assert not done.stdout
    assert "dptrain/" not in done.stderr.replace(str(EXAMPLES), ""), done.stderr  # its own frames
    return done.stderr


def test_the_same_weights_and_scores_for_any_execution(
    job: tuple[object, ...], tmp_path: Path
) -> None:
    ways: list[tuple[object, ...]] = [
        ("--workers", 1),
        ("--workers", 2),
        ("--workers", 3),
        ("--workers", 3, "--exchange", "star", "--transport", "tcp"),
    ]
    found = [
        result("train", *job, *own(), *way, "--out", tmp_path / str(i))
        for i, way in enumerate(ways)
    ]
    for key in ("digest", "loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert len({each[key] for each in found}) == 1, key
    assert found[0]["test_accuracy"] > 0.5
    run = tmp_path / "1"
    scores = result("evaluate", run, "--model", EXAMPLE)
    assert scores["loss"] == found[0]["loss"]
    assert scores["test_accuracy"] == found[0]["test_accuracy"]
    shown = result("inspect", run)
    assert [layer["name"] for layer in shown["layers"]] == ["W1", "b1", "W2", "b2"]
    np.save(tmp_path / "x.npy", np.zeros((2, 4, 5)))
    predicted = result("predict", run, "--input", tmp_path / "x.npy", "--model", EXAMPLE)
    np.testing.assert_allclose(np.sum(predicted["outputs"], axis=1), 1)


def test_a_function(job: tuple[object, ...], tmp_path: Path) -> None:
    sizes = '{"inputs": 20, "hidden": 5, "classes": 3}'
    found = [
        result("train", *job, *own(FUNCTION, sizes), "--workers", w, "--out", tmp_path / str(w))
        for w in (1, 2)
    ]
    assert found[0]["digest"] == found[1]["digest"]
    assert found[0]["test_accuracy"] > 0.5


def test_continued_and_trained_again(job: tuple[object, ...], tmp_path: Path) -> None:
    whole, half, again = (tmp_path / name for name in ("whole", "half", "again"))
    expected = result("train", *job, *own(), "--workers", 1, "--out", whole)
    result("train", *job[:-1], 2, *own(), "--workers", 1, "--out", half)
    remedy = f"add --model {word(EXAMPLE)}"
    assert remedy in refused(2, "train", "--resume", half)
    assert remedy in refused(2, "train", half / "experiment.toml", "--out", again)
    assert remedy in refused(2, "evaluate", half)
    other = EXAMPLE.replace("TwoLayerNet", "softmax")
    assert "is not what" in refused(2, "train", "--resume", half, "--model", other)
    found = result("train", "--resume", half, "--epochs", 4, "--model", EXAMPLE)
    assert found["digest"] == expected["digest"]
    found = result("train", whole / "experiment.toml", "--model", EXAMPLE, "--out", again)
    assert found["digest"] == expected["digest"]


def test_a_file_that_has_changed(job: tuple[object, ...], tmp_path: Path) -> None:
    model = like_the_example(tmp_path, "    pass")
    run = tmp_path / "run"
    trained = result("train", *job, *own(model), "--out", run)
    like_the_example(tmp_path, "    other = 1")
    assert "has changed" in refused(2, "train", "--resume", run, "--epochs", 5, "--model", model)
    done = dptrain("evaluate", run, "--model", model, "--json")
    assert "warning: " in done.stderr
    assert "net.py has changed since the run was trained" in done.stderr
    assert json.loads(done.stdout)["loss"] == trained["loss"]


def test_nothing_recorded_is_ever_imported(job: tuple[object, ...], tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    model = like_the_example(tmp_path, "    pass")
    run = tmp_path / "run"
    result("train", *job, *own(model), "--out", run)
    file.write_text(MARK + file.read_text())
    text = (run / "experiment.toml").read_text()
    experiment = tmp_path / "experiment.toml"
    lines = [each for each in text.splitlines() if not each.startswith("model_digest")]
    experiment.write_text("\n".join(lines))
    refused(2, "train", experiment, "--out", tmp_path / "new")
    refused(2, "train", "--resume", run, "--epochs", 5)
    refused(2, "evaluate", run)
    result("inspect", run)
    assert not (tmp_path / "mark").exists()
    result("train", experiment, "--model", model, "--out", tmp_path / "new")
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_of_the_network_shows_its_traceback(
    workers: int, job: tuple[object, ...], tmp_path: Path
) -> None:
    model = like_the_example(
        tmp_path,
        "    def gradient(self, x, t):\n"
        "        if len(x) < 7: raise ZeroDivisionError('few rows')  # the ragged last minibatch\n"
        "        return super().gradient(x, t)",
    )
    run = tmp_path / "run"
    err = refused(1, "train", *job, *own(model), "--workers", workers, "--out", run)
    told = (
        r"Net.gradient\(x: float32 \([45], 20\), t: float32 \([45], 3\)\) raised ZeroDivisionError"
    )
    assert re.search(told, err)
    assert f'File "{tmp_path / "net.py"}", line ' in err
    assert ("rank " in err.partition("raised")[0]) == (workers == 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", EXAMPLE.replace(".py", "s.py")), "did you mean 'own_network.py'"),
        (("--model", EXAMPLE + "s"), "did you mean 'TwoLayerNet'"),
        (own(arguments="{"), "--model.args '{': it is no JSON"),
        (own(arguments="[3]"), "needs a JSON object"),
        (own(arguments='{"hidden_size": null}'), "null cannot be recorded"),
        (own(arguments='{"hiden_size": 3}'), "cannot be called with"),
        (("--model.args", SIZES), "give --model FILE.py:NAME as well"),
        ((*own(), "--model.input-shape", "3,x"), "needs whole numbers"),
    ],
)
def test_usage(
    arguments: tuple[object, ...], message: str, job: tuple[object, ...], tmp_path: Path
) -> None:
    ways = ("--workers", 1, "--out", tmp_path / "run")
    assert message in refused(2, "train", *job, *arguments, *ways)
    assert not (tmp_path / "run").exists()


def test_the_environment_names_no_code(
    job: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPTRAIN_MODEL", EXAMPLE)
    assert "only where you name it" in refused(2, "train", *job, "--out", tmp_path / "run")


def by_hand(
    job: tuple[object, ...], run: Path, *worker: object
) -> tuple[tuple[int, str, str], "subprocess.CompletedProcess[str]"]:
    """Train with one worker of the run's own and one started by hand."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    key = run / "worker.key"
    coordinator = start(
        "train", *job, *own(), "--join", 1, "--listen", address, "--out", run, "--json"
    )
    wait_until(lambda: key.exists() and bool(key.read_text().strip()), coordinator)
    done = dptrain("worker", "--connect", address, "--key", key, *worker)
    return finish(coordinator), done


def test_a_worker_started_by_hand_names_the_code_itself(
    job: tuple[object, ...], tmp_path: Path
) -> None:
    (code, out, err), worker = by_hand(job, tmp_path / "run", "--model", EXAMPLE)
    assert (code, worker.returncode) == (0, 0), err + worker.stderr
    assert f"worker.key --model {word(EXAMPLE)}" in err
    alone = result("train", *job, *own(), "--workers", 1, "--out", tmp_path / "alone")
    assert json.loads(out)["digest"] == alone["digest"]


@pytest.mark.parametrize("way", ["unnamed", "changed"])
def test_a_worker_started_by_hand_imports_nothing_else(
    way: str, job: tuple[object, ...], tmp_path: Path
) -> None:
    other = tmp_path / "own_network.py"
    other.write_text(MARK + (EXAMPLES / "own_network.py").read_text())
    named: tuple[Any, ...] = () if way == "unnamed" else ("--model", f"{other}:TwoLayerNet")
    unnamed = f"add --model {word(EXAMPLE)} to dptrain worker"
    message = unnamed if way == "unnamed" else "has changed"
    (code, _, err), worker = by_hand(job, tmp_path / "run", *named)
    assert code == 2
    assert worker.returncode == 6
    assert message in err
    assert message in worker.stderr
    assert not (tmp_path / "mark").exists()


def test_scaling(job: tuple[object, ...], tmp_path: Path) -> None:
    picture = tmp_path / "scaling.png"
    counts = ("--workers", "1,2", "--rounds", 1, "--kind", "strong", "--out", picture)
    found = result("scaling", *job[:-2], *own(), *counts, "--steps", 10)
    assert found["digests_equal"] is True
