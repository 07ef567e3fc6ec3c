"""Arrays as callers of the Python API give them, and the classes that words stand for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dptrain.data.raw import RawData
from dptrain.errors import DataError, suggestion


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
        raise DataError(f"{name} is no array: {error}") from None
    if array.dtype.kind == "U" and not isinstance(given, np.ndarray):
        array = np.asarray(given, object)  # in which numbers among words are still numbers
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    return array if array.dtype.kind != "O" else _typed(array, name)


def _typed(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return objects as numbers or text; raise DataError where one is missing, or of both kinds."""
    for row, value in enumerate(array.reshape(len(array), -1) if array.ndim else ()):
        if any(each is None or each != each or "NAType" in type(each).__name__ for each in value):
            raise DataError(f"{name} lacks a value in row {row} (counting from 0); leave it out")
    if len({isinstance(each, str) for each in array.flat}) > 1:
        raise DataError(f"{name} holds words as well as numbers; give one kind")
    found: NDArray[Any] = np.array(array.tolist())
    return found


def named_classes(data: RawData) -> RawData:
    """Return targets that are words as class numbers, by the words of the training part in order.

    Numbers in quotes are numbers, as they are in a table.

    Raises:
        DataError: the test part has a word that the training part lacks.
    """
    train, test = data.t_train, data.t_test
    if train.dtype.kind != "U":
        return data
    if train.ndim == 2 and train.shape[1] == 1:
        train, test = train[:, 0], None if test is None else test.reshape(len(test), -1)[:, 0]
    try:
        whole = train.astype(np.int64), None if test is None else test.astype(np.int64)
    except ValueError:
        pass
    else:
        return RawData(data.x_train, whole[0], data.x_test, whole[1])
    names = tuple(str(each) for each in np.unique(train))
    numbers = class_numbers(train, names, "t_train")
    others = None if test is None else class_numbers(test, names, "t_test")
    return RawData(data.x_train, numbers, data.x_test, others, names)


def class_numbers(t: NDArray[Any], names: Sequence[str], what: str) -> NDArray[np.int64]:
    """Return the places of words ``(n,)`` among the names of classes.

    Raises:
        DataError: a word is not among them.
    """
    places = {name: i for i, name in enumerate(names)}
    for row, word in enumerate(t.astype(str)):
        if word not in places:
            near = suggestion(str(word), names) or "; they are the classes of training"
            raise DataError(
                f"{what} holds {str(word)!r} in row {row} (counting from 0), which is none of "
                f"{', '.join(names)}{near}"
            )
    return np.array([places[str(word)] for word in t], np.int64)
