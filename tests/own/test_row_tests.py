"""What is no mean over rows is found, and what is one never is called otherwise."""

from typing import Any

import numpy as np
import pytest

from dptrain.own.row_tests import DIVIDED, ORDER, SUM, TOGETHER, row_findings

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((20, 3))
T = X @ np.array([1.0, -2.0, 0.5]) + RANDOM.standard_normal(20)
W = np.array([0.3, 0.1, -0.2])


def errors(x: Any, t: Any) -> Any:
    return x @ W - t


def mean(x: Any, t: Any) -> float:
    return float(np.mean(errors(x, t) ** 2) / 2)


def gradient(x: Any, t: Any) -> list[Any]:
    return [x.T @ errors(x, t) / len(x), errors(x, t).mean()]


def penalty() -> float:
    return float(np.sum(W**2) / 2)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (lambda x, t: mean(x, t) * len(x), SUM),
        (lambda x, t: mean(x, t) * len(x) + 3 * penalty(), SUM),
        (lambda x, t: mean(x, t) * len(x) / 100, SUM),
        (lambda x, t: mean(x, t) + penalty() / len(x), DIVIDED),
        (lambda x, t: mean(x, t) + 1e-5 * penalty() / len(x), DIVIDED),
        (lambda x, t: np.max(errors(x, t) ** 2), TOGETHER),
        (lambda x, t: np.sqrt(mean(x, t)), TOGETHER),
        (lambda x, t: mean(x - x.mean(axis=0), t), TOGETHER),
        (lambda x, t: mean(x, t) / np.var(t, ddof=1), TOGETHER),
        (lambda x, t: np.mean(errors(x, t) ** 2 * np.linspace(0, 2, len(x))), ORDER),
        (lambda x, t: mean(x[:-1], t[:-1]), ORDER),
    ],
)
def test_losses_that_are_no_means(loss: Any, kind: str) -> None:
    (found,) = row_findings(loss, gradient, X, T, ["w", "b"])
    assert (found.kind, found.what) == (kind, "loss")
    assert found.found != found.wanted
    assert row_findings(None, lambda *of: [loss(*of)], X, T)[0].kind == kind


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_means(dtype: Any, shift: float) -> None:
    def loss(x: Any, t: Any) -> float:
        return float(np.mean(np.square(x @ W.astype(dtype) - t)) + dtype(penalty()))

    def slopes(x: Any, t: Any) -> list[Any]:
        error = x @ W.astype(dtype) - t
        return [x.T @ error / dtype(len(x)) + W.astype(dtype), error.mean(), dtype(0) * error[:1]]

    x, t = (X + shift).astype(dtype), T.astype(dtype)
    assert row_findings(loss, slopes, x, t, ["w", "b", "idle"]) == []


def test_gradients_that_are_zero_but_for_rounding_say_nothing() -> None:
    w = np.linalg.lstsq(X, X @ W, rcond=None)[0]

    def slopes(x: Any, t: Any) -> list[Any]:
        return [x.T @ (x @ w - t)]

    assert row_findings(None, slopes, X, X @ W) == []


def test_tensors_are_named_where_they_differ() -> None:
    def slopes(x: Any, t: Any) -> list[Any]:
        w, b = gradient(x, t)
        return [w, b * len(x)]

    (found,) = row_findings(mean, slopes, X, T, ["w", "b"])
    assert found.sentence.startswith("the gradient of b is a sum over the rows: with twice the")
    (found,) = row_findings(mean, lambda *of: slopes(*of)[1:], X, T, ["b"])
    assert found.what == "gradient"


def test_what_cannot_be_told() -> None:
    draws = np.random.default_rng(0)
    assert row_findings(lambda *of: mean(*of) * draws.random(), None, X, T) == []
    assert row_findings(lambda *_: np.nan, lambda *of: [of[0].sum() * np.inf], X, T) == []
    assert row_findings(lambda *of: mean(*of) * len(of[0]), None, X[:3], T[:3]) == []
    assert row_findings(None, None, X, T) == []
