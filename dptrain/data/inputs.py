"""Convert the inputs of a data set to the numbers that are trained on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DataError


def normalise_inputs(
    x: NDArray[Any], dtype: np.dtype[Any], *, name: str = "x", first_row: int = 0
) -> NDArray[Any]:
    """Return inputs of shape (n, *sample_shape) in ``dtype``; a shape (n,) becomes (n, 1).

    uint8 (grey values) is divided by 255, other numbers are cast. Raises DataError for the first
    value that is not finite in ``dtype``, naming ``name`` and the row, which counts from
    ``first_row`` for the sake of arrays converted in pieces.
    """
    if x.dtype == np.uint8:
        converted: NDArray[Any] = np.empty(x.shape, dtype)
        scale_grey(x, converted)
    else:
        with np.errstate(over="ignore"):  # what is too large for float32 is reported below
            converted = x.astype(dtype)
        check_finite(converted, x, name=name, first_row=first_row)
    return converted[:, np.newaxis] if converted.ndim == 1 else converted


def scale_grey(grey: NDArray[np.uint8], out: NDArray[Any]) -> None:
    """Write grey values divided by 255 into ``out``, of the same shape."""
    # two steps: dividing uint8 by a float goes through small buffers, and takes as long again
    np.copyto(out, grey)
    np.divide(out, out.dtype.type(255), out=out)


def check_finite(
    converted: NDArray[Any], source: NDArray[Any], *, name: str, first_row: int = 0
) -> None:
    """Raise DataError naming the first value of ``converted`` that is infinite or NaN."""
    finite = np.isfinite(converted)
    if finite.all():
        return
    row, *position = np.unravel_index(int(np.argmin(finite)), finite.shape)
    value = source[(row, *position)]
    column = ", ".join(str(int(part)) for part in position)
    where = f"row {first_row + int(row)}" + (f", column {column}" if position else "")
    problem = f"too large for {converted.dtype}" if np.isfinite(value) else "not a finite number"
    raise DataError(f"{name} holds {value} in {where} (counting from 0), which is {problem}")
