"""What is lost where numbers are rounded to float32: values far from 0 that differ by little."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.data.scale import GREY
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


class _Losses(NamedTuple):
    """Of each column that loses digits: where it is, mean, deviation, share of that in errors."""

    places: NDArray[np.intp]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    share: NDArray[np.float64]


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
    found = _losses(values, dtype)
    if found is None:
        return None
    at = int(np.argmax(found.share))
    return Rounded(
        _name(tuple(map(int, found.places[at])), what, names),
        float(found.mean[at]),
        float(found.deviation[at]),
        float(np.spacing(dtype.type(abs(found.mean[at])))),
        len(found.places) - 1,
    )


def offsets_of(values: Rows, dtype: np.dtype[Any]) -> tuple[float, ...]:
    """Return a whole number near the mean of each column that loses digits, 0 of the others.

    Nothing where there are none such. Taken off before rounding, it leaves the column its digits.
    """
    found = _losses(values, dtype)
    if found is None:
        return ()
    offsets = np.zeros(values.shape[1:])
    for place, mean in zip(found.places, found.mean, strict=True):
        if abs(mean) > GREY:  # what is smaller may be fractions of white, or grey values
            offsets[tuple(place)] = np.rint(mean)
    return tuple(offsets.reshape(-1).tolist()) if offsets.any() else ()


def lost_before(dtype: np.dtype[Any], offsets: Sequence[float]) -> str:
    """Return what to say of inputs in a dtype that has lost what offsets were to save, or ""."""
    largest = max(map(abs, offsets))
    if dtype.kind != "f" or dtype.itemsize >= 8:
        return ""
    spacing = 2.0 ** math.floor(math.log2(largest)) * float(np.finfo(dtype).eps)
    return (
        f"the network was trained on float64 with means up to {largest:g}, and these are {dtype}, "
        f"which holds such numbers to the nearest {spacing:g} only; give float64"
    )


def _losses(values: Rows, dtype: np.dtype[Any]) -> _Losses | None:
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
    loses = share > _SHARE
    if not loses.any():
        return None
    return _Losses(places[loses], mean[loses], deviation[loses], share[loses])


def _name(place: tuple[int, ...], what: str, names: Sequence[str]) -> str:
    if names:
        return f"column {names[place[0]]!r}"
    if not place:
        return what
    return f"column {place[0]} of {what}" if len(place) == 1 else f"{what} at {place}"
