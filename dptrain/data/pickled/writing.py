"""Dicts of arrays as pickles that the book's programs load, written without `pickle`.

Written instruction by instruction, since nothing in dptrain imports `pickle`: what cannot be
imported cannot be used for reading by mistake. Protocol 4 (Python 3.4, 2014) has counts of 8 bytes,
enough for any array. The names are NumPy 1's, which NumPy 2 knows as well.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BEGIN = b"\x80\x04}("  # protocol 4, a dict, its entries
_END = b"u."
_EMPTY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"


def pickled(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the pickle of a dict of arrays of numbers or booleans."""
    entries = b"".join(_text(name) + _array(array) for name, array in arrays.items())
    return _BEGIN + entries + _END


def _array(array: NDArray[Any]) -> bytes:
    """Make an empty array, and give it its state: version, shape, dtype, C order, bytes."""
    values = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    shape = b"(" + b"".join(_number(n) for n in array.shape) + b"t"
    data = values.tobytes()
    contents = b"\x8e" + len(data).to_bytes(8, "little") + data
    state = b"(K\x01" + shape + _dtype(values.dtype) + b"\x89" + contents + b"tb"
    return _EMPTY_ARRAY + state


def _dtype(dtype: np.dtype[Any]) -> bytes:
    """Make a dtype, and give it its state: version, byte order, and what numbers do not have."""
    made = b"cnumpy\ndtype\n" + _text(dtype.str[1:]) + b"\x89\x88\x87R"
    minus_one = b"J\xff\xff\xff\xff"
    return made + b"(K\x03" + _text(dtype.str[0]) + b"NNN" + 2 * minus_one + b"K\x00tb"


def _number(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + len(raw).to_bytes(4, "little") + raw
