"""The .npy format: its headers, and what NumPy raises when they are damaged."""

import io
import tokenize
from typing import IO, Any

import numpy as np

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
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"unknown .npy version {version}")
    return shape, dtype
