"""How far predictions agree with the label column of a table, where it is there."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.data.csv_classes import class_number
from dptrain.data.csv_header import cell_number
from dptrain.evaluation.regression import regression
from dptrain.report.evaluation import score_line


class Agreement(NamedTuple):
    """What came of a comparison: as plain data, and as a sentence."""

    plain: dict[str, Any]
    told: str


def agreement(
    outputs: NDArray[Any], labels: Sequence[str | None], column: str, classes: Sequence[str]
) -> Agreement | None:
    """Compare what was predicted with labels.

    Args:
        outputs: ``(n, classes)``, or ``(n, 1)`` of a regression.
        labels: the text of each row's cell; None or empty where there is none.
        column: the name of the label column.
        classes: their names; empty for a regression.

    Returns:
        None where there is nothing to compare.
    """
    rows = [row for row, label in enumerate(labels) if label]
    values = [_value(str(labels[row]), classes) for row in rows]
    known = [row for row, value in zip(rows, values, strict=True) if value is not None]
    right = np.array([value for value in values if value is not None])
    strange = next((labels[row] for row in rows if row not in set(known)), None)
    if not rows:
        return None
    what = "not a class of the run" if classes else "not a number"
    if not known:
        return Agreement({}, f"column {column!r} is not compared: {strange!r} is {what}")
    if classes:
        count = int((outputs[known].argmax(axis=1) == right).sum())
        plain: dict[str, Any] = {"right": count}
        told = f"{count} of {len(known)} are as column {column!r} says"
    else:
        found = regression(right, outputs[known])
        plain = found.plain()
        told = f"column {column!r} in {len(known)} rows: {score_line(found)}"
    if strange is not None:
        told += f"; {len(rows) - len(known)} not compared: {strange!r} is {what}"
    return Agreement(plain | {"compared": len(known)}, told)


def _value(label: str, classes: Sequence[str]) -> float | None:
    if classes:
        return class_number(label, classes)
    value = cell_number(label)
    return value if value is not None and np.isfinite(value) else None
