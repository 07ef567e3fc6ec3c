"""The memory in which one pass computes."""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# A cache line: vector instructions on aligned buffers do not straddle two of them.
ALIGNMENT = 64


class Workspace:
    """Hands out uninitialised arrays; once rewound, the same arrays in the same order.

    Two passes that are never computed at the same time, such as those over the two versions of the
    weights, so share one set of buffers, which stay in the cache.
    """

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []
        self._next = 0

    def rewind(self) -> None:
        """Begin anew with the first array."""
        self._next = 0

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of this shape and dtype; after `rewind`, that of the time before."""
        if self._next == len(self._arrays):
            self._arrays.append(aligned_empty(shape, dtype))
        found = self._arrays[self._next]
        assert (found.shape, found.dtype) == (shape, np.dtype(dtype))
        self._next += 1
        return found


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised C-contiguous array that begins at a cache line."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
