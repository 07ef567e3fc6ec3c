"""What a data set holds before it is normalised."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.scale import layout_of
from dptrain.errors import DataError


@dataclass(frozen=True, eq=False)
class RawData:
    """Arrays as they were read: rows first, of any dtype, not yet checked.

    ``x_test`` and ``t_test`` are None when the data set brings no test part, ``w_train``, the
    weights of the rows, where every row counts the same. ``class_names`` is empty unless the source
    names its classes, and ``input_names`` unless it names its columns. ``notes`` are sentences for
    the user. On the way to a prepared data set the inputs of a large table are `FileRows`, which
    give slices alone.
    """

    x_train: NDArray[Any]
    t_train: NDArray[Any]
    x_test: NDArray[Any] | None = None
    t_test: NDArray[Any] | None = None
    class_names: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    w_train: NDArray[Any] | None = None


def transposed(data: RawData) -> RawData:
    """Return images with rows and columns exchanged; DataError where samples are not images."""
    layout = layout_of(data.x_train.shape[1:])
    if layout is None:
        raise DataError(
            f"samples of shape {data.x_train.shape[1:]} are not images whose rows and columns "
            "could be exchanged; leave out --transpose"
        )
    height, width, channels, first = layout
    axes = (0, 1, 3, 2) if first else (0, 2, 1, 3)
    shape = (channels, height, width) if first else (height, width, channels)

    def turned(given: NDArray[Any]) -> NDArray[Any]:
        x = np.asarray(given)  # of a large table, all of it
        exchanged = x.reshape(len(x), *shape).transpose(axes)
        last = exchanged.shape[1:] if x.ndim == 4 else exchanged.shape[1:3]
        return exchanged.reshape(len(x), *(last if x.ndim > 2 else (-1,)))

    return replace(
        data,
        x_train=turned(data.x_train),
        x_test=None if data.x_test is None else turned(data.x_test),
    )


def check_raw(data: RawData) -> None:
    """Raise DataError unless all arrays hold numbers, have rows and fit each other in shape."""
    _check_part("train", data.x_train, data.t_train)
    if data.x_test is None and data.t_test is None:
        return
    if data.x_test is None or data.t_test is None:
        missing = "x_test" if data.x_test is None else "t_test"
        raise DataError(f"{missing} is missing; give both x_test and t_test, or neither")
    _check_part("test", data.x_test, data.t_test)
    if data.x_test.shape[1:] != data.x_train.shape[1:]:
        raise DataError(
            f"a row of x_test has shape {data.x_test.shape[1:]}, "
            f"but a row of x_train {data.x_train.shape[1:]}"
        )
    if (data.x_test.dtype == np.uint8) != (data.x_train.dtype == np.uint8):
        raise DataError(
            f"x_train is {data.x_train.dtype} and x_test {data.x_test.dtype}; only uint8 is "
            "divided by 255, so give both as uint8 from 0 to 255, or both as fractions (x / 255)"
        )


def _check_part(part: str, x: NDArray[Any], t: NDArray[Any]) -> None:
    for name, values in ((f"x_{part}", x), (f"t_{part}", t)):
        if values.dtype.kind not in "buif":
            raise DataError(f"{name} has dtype {values.dtype}; it must hold numbers or booleans")
        if values.ndim == 0:
            raise DataError(f"{name} is a single value; its first dimension must count the rows")
        if values.size == 0:
            raise DataError(f"{name} is empty: its shape is {values.shape}")
    if len(x) != len(t):
        raise DataError(f"x_{part} has {len(x)} rows, but t_{part} has {len(t)}")
