"""What is lost where numbers are rounded to float32: values far from 0 that differ by little."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

# A rounding error of this share of the deviation is worth telling: three digits are left.
_SHARE = 1e-3
TARGETS = "the targets"
_PIECE_BYTES = 1 << 22

Values = NDArray[np.float64]


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
    shape = values.shape[1:]
    total, squares, errors = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    for x in _pieces(values):
        total += x.sum(axis=0)
        low, high = np.minimum(low, x.min(axis=0)), np.maximum(high, x.max(axis=0))
        errors += np.square(x.astype(dtype) - x).sum(axis=0)
    mean = total / len(values)
    for x in _pieces(values):
        squares += np.square(x - mean).sum(axis=0)
    # a constant column's deviation may be a rounding error of its mean
    share = np.divide(errors, squares, out=np.zeros(shape), where=(low < high) & (squares > 0))
    found = int(np.sum(share > _SHARE**2))
    if not found:
        return None
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(share)), shape))
    at = float(mean[place])
    return Rounded(
        _name(place, what, names),
        at,
        math.sqrt(float(squares[place]) / len(values)),
        float(np.spacing(dtype.type(abs(at)))),
        found - 1,
    )


def _name(place: tuple[int, ...], what: str, names: Sequence[str]) -> str:
    if names:
        return f"column {names[place[0]]!r}"
    if not place:
        return what
    return f"column {place[0]} of {what}" if len(place) == 1 else f"{what} at {place}"


def _pieces(values: NDArray[Any]) -> Iterator[Values]:
    rows = max(1, _PIECE_BYTES // (8 * max(1, math.prod(values.shape[1:]))))
    for first in range(0, len(values), rows):
        yield values[first : first + rows].astype(np.float64)
