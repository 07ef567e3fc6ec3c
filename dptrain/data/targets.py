"""Check the targets of a data set and convert them to class labels or numbers to predict."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dptrain.data.inputs import check_finite
from dptrain.errors import DataError

# More classes than this are believed only where there are as many rows to tell them apart: a
# year or a price read as a class would otherwise ask for an output layer of its size.
_PLAUSIBLE_CLASSES = 1000

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Targets:
    """Normalised targets.

    Class labels: int64 of shape (n,) and ``classes`` of at least 1. Regression: the run's dtype,
    shape (n, k), and ``classes`` 0. ``names`` of the classes are there where they are not numbers
    from 0.
    """

    train: NDArray[Any]
    test: NDArray[Any] | None
    classes: int
    names: tuple[str, ...] = ()


def normalise_targets(
    train: NDArray[Any],
    test: NDArray[Any] | None,
    dtype: np.dtype[Any],
    task: Task | None = None,
    *,
    exact: bool = False,
) -> Targets:
    """Return the targets as class labels or regression targets.

    ``task`` says which: for regression whole numbers count as floats, for classification floats
    must be whole numbers. Without it the training part decides. ``exact`` leaves numbers to predict
    in float64, to be standardised before they are rounded.

    Whole numbers of shape (n,) or (n, 1) are class labels, from 0 to the number of classes less
    one; classes may lack rows. -1 and 1 are two classes. Rows of shape (n, k), k >= 2, each of
    zeros and a single one, are classes one-hot. Other floats of shape (n,) or (n, k) are regression
    targets.

    Raises DataError naming the value and the row (counting from 0) of labels out of range, of
    rows that are not one-hot and of values that are not finite.
    """
    dtype = np.dtype(np.float64) if exact else dtype
    if task == "regression":
        train = train.astype(np.float64)
        test = None if test is None else test.astype(np.float64)
        return _regression_targets(train, test, dtype)
    if task == "classification":
        train = _whole(train, "t_train")
        test = None if test is None else _whole(test, "t_test")
    if _are_signs(train):
        numbers = None if test is None else _of_signs(test)
        return Targets(_of_signs(train), numbers, 2, ("-1", "1"))
    if _are_labels(train):
        labels = _labels(train, "t_train", None)
        classes = int(labels.max()) + 1
        _check_plausible(classes, len(labels))
        return Targets(labels, None if test is None else _labels(test, "t_test", classes), classes)
    if are_one_hot(train):
        classes = train.shape[1]
        return Targets(_unfold(train), None if test is None else _one_hot(test, classes), classes)
    return _regression_targets(train, test, dtype)


def _whole(t: NDArray[Any], name: str) -> NDArray[Any]:
    """Return floats as the whole numbers that they must be; leave all others as they are."""
    if t.dtype.kind != "f":
        return t
    fits = np.isfinite(t) & (np.abs(t) < 2**53) & (t == np.floor(t))
    if not fits.all():
        row = int(np.argwhere(~fits)[0][0])
        raise DataError(
            f"{name} holds {t[row]} in row {row} (counting from 0), which is not a class label; "
            "give whole numbers, or --task regression"
        )
    return t.astype(np.int64)


def _regression_targets(
    train: NDArray[Any], test: NDArray[Any] | None, dtype: np.dtype[Any]
) -> Targets:
    regression = _regression(train, dtype, "t_train")
    if test is None:
        return Targets(regression, None, 0)
    test = _regression(test, dtype, "t_test")
    if test.shape[1] != regression.shape[1]:
        raise DataError(
            f"a row of t_test has {test.shape[1]} values, but a row of t_train "
            f"{regression.shape[1]}"
        )
    return Targets(regression, test, 0)


def _are_labels(t: NDArray[Any]) -> bool:
    return t.dtype.kind in "bui" and (t.ndim == 1 or (t.ndim == 2 and t.shape[1] == 1))


def _labels(t: NDArray[Any], name: str, classes: int | None) -> NDArray[np.int64]:
    """Return the labels as int64 (n,), all in [0, classes) if that is given."""
    if not _are_labels(t):
        raise DataError(
            f"{name} of dtype {t.dtype} and shape {t.shape} does not go with t_train, "
            "which holds class labels"
        )
    t = t.reshape(-1)
    limit = np.iinfo(np.int64).max if classes is None else classes
    allowed = (t >= 0) & (t < limit)
    if not allowed.all():
        row = int(np.argmin(allowed))
        known = "upwards" if classes is None else f"to {classes - 1}, the largest of t_train"
        raise DataError(
            f"{name} holds the label {t[row]} in row {row} (counting from 0), which is out of "
            f"range: class labels are whole numbers from 0 {known}"
        )
    return t.astype(np.int64, copy=False)


def _are_signs(t: NDArray[Any]) -> bool:
    """Tell whether two classes are called -1 and 1, as in books on large margins."""
    if not _are_labels(t) or t.dtype.kind != "i" or (t.min(), t.max()) != (-1, 1):
        return False
    return bool((abs(t) == 1).all())


def _of_signs(t: NDArray[Any]) -> NDArray[np.int64]:
    """Return 0 and 1 for -1 and 1; raise DataError where there is anything else."""
    if not _are_labels(t) or not (np.abs(t) == 1).all():
        raise DataError("t_test has other labels than -1 and 1, which are the classes of t_train")
    return (t.reshape(-1).astype(np.int64) + 1) // 2


def _check_plausible(classes: int, rows: int) -> None:
    if classes > max(_PLAUSIBLE_CLASSES, rows):
        raise DataError(
            f"t_train holds labels up to {classes - 1}, which would make {classes} classes of "
            f"{rows} rows; number the classes from 0, or give --task regression where a number is "
            "to be predicted, or --label where another column of a table is the label"
        )


def are_one_hot(t: NDArray[Any]) -> bool:
    """Return whether targets are rows (n, k), k at least 2, of zeros and a single one."""
    return _first_not_one_hot(t) is None


def _first_not_one_hot(t: NDArray[Any]) -> int | None:
    """Return the first row that is not a single one among zeros, or None if all rows are."""
    if t.ndim != 2 or t.shape[1] < 2:
        return 0
    one_hot = ((t == 0) | (t == 1)).all(axis=1) & ((t == 1).sum(axis=1) == 1)
    return None if one_hot.all() else int(np.argmin(one_hot))


def _unfold(t: NDArray[Any]) -> NDArray[np.int64]:
    labels: NDArray[np.intp] = np.argmax(t, axis=1)
    return labels.astype(np.int64, copy=False)


def _one_hot(t: NDArray[Any], classes: int) -> NDArray[np.int64]:
    if t.ndim != 2 or t.shape[1] != classes:
        raise DataError(f"t_test has shape {t.shape}, but t_train holds one-hot rows of {classes}")
    row = _first_not_one_hot(t)
    if row is not None:
        raise DataError(
            f"t_test holds {t[row]} in row {row} (counting from 0), which is not one-hot as the "
            "rows of t_train are"
        )
    return _unfold(t)


def _regression(t: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    if t.dtype.kind != "f" or t.ndim > 2:
        raise DataError(
            f"{name} of dtype {t.dtype} and shape {t.shape} cannot be trained on: give whole "
            "numbers of shape (n,) for classes, one-hot rows (n, k), or floats (n,) or (n, k)"
            + "; t.astype(float) makes floats of these, also of rows with several 1s"
            * (t.dtype.kind != "f" and t.ndim == 2)
        )
    with np.errstate(over="ignore"):  # what is too large for float32 is reported below
        converted = t.astype(dtype)
    check_finite(converted, t, name=name)
    return converted.reshape(len(t), -1)
