"""What is lost where numbers are rounded to float32: values far from 0 that differ by little."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.data.spool import Rows, pieces_of

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
    values: Rows, dtype: np.dtype[Any], what: str, names: Sequence[str] = ()
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
    low, high = np.inf, -np.inf
    for part in pieces_of(values):
        piece = np.asarray(values[part], np.float64)
        low, high = np.minimum(low, piece.min(axis=0)), np.maximum(high, piece.max(axis=0))
    size, spread = np.maximum(abs(low), abs(high)), np.asarray(high - low)
    # a deviation is at least spread / √(2 n), which acquits nearly all columns of nearly all data
    suspects = size * np.finfo(dtype).eps > _SHARE * spread / math.sqrt(2 * len(values))
    suspects &= spread > 0
    places = np.argwhere(suspects)
    if not len(places):
        return None

    def columns() -> Iterator[NDArray[np.float64]]:
        return (values[part][:, suspects].astype(np.float64) for part in pieces_of(values))

    rows = len(values)
    mean = sum(each.sum(axis=0) for each in columns()) / rows
    deviation = np.sqrt(sum(np.square(each - mean).sum(axis=0) for each in columns()) / rows)
    lost = sum(np.square(each.astype(dtype) - each).sum(axis=0) for each in columns())
    share = np.sqrt(lost / rows) / deviation
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
