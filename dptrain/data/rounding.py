"""What is lost where numbers are rounded to float32: values far from 0 that differ by little."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

# A rounding error of this share of the deviation is worth telling: three digits are left.
_SHARE = 1e-3
TARGETS = "the targets"


class Rounded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column that loses digits.

    Attributes:
        name: such as ``"column 'when'"``.
        mean: of its values as given.
        deviation: of these.
        spacing: of float32 at the mean.
        others: how many columns beside it lose digits too.
    """

    name: str
    mean: float
    deviation: float
    spacing: float
    others: int = 0


def worst_rounded(
    values: NDArray[Any], dtype: np.dtype[Any], what: str, names: Sequence[str] = ()
) -> Rounded | None:
    """Return the column that rounding takes most of, if it takes much of any.

    Args:
        values: as given, ``(n, …)``, finite in ``dtype``.
        dtype: what they are rounded to.
        what: they are, such as ``"x_train"``.
        names: of the columns of ``(n, columns)``, where they have any.
    """
    if values.dtype.itemsize <= 2 or np.can_cast(values.dtype, dtype):
        return None
    low, high = (np.asarray(f(axis=0), np.float64) for f in (values.min, values.max))
    size, spread = np.maximum(abs(low), abs(high)), high - low
    # a deviation is at least spread / √(2 n), which acquits nearly all columns of nearly all data
    suspects = size * np.finfo(dtype).eps > _SHARE * spread / math.sqrt(2 * len(values))
    suspects &= spread > 0
    places = np.argwhere(suspects)
    if not len(places):
        return None
    columns = values[:, suspects].astype(np.float64)
    mean = columns.mean(axis=0)
    deviation = np.sqrt(np.square(columns - mean).mean(axis=0))
    share = np.sqrt(np.square(columns.astype(dtype) - columns).mean(axis=0)) / deviation
    found = int(np.sum(share > _SHARE))
    if not found:
        return None
    at = int(np.argmax(share))
    return Rounded(
        _name(tuple(map(int, places[at])), what, names),
        float(mean[at]),
        float(deviation[at]),
        float(np.spacing(dtype.type(abs(mean[at])))),
        found - 1,
    )


def _name(place: tuple[int, ...], what: str, names: Sequence[str]) -> str:
    if names:
        return f"column {names[place[0]]!r}"
    if not place:
        return what
    return f"column {place[0]} of {what}" if len(place) == 1 else f"{what} at {place}"
