"""Read IDX files, the format of MNIST.

Two zero bytes, one byte for the type, one for the number of dimensions; then each dimension as a
big-endian 32-bit number; then the values, big-endian, the last dimension running fastest
(http://yann.lecun.com/exdb/mnist/, "The IDX file format").
"""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.opening import DEFLATE_LIMIT, opened
from dptrain.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> NDArray[Any]:
    """Return the array of an IDX file, plain or gzipped, in native byte order.

    Raises DataError naming the file when it is unreadable, no IDX file, cut short, too long or
    damaged. A header is believed only as far as the file's size allows, before anything of the
    size it declares is allocated.
    """
    with opened(path) as (stream, gzipped):
        dtype, shape = _header(path, stream)
        size = math.prod(shape) * dtype.itemsize
        limit = path.stat().st_size * (DEFLATE_LIMIT if gzipped else 1)
        if size > limit:
            raise DataError(_cut_short(path, shape, size, f"the file holds at most {limit}"))
        values = np.empty(shape, dtype)
        found = _fill(stream, values)
        if found < size:
            raise DataError(_cut_short(path, shape, size, f"only {found} follow it"))
        # Reading past the end also makes gzip compare its checksum.
        if stream.read(1):
            raise DataError(
                f"{path}: more bytes follow the {size} of values that its header declares "
                f"(shape {shape}); not an intact IDX file"
            )
    return values.astype(dtype.newbyteorder("="), copy=False)


def declared_bytes(path: Path) -> int:
    """Return how many bytes of values a file declares, as far as its size allows; as `read_idx`."""
    with opened(path) as (stream, gzipped):
        dtype, shape = _header(path, stream)
        limit = path.stat().st_size * (DEFLATE_LIMIT if gzipped else 1)
        return min(math.prod(shape) * dtype.itemsize, limit)


def _header(path: Path, stream: "io.BufferedReader[Any]") -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: truncated: {len(magic)} bytes are too few for an IDX header")
    if magic[:2] != b"\0\0":
        raise DataError(f"{path}: not an IDX file: it starts with {magic.hex(' ')}, not with 00 00")
    code, dimensions = magic[2], magic[3]
    if code not in _DTYPES:
        known = ", ".join(f"0x{code:02x}" for code in _DTYPES)
        raise DataError(f"{path}: unknown IDX type 0x{code:02x}; known are {known}")
    if not 1 <= dimensions <= 32:
        raise DataError(f"{path}: an IDX array of {dimensions} dimensions; 1 to 32 can be read")
    raw = stream.read(4 * dimensions)
    if len(raw) < 4 * dimensions:
        raise DataError(f"{path}: truncated inside the header's {dimensions} dimensions")
    return np.dtype(_DTYPES[code]), tuple(np.frombuffer(raw, ">u4").tolist())


def _fill(stream: "io.BufferedReader[Any]", values: NDArray[Any]) -> int:
    """Read into ``values`` until it is full or the stream ends; return the bytes read."""
    target = values.reshape(-1).view(np.uint8).data
    found = 0
    while found < len(target):
        # Pieces, because gzip reads each request into bytes of its own first.
        count = stream.readinto(target[found : found + (1 << 20)])
        if not count:
            break
        found += count
    return found


def _cut_short(path: Path, shape: tuple[int, ...], size: int, found: str) -> str:
    return (
        f"{path}: truncated: its header declares shape {shape}, {size} bytes of values, but {found}"
    )
