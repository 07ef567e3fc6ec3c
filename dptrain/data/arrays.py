"""Arrays as callers of the Python API give them, and the classes that words stand for."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dptrain.data.csv_classes import class_number
from dptrain.data.csv_header import cell_number
from dptrain.data.inputs import check_finite
from dptrain.data.raw import RawData
from dptrain.data.targets import are_one_hot
from dptrain.errors import DataError, suggestion

_MOST_NAMES = 8  # of classes in a message


def plain_array(given: ArrayLike, name: str) -> NDArray[Any]:
    """Return an array without a mask, of numbers or text where its objects are such.

    Raises:
        DataError: values are masked, alone or in arrays of a list; or one is missing.
    """
    parts: Any = given if isinstance(given, list | tuple) else [given]
    masked = sum(int(np.sum(each.mask)) for each in parts if isinstance(each, np.ma.MaskedArray))
    if masked:
        raise DataError(
            f"{name} is a masked array with {masked} masked values, which cannot be left out one "
            "by one; leave out their rows, or put numbers there with .filled(...)"
        )
    try:
        array = np.asarray(given)
    except ValueError as error:  # lists of different lengths
        raise DataError(f"{name} is not an array: {error}") from None
    if array.dtype.kind == "U" and not isinstance(given, np.ndarray):
        array = np.asarray(given, object)  # in which numbers among words are still numbers
    return _decoded(array, name) if array.dtype.kind != "O" else _typed(array, name)


def _decoded(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return bytes as the text that they stand for, all else as it is."""
    if array.dtype.kind != "S":
        return array
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{name} holds bytes that are not text in UTF-8; give text") from None


def _typed(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return objects as numbers or text; raise DataError where one is missing, or of both kinds."""
    for row, value in enumerate(array.reshape(len(array), -1) if array.ndim else ()):
        if any(map(_missing, value)):
            raise DataError(f"{name} lacks a value in row {row} (counting from 0); leave it out")
    if len({isinstance(each, str) for each in array.flat}) > 1:
        raise DataError(f"{name} holds words as well as numbers; give one kind")
    found: NDArray[Any] = np.array(array.tolist())
    return found


def finite_numbers(given: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return numbers to predict as float64; raise DataError where there is anything else."""
    array = plain_array(given, name)
    if array.dtype.kind not in "buif":
        raise DataError(f"{name} has dtype {array.dtype}; it must hold numbers or booleans")
    values = array.astype(np.float64)
    check_finite(values, array, name=name)
    return values


def _missing(value: object) -> bool:
    # pandas' NA and NaT cannot be compared without an error, or come out as themselves
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def named_classes(data: RawData, known: Sequence[str] = ()) -> RawData:
    """Return targets that are words as class numbers, by the words of the training part in order.

    Numbers in quotes are numbers, as they are in a table. ``known`` are the names of a run's
    classes, by which labels are numbered instead; see `numbered`.

    Raises:
        DataError: the test part has a word that the training part lacks, or a label is none of
            ``known``.
    """
    if data.class_names:  # the source has named and numbered them
        return data
    train = _decoded(data.t_train, "t_train")
    test = None if data.t_test is None else _decoded(data.t_test, "t_test")
    if not known and train.dtype.kind != "U":
        return data
    if not known:
        if train.ndim == 2 and train.shape[1] == 1:
            train, test = train[:, 0], None if test is None else test.reshape(len(test), -1)[:, 0]
        try:
            whole = train.astype(np.int64), None if test is None else test.astype(np.int64)
        except ValueError:
            pass
        else:
            return replace(data, t_train=whole[0], t_test=whole[1])
    names = tuple(known) or tuple(str(each) for each in np.unique(train))
    numbers = numbered(train, names, "t_train")
    others = None if test is None else numbered(test, names, "t_test")
    return replace(data, t_train=numbers, t_test=others, class_names=names)


def numbered(t: NDArray[Any], names: Sequence[str], what: str) -> NDArray[np.int64]:
    """Return class numbers ``(n,)`` of labels in any form.

    Labels are words; or numbers that are the names of classes, such as -1 and 1; otherwise class
    numbers from 0, or one-hot rows ``(n, classes)``.

    Raises:
        DataError: a label is not a class.
    """
    if t.ndim == 2 and t.shape[1] > 1:
        if t.shape[1] != len(names) or not are_one_hot(t):
            raise DataError(
                f"{what} of shape {t.shape} are no one-hot rows of the {len(names)} classes "
                f"{_listed(names)}; give these, class numbers or names"
            )
        found: NDArray[np.intp] = t.argmax(axis=1)
        return found.astype(np.int64)
    labels = t.reshape(-1)
    values = [value for name in names if (value := cell_number(name)) is not None]
    named = len(values) == len(names) and values != list(range(len(names)))
    if (
        t.dtype.kind not in "buif"
        or (labels < 0).any()
        or (named and np.isin(labels, values).all())
    ):
        return class_numbers(labels, names, what)
    fits = np.isin(labels, range(len(names)))
    if not fits.all():
        row = int(np.argmin(fits))
        raise DataError(
            f"{what} holds {labels[row]} in row {row} (counting from 0), which is not a class "
            f"number: they are 0 to {len(names) - 1}, for {_listed(names)}"
        )
    return labels.astype(np.int64)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + ", …" * (len(names) > _MOST_NAMES)


def class_numbers(t: NDArray[Any], names: Sequence[str], what: str) -> NDArray[np.int64]:
    """Return the places of labels ``(n,)`` among the names of classes.

    Raises:
        DataError: a label is not among them.
    """
    words, first, inverse = np.unique(t.astype(str), return_index=True, return_inverse=True)
    places = [class_number(str(word), names) for word in words]
    if None in places:
        row = min(at for at, place in zip(first, places, strict=True) if place is None)
        word = str(t.astype(str)[row])
        near = suggestion(word, names) or "; they are the classes of training"
        raise DataError(
            f"{what} holds {word!r} in row {row} (counting from 0), which is none of "
            f"{_listed(names)}{near}"
        )
    return np.array(places, np.int64)[inverse]
