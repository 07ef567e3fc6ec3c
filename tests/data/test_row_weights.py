"""Weights of rows: what may be one, and their scale."""

import numpy as np
import pytest

from dptrain.data.row_weights import checked_weights, relative_weights
from dptrain.errors import DataError

F64 = np.dtype("float64")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.ones(4), r"shape \(4,\), but the data have 3 rows"),
        (np.ones((3, 1)), r"of shape \(3,\)"),
        (np.array([1, -0.5, np.nan]), r"-0\.5 in row 1 \(counting from 0\)"),
        (np.array([1, 2, np.inf]), "inf in row 2"),
        (np.zeros(3), "only zeros"),
        (np.array(["a", "b", "c"]), "must hold numbers"),
        (np.ones(3, complex), "must hold numbers"),
    ],
)
def test_what_is_no_weight(given: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        checked_weights(given, 3, "sample_weight")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16"])
def test_any_kind_of_numbers(dtype: str) -> None:
    found = checked_weights(np.array([0, 1, 1]).astype(dtype), 3, "sample_weight")
    np.testing.assert_array_equal(found, [0.0, 1.0, 1.0])


def test_the_mean_is_that_of_the_rows_that_are_trained_on() -> None:
    weights = np.array([1.0, 100.0, 2.0, 3.0])
    found = relative_weights(weights, np.array([0, 2, 3]), F64)
    np.testing.assert_allclose(found, [0.5, 50, 1, 1.5], rtol=1e-15)
    np.testing.assert_allclose(relative_weights(weights, None, F64).mean(), 1, rtol=1e-15)


@pytest.mark.parametrize("weight", [1.0, 0.1, 3.0, 1e308, 1e-308, 5e-324])
@pytest.mark.parametrize("rows", [1, 3, 997])
def test_equal_weights_are_exactly_one(weight: float, rows: int) -> None:
    for dtype in ("float32", "float64"):
        found = relative_weights(np.full(rows, weight), None, np.dtype(dtype))
        assert (found == 1).all()
        assert found.dtype == dtype


def test_rows_without_any_weight() -> None:
    with pytest.raises(DataError, match="the 2 rows that are left for training all have the wei"):
        relative_weights(np.array([0.0, 0.0, 1.0]), np.array([0, 1]), F64)
