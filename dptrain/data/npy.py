"""The .npy format: its headers, and what NumPy raises when they are damaged."""

import errno
import io
import math
import tokenize
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# What NumPy raises on the way from a damaged header to an array, beside OSError.
DAMAGE = (ValueError, SyntaxError, tokenize.TokenError, OverflowError)


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return what precedes the values of a C-contiguous array in its file."""
    stream = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        stream, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read a header and return the shape and dtype it declares; raises as in ``DAMAGE``."""
    shape, _, dtype = _header(stream)
    return shape, dtype


def mapped_npy(file: IO[bytes]) -> NDArray[Any]:
    """Return the array in a file as a map of it, which stays when the file is closed.

    Raises as in ``DAMAGE``, and MemoryError where addresses are scarce.
    """
    file.seek(0)
    shape, fortran, dtype = _header(file)
    offset = file.tell()
    if file.seek(0, 2) > offset + math.prod(shape) * dtype.itemsize:
        raise ValueError("more bytes follow the values")
    try:
        return np.asarray(np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C"))
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise MemoryError from None
        raise


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"unknown .npy version {version}")
