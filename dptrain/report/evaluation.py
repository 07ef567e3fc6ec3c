"""Tables of how good the answers are."""

import numpy as np

from dptrain.evaluation.classification import Classification
from dptrain.evaluation.regression import Regression
from dptrain.report.tables import print_table

# More classes than this are not shown one by one.
MOST = 20
# Columns of a terminal that a confusion matrix may take.
WIDTH = 80


def score_line(found: Classification | Regression) -> str:
    """Return the numbers that stand for all rows, on one line."""
    if isinstance(found, Regression):
        r2 = "R² not defined" if found.r2 is None else f"R² {found.r2:.4f}"
        return f"{r2}, RMSE {found.rmse:.6g}, MAE {found.mae:.6g}"
    return f"{found.accuracy:.2%} correct, macro F1 {found.f1:.4f}"


def print_classes(found: Classification, split: str) -> None:
    """Print precision, recall and F1 of the classes, the worst where there are too many."""
    called = found.confusion.sum(axis=0).tolist()
    scored = list(zip(found.classes, called, strict=True))
    title = f"{split}, class by class"
    if len(scored) > MOST:
        title = f"{split}, the {MOST} classes of {len(scored)} with the lowest F1"
        scored = sorted(scored, key=lambda each: each[0].f1)[:MOST]
    rows: list[tuple[str, ...]] = [
        (
            c.name,
            # of no answers, or of no rows, nothing can be told
            _ratio(c.precision, count),
            _ratio(c.recall, c.rows),
            _ratio(c.f1, count + c.rows),
            f"{c.rows:,}",
        )
        for c, count in scored
    ]
    total = sum(each.rows for each in found.classes)
    means = (f"{mean:.4f}" for mean in (found.precision, found.recall, found.f1))
    rows.append(("macro average", *means, f"{total:,}"))
    print_table(title, rows, ("class", "precision", "recall", "F1", "rows"))


def _ratio(value: float, of: int) -> str:
    return f"{value:.4f}" if of else "–"  # noqa: RUF001 - a dash


def print_confusion(found: Classification, split: str) -> None:
    """Print the confusion matrix, or where it is too wide the most frequent mistakes."""
    names = [each.name for each in found.classes]
    rows = [
        (name, *(f"{n:,}" if n else "·" for n in counts))
        for name, counts in zip(names, found.confusion.tolist(), strict=True)
    ]
    header = ("is \\ called", *names)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    if len(names) <= MOST and sum(widths) + 3 * len(widths) <= WIDTH:
        print_table(f"{split}, confusion matrix", rows, header)
        return
    mistakes = _mistakes(found, names)
    if mistakes:
        print_table(f"{split}, most frequent mistakes", mistakes, ("is", "called", "rows"))


def _mistakes(found: Classification, names: list[str]) -> list[tuple[str, str, str]]:
    wrong = found.confusion - np.diag(np.diag(found.confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST]
    cells = [divmod(int(cell), len(names)) for cell in order]
    return [(names[i], names[j], f"{wrong[i, j]:,}") for i, j in cells if wrong[i, j]]
