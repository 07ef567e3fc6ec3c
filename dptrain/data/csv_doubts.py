"""Columns of a table that are hardly features: they tell the label, or where a row stands."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dptrain.data.row_weights import WEIGHT_NAMES

_FEWEST_ROWS = 10  # with fewer, a column may count them by chance


def table_doubts(
    features: NDArray[np.float64], labels: list[str], names: Sequence[str]
) -> tuple[str, ...]:
    """Return a sentence for each column that counts the rows or repeats the label.

    Args:
        features: ``(rows, columns)``, finite.
        labels: one a row.
        names: one a column.
    """
    if len(features) < _FEWEST_ROWS:
        return ()
    return tuple(_doubts(features, labels, names))


def likely_weights(names: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for each column whose name says that it weighs the rows."""
    return tuple(
        f"column {name!r} is learnt from like the others; give --row-weights {name} where it says "
        "how much each row counts, or leave it out with --columns"
        for name in names
        if name.lower() in WEIGHT_NAMES
    )


def _doubts(
    features: NDArray[np.float64], labels: list[str], names: Sequence[str]
) -> Iterator[str]:
    _, numbers = np.unique(np.array(labels), return_inverse=True)
    classes = int(numbers.max()) + 1
    # The first rows tell of nearly all columns that they do not count, without a look at the rest.
    may_count = _count(features[:_FEWEST_ROWS])
    may_count &= (features[0] == 0) | (features[0] == 1)  # years and ages may follow each other too
    for name, column, counts in zip(names, features.T, may_count, strict=True):
        if counts and _count(column).all():
            yield (
                f"column {name!r} counts the rows: where these are sorted, it tells the label; "
                "leave it out with --columns"
            )
        elif classes > 1 and _repeats(column, numbers, classes):
            yield (
                f"column {name!r} repeats the label, so that nothing else need be learnt; leave it "
                "out with --columns"
            )


def _count(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which columns go up by 1 from row to row."""
    with np.errstate(over="ignore"):  # between numbers near the largest that there are
        found: NDArray[np.bool_] = (np.diff(values, axis=0) == 1).all(axis=0)
    return found


def _repeats(column: NDArray[np.float64], numbers: NDArray[np.intp], classes: int) -> bool:
    """Return whether a column has one value for each class, another for each other class."""
    if 2 * classes > len(numbers):  # numbers to predict: any column of its own in each row would
        return False
    # Most columns fail here, before all of their rows are sorted.
    if len(np.unique(column[:_FEWEST_ROWS])) != len(np.unique(numbers[:_FEWEST_ROWS])):
        return False
    values, which = np.unique(column, return_inverse=True)
    if len(values) != classes:
        return False
    return len(np.unique(which * classes + numbers)) == classes
