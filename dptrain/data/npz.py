"""Read .npz files: data sets holding x_train, t_train and perhaps x_test, t_test; any arrays."""

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.npy import DAMAGE, read_npy_header
from dptrain.data.opening import DEFLATE_LIMIT
from dptrain.data.raw import RawData
from dptrain.errors import DataError, suggestion

if TYPE_CHECKING:
    import zipfile

_REQUIRED = ("x_train", "t_train")
_KEYS = (*_REQUIRED, "x_test", "t_test")


def read_npz(path: Path) -> RawData:
    """Return the arrays x_train, t_train and, where the file has them, x_test, t_test.

    Raises DataError naming the file when it is damaged, lacks a required array, holds an unknown
    one or Python objects. Nothing is unpickled.
    """
    arrays = read_arrays(path, _check_keys)
    return RawData(arrays["x_train"], arrays["t_train"], arrays.get("x_test"), arrays.get("t_test"))


def read_arrays(path: Path, check: Callable[[Path, list[str]], None]) -> dict[str, NDArray[Any]]:
    """Return the arrays of any .npz file by name, once ``check`` has seen the path and the names.

    Raises DataError naming the file when it is damaged or holds Python objects. Nothing is
    unpickled.
    """
    import zipfile  # here, because its import takes 10 ms and a warm cache never needs it

    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            check(path, list(members))
            return {key: _read_member(path, archive, key, info) for key, info in members.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not an intact .npz file ({error}); make it again") from None
    except RuntimeError as error:  # encrypted, or packed in a way that zipfile does not know
        raise DataError(f"{path}: cannot be unpacked: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _check_keys(path: Path, found: list[str]) -> None:
    holds = f"an .npz holds {', '.join(_REQUIRED)} and, optionally, x_test, t_test"
    for key in found:
        if key not in _KEYS:
            near = suggestion(key, [known for known in _KEYS if known not in found])
            raise DataError(f"{path}: unknown array {key!r}: {holds}{near}")
    for key in _REQUIRED:
        if key not in found:
            raise DataError(f"{path}: has no array {key!r}, only {sorted(found)}: {holds}")
    if ("x_test" in found) != ("t_test" in found):
        raise DataError(f"{path}: has one of x_test and t_test; give both or neither")


def _read_member(
    path: Path, archive: "zipfile.ZipFile", key: str, info: "zipfile.ZipInfo"
) -> NDArray[Any]:
    try:
        with archive.open(info) as stream:
            _check_size(stream, min(info.file_size, DEFLATE_LIMIT * path.stat().st_size))
        with archive.open(info) as stream:
            values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            # Reading past the end makes zipfile compare the checksum.
            if stream.read(1):
                raise ValueError("more bytes follow the values")
    except DAMAGE as error:
        raise DataError(f"{path}: array {key!r} cannot be read: {error}") from None
    return values


def _check_size(stream: IO[bytes], size: int) -> None:
    """Refuse a header that declares more than the archive holds, before NumPy allocates it."""
    shape, dtype = read_npy_header(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects; store numbers")
    declared = math.prod(shape) * dtype.itemsize
    held = size - stream.tell()
    if declared > held:
        raise ValueError(
            f"truncated: shape {shape} takes {declared} bytes, the archive holds {held}"
        )
