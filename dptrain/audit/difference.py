"""How two arrays that should be the same to the last bit differ."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Difference(NamedTuple):
    """How two arrays of one shape and dtype differ.

    Attributes:
        elements: how many have other bits.
        size: of the arrays.
        largest: absolute difference; infinity where one of the two is not a number, and 0 where
            only zeros of other signs differ.
        at: its index.
        values: that stand there.
    """

    elements: int
    size: int
    largest: float
    at: tuple[int, ...]
    values: tuple[float, float]

    def plain(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return self._asdict() | {"at": list(self.at), "values": list(self.values)}

    def __str__(self) -> str:
        one, other = (f"{value:.9g}" for value in self.values)
        place = f" at {list(self.at)}" if self.at else ""
        if self.size == 1:
            return f"{one} and {other}"
        return (
            f"{self.elements:,} of {self.size:,} elements, by up to {self.largest:.3g}{place}: "
            f"{one} and {other}"
        )


def same_bits(one: Array, other: Array) -> bool:
    """Return whether two arrays have the same shape, dtype and bits."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(np.array_equal(_bits(one), _bits(other)))


def difference(one: Array, other: Array) -> Difference | None:
    """Return how two arrays of one shape and dtype differ, or None where no bit does."""
    unlike = (_bits(one) != _bits(other)).reshape(one.shape)
    if not unlike.any():
        return None
    with np.errstate(all="ignore"):
        distance = np.abs(one.astype(np.float64) - other.astype(np.float64))
    distance = np.where(np.isnan(distance), np.inf, distance)
    place = int(np.argmax(np.where(unlike, distance, -1.0)))
    index = tuple(int(i) for i in np.unravel_index(place, one.shape))
    return Difference(
        int(np.count_nonzero(unlike)),
        one.size,
        float(distance[index]),
        index,
        (float(one[index]), float(other[index])),
    )


def _bits(array: Array) -> Array:
    found: Array = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return found
