"""Linear, logistic and large-margin models against solutions found in other ways."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.coordinator.outcome import Outcome
from dptrain.errors import UsageError
from dptrain.experiment.models import settled_model, sizes
from dptrain.nn.losses import LOSSES
from dptrain.trained import load_run
from tests.commands import dptrain, result
from tests.sessions import run

EXAMPLES = Path(__file__).parent.parent / "examples"
# Learning rates with which each optimizer comes to the end of a convex problem in 600 steps.
RATES = {
    "sgd": 0.1,
    "momentum": 0.1,
    "nesterov": 0.1,
    "adagrad": 20.0,
    "rmsprop": 0.5,
    "adam": 1.0,
    "adamw": 1.0,
}
SETTINGS: dict[str, Any] = {
    "model": "linear",
    "normalise": "standard",
    "test": 0.0,
    "steps": 600,
    "schedule": "cosine",
    "dtype": "float64",
    "weight_decay": 0.0,  # least squares, not those of small weights: adamw would have some
}


def rows() -> NDArray[np.float64]:
    """Return 60 samples of three columns of very different sizes."""
    return np.random.default_rng(0).standard_normal((60, 3)) * [1, 10, 0.1] + [5, -30, 2]


def standardised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the samples normalised, with a column of ones for the bias."""
    return np.column_stack([(x - x.mean(axis=0)) / x.std(axis=0), np.ones(len(x))])


def weights(outcome: Outcome) -> NDArray[np.float64]:
    """Return the weights and, in the last row, the biases."""
    views = outcome.job.network.views(outcome.parameters)
    return np.vstack([views["dense1.W"], views["dense1.b"]])


def trained(x: Any, t: Any, out: Path, **settings: Any) -> Outcome:
    np.savez(out.with_suffix(".npz"), x_train=x, t_train=t)
    named = SETTINGS | {"dataset": str(out.with_suffix(".npz")), "batch_size": len(x)}
    return run(named | settings, out, workers=1, log_every=1000)


@pytest.mark.parametrize("optimizer", RATES)
def test_linear_regression_finds_the_least_squares(optimizer: str, tmp_path: Path) -> None:
    x = rows()
    t = x @ [[2.0, 1], [-0.3, 0], [7, -5]] + [1, 50]
    t += 0.1 * np.random.default_rng(1).standard_normal(t.shape)
    outcome = trained(x, t, tmp_path / "run", optimizer=optimizer, lr=RATES[optimizer])
    expected, residuals, _, _ = np.linalg.lstsq(standardised(x), t, rcond=None)
    np.testing.assert_allclose(weights(outcome), expected, rtol=0, atol=1e-6)
    last = outcome.evaluation
    assert last is not None
    about_means = ((t - t.mean(axis=0)) ** 2).sum()
    assert last.train_r2 == pytest.approx(1 - residuals.sum() / about_means, abs=1e-9)


def test_logistic_regression_finds_newtons_solution(tmp_path: Path) -> None:
    x = rows()
    z = standardised(x)
    random = np.random.default_rng(2)
    t = (random.random(60) < 1 / (1 + np.exp(-z @ [1.5, -1, 0.5, 0.3]))).astype(np.int64)
    expected = newton(z, t)
    outcome = trained(x, t, tmp_path / "run", lr=2.0, optimizer="nesterov")
    found = weights(outcome)
    # of two softmax outputs the difference is the logit
    np.testing.assert_allclose(found[:, 1] - found[:, 0], expected, rtol=0, atol=1e-6)
    probabilities = load_run(tmp_path / "run", "last")[0].predict(x)
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp(-z @ expected)), atol=1e-6)
    if "binary-cross-entropy" in LOSSES:
        single = trained(
            x, t, tmp_path / "one", lr=4.0, optimizer="nesterov", loss="binary-cross-entropy"
        )
        np.testing.assert_allclose(weights(single)[:, 0], expected, rtol=0, atol=1e-6)


def newton(z: NDArray[np.float64], t: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the maximum of the likelihood by iteratively reweighted least squares."""
    w = np.zeros(z.shape[1])
    for _ in range(20):
        p = 1 / (1 + np.exp(-z @ w))
        w += np.linalg.solve((z.T * (p * (1 - p))) @ z, z.T @ (t - p))
    return w


@pytest.mark.skipif("hinge" not in LOSSES, reason="there is no hinge loss yet")
def test_the_support_vector_machine_finds_the_widest_margin(tmp_path: Path) -> None:
    # support vectors (1, 0) and (-1, 0) after normalisation; the others lie further out
    x = np.array([[1.0, 0], [3, 1], [3, -1], [-1, 0], [-3, 1], [-3, -1]])
    t = np.array([1, 1, 1, 0, 0, 0])
    outcome = trained(x, t, tmp_path / "run", loss="hinge", lr=0.5, weight_decay=1e-3, steps=1500)
    w = weights(outcome)[:, 0]
    scale = x.std(axis=0)
    np.testing.assert_allclose(w / [*scale, 1], [1, 0, 0], atol=0.02)


@pytest.mark.parametrize(
    ("model", "loss", "classes", "targets", "expected"),
    [
        ("linear", "softmax-cross-entropy", 3, 1, "linear:3"),
        ("linear", "softmax-cross-entropy", 2, 1, "linear:2"),
        ("linear", "binary-cross-entropy", 2, 1, "linear:1"),
        ("linear", "hinge", 2, 1, "linear:1"),
        ("linear", "hinge", 3, 1, "linear:3"),
        ("linear", "sum-of-squares", 0, 4, "linear:4"),
        ("linear:2", "hinge", 2, 1, "linear:2"),
        ("mlp:3-2", "hinge", 2, 1, "mlp:3-2"),
    ],
)
def test_the_outputs_of_linear(
    model: str, loss: str, classes: int, targets: int, expected: str
) -> None:
    assert settled_model(model, loss, classes, targets) == expected


def test_sizes_of_linear_that_make_no_sense() -> None:
    assert sizes("linear:4") == (4,)
    for model in ("linear:", "linear:2-3", "linear:0", "linear:x"):
        with pytest.raises(UsageError, match="takes one size, that of the outputs"):
            sizes(model)
    with pytest.raises(UsageError, match="did you mean 'linear'"):
        sizes("liner")


@pytest.mark.parametrize("example", ["linear", "multiple-linear", "logistic", "svm"])
def test_the_examples(example: str, tmp_path: Path) -> None:
    file = EXAMPLES / f"{example}.toml"
    found = result("train", file, "--out", tmp_path / "run", "--workers", 2)
    good = found["test_r2"] if "linear" in example else found["test_accuracy"]
    assert good > (0.65 if "linear" in example else 0.92)
    examined = result("evaluate", tmp_path / "run")["splits"]["test"]
    assert (examined["r2"] if "linear" in example else examined["accuracy"]) == pytest.approx(good)


def test_columns_are_found_again_by_name(tmp_path: Path) -> None:
    table = tmp_path / "houses.csv"
    random = np.random.default_rng(0)
    area, rooms = random.integers(30, 200, 80), random.integers(1, 7, 80)
    lines = [
        f"h{i},{a},{r},{1000 * a + 5000 * r}"
        for i, (a, r) in enumerate(zip(area, rooms, strict=True))
    ]
    table.write_text("id,area,rooms,price\n" + "\n".join(lines) + "\n")
    flags = ["--dataset", table, "--label", "price", "--columns", "rooms,area"]
    flags += ["--task", "regression", "--model", "linear", "--normalise", "standard"]
    found = result("train", *flags, "--out", tmp_path / "run", "--epochs", 300, "--workers", 1)
    assert found["test_r2"] > 0.9999
    predicted = result("predict", tmp_path / "run", "--input", table)["outputs"]
    np.testing.assert_allclose(np.ravel(predicted), 1000 * area + 5000 * rooms, rtol=0.01)
    bare = tmp_path / "bare.csv"
    bare.write_text("3,100\n")
    (bare_one,) = result("predict", tmp_path / "run", "--input", bare)["outputs"]
    assert bare_one == pytest.approx([115000], rel=0.01)
    done = dptrain("evaluate", tmp_path / "run")
    assert "RMSE" in done.stdout
    assert "MAE" in done.stdout
