"""Two classes told apart by one output: logistic regression and the linear support vector machine.

With real processes and the real command line, from training to prediction.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain import Dense, Network
from dptrain.errors import DataError
from dptrain.nn.initializers import Zeros
from tests.commands import dptrain as command
from tests.commands import result

LOSSES = ["binary-cross-entropy", "hinge"]


def halves(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points beside a line, a few of them on the wrong side."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, 3))
    return x, (x @ [2.0, -1.0, 0.5] + 0.3 + 0.2 * random.standard_normal(rows) > 0).astype(int)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "halves.npz"
    (x, t), (x_test, t_test) = halves(203, 1), halves(50, 2)
    np.savez(path, x_train=x, t_train=t, x_test=x_test, t_test=t_test)
    return path


@pytest.mark.parametrize("loss", LOSSES)
def test_train_evaluate_and_predict(loss: str, data: Path, tmp_path: Path) -> None:
    job: tuple[object, ...] = (
        "--dataset",
        data,
        "--model",
        "mlp:3-4-1",
        "--loss",
        loss,
        "--epochs",
        12,
    )
    job += ("--batch-size", 20, "--lr", 0.03, "--activation", "softplus", "--seed", 3)
    digests = set()
    for workers in (1, 2):
        found = result("train", *job, "--workers", workers, "--out", tmp_path / str(workers))
        digests.add(found["digest"])
        assert found["test_accuracy"] > 0.9
    assert len(digests) == 1
    run = tmp_path / "2"
    evaluated = result("evaluate", run)
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert evaluated["loss"] == record["train_loss"]
    assert evaluated["test_accuracy"] == record["test_accuracy"] == found["test_accuracy"]
    x, t = halves(50, 2)
    np.save(tmp_path / "x.npy", x)
    predicted = result("predict", run, "--input", tmp_path / "x.npy")
    right = np.array([int(name) for name in predicted["classes"]]) == t
    assert right.mean() == evaluated["test_accuracy"]
    table = command("predict", run, "--input", tmp_path / "x.npy").stdout
    trained, _ = dptrain.load_run(run, "last")
    outputs = trained.outputs(x)[:, 0]
    assert (trained.classify(x) == (outputs > 0)).all()
    assert trained.accuracy(x, t) == evaluated["test_accuracy"]
    if loss == "binary-cross-entropy":
        chances = np.array(predicted["probabilities"])
        np.testing.assert_allclose(chances[:, 1], 1 / (1 + np.exp(-outputs)), rtol=1e-5)
        np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
        assert "probability" in table
        assert "%" in table
    else:
        np.testing.assert_allclose(predicted["scores"], np.stack([-outputs, outputs], axis=1))
        assert "probabilities" not in predicted
        assert "score" in table
        assert "%" not in table


def gradient_descent(loss: str, x: np.ndarray, t: np.ndarray, lr: float, steps: int) -> np.ndarray:
    """Return weights and bias of a linear classifier, by the formulas of the notes."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        y = x @ w
        s = 2 * t - 1
        slope = 1 / (1 + np.exp(-y)) - t if loss == "binary-cross-entropy" else -s * (s * y < 1)
        w = w - lr * x.T @ slope / len(x)
    return w


@pytest.mark.parametrize("loss", LOSSES)
def test_linear_classifiers_are_those_of_gradient_descent(loss: Any, tmp_path: Path) -> None:
    x, t = halves(203, 1)
    found = dptrain.fit(
        Network(3, [Dense(1, init=Zeros())]),
        (x, t),
        test_data=halves(50, 2),
        loss=loss,
        optimizer="sgd",
        lr=0.5,
        batch_size=203,
        epochs=40,
        dtype="float64",
        workers=2,
        out=tmp_path / "run",
        progress=False,
    )
    expected = gradient_descent(loss, x, t, 0.5, 40)
    np.testing.assert_allclose(found.network.parameters, expected, rtol=1e-9)
    assert found.epochs[-1].test_accuracy == found.network.accuracy(*halves(50, 2))


def test_several_answers_at_once(tmp_path: Path) -> None:
    """Each output is a yes or no of its own, so that a row may have none or several."""
    x = np.random.default_rng(5).standard_normal((300, 3))
    t = (x > 0).astype(float)
    found = dptrain.fit(
        Network(3, [Dense(3)]),
        (x, t),
        loss="binary-cross-entropy",
        optimizer="sgd",
        lr=3.0,
        epochs=20,
        batch_size=50,
        workers=2,
        out=tmp_path / "run",
        progress=False,
    )
    chances = found.network.predict(x)
    assert chances.shape == (300, 3)
    assert ((chances > 0.5) == (t > 0.5)).mean() > 0.97
    assert found.epochs[-1].test_accuracy is None


def test_targets_that_are_no_answers(tmp_path: Path) -> None:
    x = np.zeros((10, 3))
    with pytest.raises(DataError, match=r"row 0 .* has \[2\.\]"):
        dptrain.fit(
            Network(3, [Dense(1)]), (x, np.full(10, 2.0)), loss="binary-cross-entropy",
            out=tmp_path / "run", workers=1,
        )  # fmt: skip
    assert not any(tmp_path.iterdir())
