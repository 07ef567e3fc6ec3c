"""Arrays as callers of the Python API give them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dptrain.errors import DataError


def plain_array(given: ArrayLike, name: str) -> NDArray[Any]:
    """Return an array without a mask.

    Raises:
        DataError: values are masked, alone or in arrays of a list.
    """
    parts: Any = given if isinstance(given, list | tuple) else [given]
    masked = sum(int(np.sum(each.mask)) for each in parts if isinstance(each, np.ma.MaskedArray))
    if masked:
        raise DataError(
            f"{name} is a masked array with {masked} masked values, which cannot be left out one "
            "by one; leave out their rows, or put numbers there with .filled(...)"
        )
    return np.asarray(given)
