"""How close predictions come, against the definitions."""

import math

import numpy as np
import pytest

from dptrain.errors import ShapeError
from dptrain.evaluation.regression import determination, regression, variance


def test_worked_values() -> None:
    # errors 1, -1, 0, 2; the targets' mean is 3, their squared distances from it 4 + 1 + 0 + 9
    found = regression([1, 2, 3, 6], [0, 3, 3, 4])
    assert found.rmse == math.sqrt(6 / 4)
    assert found.mae == 1
    assert found.r2 == pytest.approx(1 - 6 / 14)
    assert found.plain() == {"r2": found.r2, "rmse": found.rmse, "mae": 1}


def test_perfect_mean_and_worse() -> None:
    t = np.array([[1.0], [2.0], [6.0]])
    assert regression(t, t).r2 == 1
    assert regression(t, np.full((3, 1), t.mean())).r2 == pytest.approx(0)
    assert (regression(t, -t).r2 or 0) < 0


def test_several_targets() -> None:
    random = np.random.default_rng(0)
    t, y = random.standard_normal((2, 30, 3)) * [1, 10, 100]
    about_means = ((t - t.mean(axis=0)) ** 2).sum()
    assert regression(t, y).r2 == pytest.approx(1 - ((t - y) ** 2).sum() / about_means)
    metrics = pytest.importorskip("sklearn.metrics")
    weighted = metrics.r2_score(t, y, multioutput="variance_weighted")
    assert regression(t, y).r2 == pytest.approx(weighted)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e300])
def test_equal_targets_have_no_r2(value: float) -> None:
    t = np.full(7, value)
    assert variance(t[:, np.newaxis]) == 0
    assert regression(t, t).r2 is None
    assert determination(1.0, 0.0) is None


@pytest.mark.parametrize(("t", "y"), [([1.0, 2.0], [1.0]), ([], []), ([[1.0, 2.0]], [[1.0]])])
def test_predictions_that_do_not_fit(t: list[float], y: list[float]) -> None:
    with pytest.raises(ShapeError, match="cannot be compared"):
        regression(t, y)
