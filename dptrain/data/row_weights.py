"""How much each row of the training part counts: what may be a weight, and on which scale.

Weights are relative: they are divided by their mean over the rows that are trained on. So the mean
of a minibatch's weighted losses is divided by its number of rows like any other, which does not
depend on who else is in it; over all rows it is ``Σ w l / Σ w``, as scikit-learn has it; and
weights that are all the same change nothing, to the last bit.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DataError

# Columns of these names are hardly features.
WEIGHT_NAMES = (
    "weight",
    "weights",
    "sample_weight",
    "sample_weights",
    "row_weight",
    "row_weights",
)


def checked_weights(given: NDArray[Any], rows: int, name: str) -> NDArray[np.float64]:
    """Return weights ``(rows,)`` as float64.

    Raises:
        DataError: they are no such array of numbers from 0, or none is more than 0.
    """
    if given.dtype.kind not in "buif":
        raise DataError(f"{name} has dtype {given.dtype}; it must hold numbers")
    if given.shape != (rows,):
        raise DataError(
            f"{name} has shape {given.shape}, but the data have {rows} rows; give one weight for "
            f"each, of shape ({rows},)"
        )
    weights = given.astype(np.float64)
    usable = np.isfinite(weights) & (weights >= 0)
    if not usable.all():
        row = int(np.argmin(usable))
        raise DataError(
            f"{name} holds {weights[row]} in row {row} (counting from 0); a weight is a finite "
            "number, 0 or more"
        )
    if not weights.any():
        raise DataError(f"{name} holds only zeros, so that no row counts; give some more than 0")
    return weights


def relative_weights(
    weights: NDArray[np.float64], trained: NDArray[np.intp] | None, dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Return weights ``(n,)`` divided by their mean over the rows that are trained on.

    The mean is that of the exact sum, so that every process comes to the same bits.

    Args:
        weights: as for `checked_weights`.
        trained: which of the n rows are trained on; None for all of them.
        dtype: of the result.

    Raises:
        DataError: those rows have no weight.
    """
    own = weights if trained is None else weights[trained]
    largest = own.max()
    if not largest:
        raise DataError(
            f"the {len(own)} rows that are left for training all have the weight 0; hold fewer "
            "rows out, with a smaller test or validation or a larger train_rows"
        )
    # by the largest first, whose multiples do not overflow and of which equal ones become 1
    mean = math.fsum((own / largest).tolist()) / len(own)
    with np.errstate(over="ignore"):  # of rows that are held out, which nobody asks for
        found: NDArray[Any] = (weights / largest / mean).astype(dtype)
    return found
