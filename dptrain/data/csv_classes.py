"""Class numbers and numbers to predict from the text of a CSV file's label column."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.csv_header import cell_number
from dptrain.data.csv_labels import Labels, Lines
from dptrain.data.targets import Task
from dptrain.errors import DataError, suggestion

_MOST_NAMES = 8  # in a message


def label_targets(
    file: str,
    labels: Labels,
    lines: Lines,
    class_names: Sequence[str] = (),
    task: Task | None = None,
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return targets and the names of the classes.

    Words become classes numbered in sorted order, and so do two whole numbers of which one is
    negative, such as -1 and 1. Other whole numbers are class numbers, int64 (rows,), without
    names; fractions are targets to predict, float64 (rows, 1).

    Args:
        file: its name, for messages.
        labels: one a row.
        lines: of the rows.
        class_names: of a run whose numbering is to be kept.
        task: what the targets are, where it was said.

    Raises:
        DataError: words beside fractions, whole numbers that are not classes, or a label that is
            none of ``class_names``.
    """
    if class_names:
        return _numbered(file, labels, lines, class_names), tuple(class_names)
    if labels.values is not None:
        if labels.word is not None:
            raise _word_among_fractions(file, *labels.word, lines)
        return _numeric(file, np.array(labels.values), lambda row: lines[row], whole=False), ()
    values = [cell_number(text) for text in labels.texts]
    numbers = [value for value in values if value is not None]
    only_numbers = len(numbers) == len(values)
    # "nan" among words is one of them
    whole = all(v.is_integer() or (v != v and not only_numbers) for v in numbers)
    if only_numbers:
        found = _numeric(file, np.array(numbers), lambda text: lines[labels.first(text)], whole)
        if not whole or task == "regression" or (found >= 0).all():
            return labels.each(found), ()
        classes, targets = np.unique(found, return_inverse=True)
        if len(classes) == 2:
            return labels.each(targets.astype(np.int64)), tuple(map(str, classes.tolist()))
        at = labels.first(int(np.argmax(found < 0)))
        raise DataError(
            f"{file}: line {lines[at]}: the label {labels[at]} is negative, but classes are "
            "numbered from 0; give --task regression where a number is to be predicted"
        )
    if not whole:
        at = labels.first(values.index(None))
        raise _word_among_fractions(file, at, labels[at], lines)
    names = sorted(labels.texts)
    number_of = {name: index for index, name in enumerate(names)}
    return labels.each(np.array([number_of[text] for text in labels.texts], np.int64)), tuple(names)


def _word_among_fractions(file: str, row: int, text: str, lines: Lines) -> DataError:
    return DataError(
        f"{file}: line {lines[row]}: the label {text!r} is text, while other labels are fractions; "
        "either name classes or give numbers to predict"
    )


def class_number(label: str, names: Sequence[str]) -> int | None:
    """Return which class a label is, also where ``1.0`` stands for ``1``; None if it is none."""
    if label in names:
        return names.index(label)
    value = cell_number(label)
    if value is None:
        return None
    return next((i for i, name in enumerate(names) if cell_number(name) == value), None)


def _numbered(file: str, labels: Labels, lines: Lines, names: Sequence[str]) -> NDArray[np.int64]:
    known = [class_number(text, names) for text in labels.texts]
    if None in known:
        at = labels.first(known.index(None))
        more = ", …" if len(names) > _MOST_NAMES else ""
        raise DataError(
            f"{file}: line {lines[at]}: the label {labels[at]!r} is not a class of the run, which "
            f"has {', '.join(map(repr, names[:_MOST_NAMES]))}{more}{suggestion(labels[at], names)}"
        )
    return labels.each(np.array(known, np.int64))


def _numeric(
    file: str, values: NDArray[np.float64], line: Callable[[int], int], whole: bool
) -> NDArray[Any]:
    """Return int64 ``(n,)`` or float64 ``(n, 1)``; ``line`` tells where a value stands."""
    usable = np.isfinite(values) if not whole else np.abs(values) < 2**53
    if not usable.all():
        at = int(np.argmin(usable))
        problem = "is too large for a class" if whole else "is not a finite number"
        raise DataError(f"{file}: line {line(at)}: the label {values[at]} {problem}")
    return values.astype(np.int64) if whole else values[:, np.newaxis]
