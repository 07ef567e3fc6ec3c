"""Read and write .npz files: data sets of x_train, t_train and perhaps a test part; any arrays."""

import io
import math
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.archive_names import by_role, inputs_of
from dptrain.data.npy import DAMAGE, mapped_npy, read_npy_header
from dptrain.data.opening import DEFLATE_LIMIT
from dptrain.data.raw import RawData
from dptrain.data.spool import IN_MEMORY, Room
from dptrain.errors import DataError

if TYPE_CHECKING:
    import zipfile


def read_npz(path: Path, room: Room | None = None) -> RawData:
    """Return the arrays x_train, t_train and, where the file has them, x_test, t_test, w_train.

    They may have any of the customary names; see `archive_names`. Where there is ``room``, arrays
    of more than 8 MB are maps of files there.

    Raises DataError naming the file when it is damaged, lacks a required array, holds an unknown
    one or Python objects. Nothing is unpickled.
    """
    arrays = read_arrays(path, by_role, room)
    found = {role: arrays[name] for role, name in by_role(path, list(arrays)).items()}
    test = found.get("x_test"), found.get("t_test")
    return RawData(found["x_train"], found["t_train"], *test, w_train=found.get("w_train"))


def read_inputs(path: Path) -> tuple[str, NDArray[Any]]:
    """Return name and values of the array that is to be predicted from; see `inputs_of`.

    Raises DataError as `read_npz` does.
    """
    arrays = read_arrays(path, inputs_of)
    name = inputs_of(path, list(arrays))
    return name, arrays[name]


def read_arrays(
    path: Path, check: Callable[[Path, list[str]], object], room: Room | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of any .npz file by name, once ``check`` has seen the path and the names.

    ``room`` is that of `read_npz`.

    Raises DataError naming the file when it is damaged or holds Python objects. Nothing is
    unpickled.
    """
    import zipfile  # here, because its import takes 10 ms and a warm cache never needs it

    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            check(path, list(members))
            return {
                key: _read_member(path, archive, key, info, room) for key, info in members.items()
            }
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not an intact .npz file ({error}); make it again") from None
    except RuntimeError as error:  # encrypted, or packed in a way that zipfile does not know
        raise DataError(f"{path}: cannot be unpacked: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_member(
    path: Path,
    archive: "zipfile.ZipFile",
    key: str,
    info: "zipfile.ZipInfo",
    room: Room | None,
) -> NDArray[Any]:
    try:
        with archive.open(info) as stream:
            _check_size(stream, min(info.file_size, DEFLATE_LIMIT * path.stat().st_size))
        with archive.open(info) as stream:
            if room is not None and info.file_size > 8 * IN_MEMORY:
                return _mapped(stream, room)
            values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            # Reading past the end makes zipfile compare the checksum.
            if stream.read(1):
                raise ValueError("more bytes follow the values")
    except DAMAGE as error:
        raise DataError(f"{path}: array {key!r} cannot be read: {error}") from None
    return values


def _mapped(stream: IO[bytes], room: Room) -> NDArray[Any]:
    """Return an array that is unpacked into a file."""
    file = room.file()
    try:
        shutil.copyfileobj(stream, file, 1 << 20)  # to the end, where zipfile compares the checksum
        file.flush()
    except OSError as error:
        raise room.full(error, file.tell()) from None
    return mapped_npy(file)


def _check_size(stream: IO[bytes], size: int) -> None:
    """Refuse a header that declares more than the archive holds, before NumPy allocates it."""
    shape, dtype = read_npy_header(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects; store numbers, or words with .astype(str)")
    declared = math.prod(shape) * dtype.itemsize
    held = size - stream.tell()
    if declared > held:
        raise ValueError(
            f"truncated: shape {shape} takes {declared} bytes, the archive holds {held}"
        )


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the file that holds these arrays, of numbers or bytes: equal arrays, equal bytes.

    Not by ``np.savez_compressed``, to which an array called ``file`` would be another file.
    """
    import zipfile  # here, because most runs read no archive

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return packed.getvalue()
