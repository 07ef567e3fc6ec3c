"""Statistics of inputs against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.data import statistics
from dptrain.data.dataset import Split
from dptrain.data.statistics import input_statistics

DOUBLE = np.dtype("float64")


def split(x: NDArray[np.generic], rows: list[int] | None = None) -> Split:
    return Split(x, np.zeros(len(x), np.int64), None if rows is None else np.array(rows))


@pytest.mark.parametrize("piece", [8, 100, 1 << 22])
def test_exact_mean_and_deviation(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_PIECE_BYTES", piece)
    # far from 0, where a mean of squares would have lost every digit of the deviation
    x = np.random.default_rng(0).standard_normal((41, 3)) + np.array([0, 1e6, 1e9])
    found = input_statistics(split(x), DOUBLE)
    for i, column in enumerate(x.T):
        exact = [Fraction(float(value)) for value in column]
        mean = sum(exact, Fraction()) / len(exact)
        variance = sum(((each - mean) ** 2 for each in exact), Fraction()) / len(exact)
        assert found.mean[i] == pytest.approx(float(mean), rel=1e-15)
        assert found.deviation[i] == pytest.approx(float(variance) ** 0.5, rel=1e-9)
    np.testing.assert_array_equal([found.low, found.high], [x.min(axis=0), x.max(axis=0)])


def test_only_the_rows_of_the_split_count() -> None:
    x = np.arange(10.0)[:, np.newaxis]
    x[[0, 9]] = np.nan
    found = input_statistics(split(x, [2, 4]), DOUBLE)
    assert [float(each[0]) for each in found] == [2, 4, 3, 1]


def test_grey_values_are_taken_as_they_are_trained_on() -> None:
    grey = np.array([[[0, 255]], [[51, 255]]], np.uint8)
    found = input_statistics(split(grey), DOUBLE)
    assert found.mean.shape == (1, 2)
    np.testing.assert_allclose(found.mean, [[0.1, 1]])
    np.testing.assert_allclose(found.high, [[0.2, 1]])
