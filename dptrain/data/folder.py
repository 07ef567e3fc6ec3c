"""The folder of a prepared data set: memory-mappable .npy files and meta.json.

``x_train.npy`` and ``x_test.npy`` have shape (n, *sample_shape) and the dtype of the meta data, or
uint8 for grey values; ``t_train.npy`` and ``t_test.npy`` (n,) int64 or (n, k). The test files are
there only if the data set brings a test part, and ``w_train.npy``, float64 (n,), only if rows have
weights. meta.json records size and checksum of every file, so that a folder without it, or with a
file of another size or of other contents, is known to be unfinished or damaged.
"""

import zlib
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.data.checksums import Mark, damaged_file
from dptrain.data.csv_header import TableForm
from dptrain.data.npy import DAMAGE
from dptrain.data.rounding import Rounded
from dptrain.data.scale import Scale
from dptrain.errors import DataError, machine_limit

FORMAT_VERSION = 8
META = "meta.json"
_TRAIN_FILES = {"x_train.npy", "t_train.npy"}
_ALL_FILES = _TRAIN_FILES | {"w_train.npy", "x_test.npy", "t_test.npy"}


class DamagedError(DataError):
    """Bytes of a prepared data set have changed since they were written."""


class Meta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of meta.json.

    ``digest`` (hex) names the source's contents, ``source`` says where they were read from.
    ``classes`` is 0 for regression. ``rounded`` tells of inputs and targets that have lost digits,
    ``scale`` of what the inputs were before; ``offsets``, perhaps none, have been taken off each
    sample's numbers. ``form`` tells how a CSV was understood, ``notes`` are
    sentences for the user. ``files`` holds what is recorded of each .npy file;
    ``crc32`` is the checksum of all this, with 0 in its own place.
    """

    version: int
    digest: str
    name: str
    source: str
    dtype: Literal["float32", "float64"]
    classes: int
    class_names: tuple[str, ...]
    rounded: tuple[Rounded, ...]
    scale: Scale
    files: dict[str, Mark]
    form: TableForm | None = None
    notes: tuple[str, ...] = ()
    offsets: tuple[float, ...] = ()
    crc32: int = 0


def encoded(meta: Meta) -> bytes:
    """Return the bytes of meta.json, with their checksum."""
    return msgspec.json.encode(replace(meta, crc32=_crc32(meta)))


def _crc32(meta: Meta) -> int:
    return zlib.crc32(msgspec.json.encode(replace(meta, crc32=0)))


def open_folder(folder: Path) -> tuple[Meta, dict[str, NDArray[Any]]]:
    """Return the meta data and the memory-mapped arrays by name (``"x_train"`` ...).

    Raises DataError when files are missing, have another size than recorded or are no .npy. Their
    contents are not compared; see ``sound_meta``. Raises OSError where the machine has too little
    of something.
    """
    try:
        meta = msgspec.json.decode((folder / META).read_bytes(), type=Meta)
        _check_files(folder, meta)
        # Plain arrays over the maps: np.memmap would run Python code at every slice.
        arrays = {
            name.removesuffix(".npy"): np.asarray(np.load(folder / name, "r", allow_pickle=False))
            for name in meta.files
        }
    except (OSError, *DAMAGE, msgspec.MsgspecError) as error:
        if machine_limit(error):  # such as of open files: it tells nothing of the folder
            raise
        raise _not_intact(folder, error) from None
    return meta, arrays


def _check_files(folder: Path, meta: Meta) -> None:
    if meta.version != FORMAT_VERSION:
        raise ValueError(f"format version {meta.version}, expected {FORMAT_VERSION}")
    if meta.crc32 != _crc32(meta):
        raise ValueError(f"{META} is not what was written")
    if not _TRAIN_FILES <= meta.files.keys() <= _ALL_FILES:
        raise ValueError(f"{META} names the files {sorted(meta.files)}")
    for name, recorded in meta.files.items():
        found = (folder / name).stat().st_size
        if found != recorded.size:
            raise ValueError(f"{name} has {found} bytes instead of {recorded.size}")


def sound_meta(folder: Path, *, thorough: bool = False) -> Meta:
    """Return the meta data of a folder whose files hold what was written.

    Raises DamagedError where the contents of one do not, otherwise as ``open_folder``. ``thorough``
    is that of ``damaged_file``.
    """
    meta = open_folder(folder)[0]
    try:
        damaged = damaged_file(folder, meta.files, thorough=thorough)
    except OSError as error:
        if machine_limit(error):
            raise
        raise _not_intact(folder, error) from None
    if damaged is not None:
        raise DamagedError(f"{folder / damaged}: its bytes are not those that were written")
    return meta


def meta_if_sound(folder: Path) -> Meta | None:
    """Return the same, as thoroughly as can be, or None where it would raise."""
    try:
        return sound_meta(folder, thorough=True)
    except DataError:
        return None


def _not_intact(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"{folder}: no intact prepared data set ({error}); remove the folder and prepare again"
    )
