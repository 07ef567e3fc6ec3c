"""Targets of a regression in units of their own deviation, and back."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dptrain.errors import DataError

_PIECE = 1 << 16  # rows at a time

Values = NDArray[np.float64]


class TargetScale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``(t - mean) / deviation`` is what a network learns in place of targets ``(n, k)``.

    It is kept in float64 whatever the run's dtype is: float32 holds 1.7e9 to the nearest 128 only.

    Attributes:
        mean: of each of the k columns.
        deviation: biased: divided by the rows; 1 where a column does not vary.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def standardised(self, targets: ArrayLike) -> Values:
        """Return targets ``(n, k)`` as the network learns them, float64."""
        found: Values = (np.asarray(targets, np.float64) - self.mean) / self.deviation
        return found

    def restored(self, outputs: ArrayLike) -> Values:
        """Return outputs ``(n, k)`` in the targets' own units, float64."""
        found: Values = np.asarray(outputs, np.float64) * self.deviation + self.mean
        return found

    def __str__(self) -> str:
        """Return both numbers, of several columns the first one's and how many there are."""
        more = f" and {len(self.mean) - 1} columns more" if len(self.mean) > 1 else ""
        return f"mean {self.mean[0]:.6g}, deviation {self.deviation[0]:.6g}{more}"


def target_scale_of(targets: NDArray[Any], rows: NDArray[np.intp] | None) -> TargetScale:
    """Return the scale of some rows of targets ``(n, k)``, or of all of them.

    Sums are exact before they are rounded, so that any machine finds the same numbers.

    Raises:
        DataError: the targets are too far apart for float64.
    """
    found = [_mean_and_deviation(targets, rows, k) for k in range(targets.shape[1])]
    return TargetScale(tuple(mean for mean, _ in found), tuple(each for _, each in found))


def _mean_and_deviation(
    targets: NDArray[Any], rows: NDArray[np.intp] | None, column: int
) -> tuple[float, float]:
    def values() -> Iterator[Values]:
        count = len(targets) if rows is None else len(rows)
        for first in range(0, count, _PIECE):
            part = slice(first, first + _PIECE)
            yield np.asarray(targets[part if rows is None else rows[part], column], np.float64)

    try:
        count = sum(map(len, values()))
        mean = math.fsum(t for each in values() for t in each.tolist()) / count
        with np.errstate(over="ignore"):
            squares = math.fsum(t for each in values() for t in np.square(each - mean).tolist())
    except OverflowError:
        squares = math.inf
    if not math.isfinite(squares):
        raise DataError(
            f"the targets in column {column} (counting from 0) lie too far apart to be "
            "standardised; divide them by a constant"
        )
    low = min(each.min() for each in values())
    high = max(each.max() for each in values())
    # not where the deviation is 0: that of equal values may be a rounding error
    deviation = math.sqrt(squares / count)
    return mean, 1.0 if low == high or deviation == 0 else deviation
