"""How good the answers of a classifier are, class by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dptrain.errors import ShapeError


class ClassScore(NamedTuple):
    """The answers for one class. What would be 0/0 is 0.

    Attributes:
        name: of the class.
        rows: how many rows are of the class.
        precision: of the rows that were called so, the fraction that are; 0 where none was.
        recall: of the rows that are, the fraction that were called so; 0 where none is.
        f1: the harmonic mean of both, ``2 precision recall / (precision + recall)``; 0 where both
            are 0.
    """

    name: str
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, eq=False)
class Classification:
    """The answers for some rows.

    Attributes:
        accuracy: the fraction of rows with the right answer.
        precision: the mean over the classes (*macro average*), each counting as much as any other;
            classes that neither occur nor are answered are left out.
        recall: likewise.
        f1: likewise, the mean of the classes' F1.
        classes: one for each class.
        confusion: int64 ``(classes, classes)``: how many rows of one class, by row of the matrix,
            were called another, by column.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    classes: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "accuracy": self.accuracy,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "classes": [each._asdict() for each in self.classes],
            "confusion": self.confusion.tolist(),
        }


def classification(
    labels: ArrayLike, answers: ArrayLike, class_names: Sequence[str]
) -> Classification:
    """Return how good answers are.

    Args:
        labels: the right class numbers ``(n,)``, n at least 1.
        answers: the class numbers that were answered ``(n,)``.
        class_names: one for each class.

    Raises:
        ShapeError: labels and answers do not fit each other, or there are none.
    """
    right, given = np.asarray(labels), np.asarray(answers)
    if right.ndim != 1 or right.shape != given.shape or not len(right):
        raise ShapeError(
            f"class numbers of shape {right.shape} and answers of shape {given.shape} cannot be "
            "compared; give one class number for each row, and at least one row"
        )
    count = len(class_names)
    cells = np.bincount(right * count + given, minlength=count * count)
    confusion = cells.reshape(count, count).astype(np.int64)
    hits, rows, called = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    # 2 hits / (rows + called) is the harmonic mean without its division by 0
    precision, recall = _ratio(hits, called), _ratio(hits, rows)
    f1 = _ratio(2 * hits, rows + called)
    met = rows + called > 0
    return Classification(
        accuracy=float(hits.sum() / len(right)),
        precision=float(precision[met].mean()),
        recall=float(recall[met].mean()),
        f1=float(f1[met].mean()),
        classes=tuple(
            ClassScore(name, int(rows[i]), float(precision[i]), float(recall[i]), float(f1[i]))
            for i, name in enumerate(class_names)
        ),
        confusion=confusion,
    )


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``part / whole``, 0 where both are 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
