"""Columns of a table that are hardly features: they tell the label, or where a row stands."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dptrain.data.csv_labels import Labels
from dptrain.data.row_weights import WEIGHT_NAMES
from dptrain.data.spool import Rows, pieces_of

_FEWEST_ROWS = 10  # with fewer, a column may count them by chance


def table_doubts(features: Rows, labels: Labels, names: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for each column that counts the rows or repeats the label.

    Args:
        features: ``(rows, columns)``, finite.
        labels: one a row.
        names: one a column.
    """
    if len(features) < _FEWEST_ROWS:
        return ()
    counting, repeating = _counting(features), _repeating(features, labels)
    return tuple(
        f"column {name!r} counts the rows: where these are sorted, it tells the label; "
        "leave it out with --columns"
        if i in counting
        else f"column {name!r} repeats the label, so that nothing else need be learnt; leave it "
        "out with --columns"
        for i, name in enumerate(names)
        if i in counting or i in repeating
    )


def likely_weights(names: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for each column whose name says that it weighs the rows."""
    return tuple(
        f"column {name!r} is learnt from like the others; give --row-weights {name} where it says "
        "how much each row counts, or leave it out with --columns"
        for name in names
        if name.lower() in WEIGHT_NAMES
    )


def _counting(features: Rows) -> set[int]:
    """Return which columns rise by one from row to row, from 0 or 1."""
    first = features[:1][0]
    found = np.flatnonzero((first == 0) | (first == 1))  # years and ages may follow each other too
    before: NDArray[np.float64] = features[:0]
    for start in pieces_of(features):
        if not len(found):  # soon so, in nearly all tables
            break
        piece = np.concatenate([before, features[start]])
        with np.errstate(over="ignore"):  # between numbers near the largest that there are
            found = found[(np.diff(piece[:, found], axis=0) == 1).all(axis=0)]
        before = piece[-1:]
    return set(found.tolist())


def _repeating(features: Rows, labels: Labels) -> set[int]:
    """Return which columns have one value for each label, another for each other one."""
    texts = len(labels.texts)
    if labels.values is not None or texts < 2 or 2 * texts > len(labels):
        return set()  # of numbers to predict, any column of its own in each row would
    codes = np.frombuffer(labels.codes, np.intc)
    found = np.arange(features.shape[1])
    value_of = np.full((texts, len(found)), np.nan)
    for part in pieces_of(features):
        if not len(found):
            break
        piece, of = features[part][:, found], codes[part]
        new, at = np.unique(of, return_index=True)
        unseen = np.isnan(value_of[new, 0])
        value_of[new[unseen]] = piece[at[unseen]]
        same = (piece == value_of[of]).all(axis=0)
        found, value_of = found[same], value_of[:, same]
    return {int(i) for i, of in zip(found, value_of.T, strict=True) if len(np.unique(of)) == texts}
