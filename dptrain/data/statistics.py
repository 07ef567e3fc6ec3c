"""What the inputs of a split are like, element by element, in float64."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.data.dataset import Split

_PIECE_BYTES = 1 << 22

Values = NDArray[np.float64]


class Statistics(NamedTuple):
    """Of every element of a sample over the rows of a split, arrays of the shape of a sample.

    Attributes:
        low: the smallest value.
        high: the largest value.
        mean: the mean.
        deviation: the standard deviation, biased: divided by the rows.
    """

    low: Values
    high: Values
    mean: Values
    deviation: Values


def input_statistics(split: Split, dtype: np.dtype[Any]) -> Statistics:
    """Return the statistics of a split's inputs, as they are when the rows are gathered in a dtype.

    In two passes over the rows, piece by piece: squared distances are summed from the mean, where
    a difference of the mean of squares and the square of the mean would cancel.
    """
    shape = split.inputs.shape[1:]
    low, high, total = np.full(shape, np.inf), np.full(shape, -np.inf), np.zeros(shape)
    for x in _pieces(split, dtype):
        np.minimum(low, x.min(axis=0), out=low)
        np.maximum(high, x.max(axis=0), out=high)
        total += x.sum(axis=0)
    mean = total / len(split)
    squares = np.zeros(shape)
    for x in _pieces(split, dtype):
        x -= mean
        squares += np.square(x, out=x).sum(axis=0)
    return Statistics(low, high, mean, np.sqrt(squares / len(split)))


def _pieces(split: Split, dtype: np.dtype[Any]) -> Iterator[Values]:
    rows = max(1, _PIECE_BYTES // (8 * max(1, split.inputs[0].size)))
    for first in range(0, len(split), rows):
        x, _ = split.take(np.arange(first, min(first + rows, len(split))), dtype)
        yield x.astype(np.float64)
