"""Read a folder of IDX files under the names that MNIST and its successors use."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.idx import read_idx
from dptrain.data.raw import RawData
from dptrain.errors import DataError

_TRAIN = (("train-images", "idx3"), ("train-labels", "idx1"))
_TEST = (("t10k-images", "idx3"), ("t10k-labels", "idx1"))

# Of the unpacked embedded files, in the order of the names above.
MNIST_SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


def find_idx_files(folder: Path) -> tuple[Path, ...]:
    """Return the paths of training images and labels and, where there are any, of the test's.

    Names are those of MNIST, ``train-images-idx3-ubyte`` and so on, or with a dot before ``idx``;
    each plain or with ``.gz``. Raises DataError naming the file that is missing.
    """
    test = [_find(folder, *name) for name in _TEST]
    if any(test) and not all(test):
        present = next(path for path in test if path)
        raise DataError(f"{folder}: holds {present.name}, but not the other file of the test pair")
    train = [_find(folder, *name) for name in _TRAIN]
    for path, (stem, code) in zip(train, _TRAIN, strict=True):
        if path is None:
            raise DataError(
                f"{folder}: holds no {stem}-{code}-ubyte or {stem}-{code}-ubyte.gz; a folder is "
                "read as the IDX files of MNIST by their usual names"
            )
    return tuple(path for path in (*train, *test) if path)


def _find(folder: Path, stem: str, code: str) -> Path | None:
    names = [f"{stem}{dot}{code}-ubyte{end}" for end in ("", ".gz") for dot in "-."]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_idx_files(files: tuple[Path, ...]) -> RawData:
    """Read two or four files, in the order of ``find_idx_files``."""
    x_train, t_train, *test = (read_idx(path) for path in files)
    x_test, t_test = test or (None, None)
    return RawData(x_train, t_train, x_test, t_test)


def read_embedded_mnist(files: tuple[Path, ...]) -> RawData:
    """Read the files that come with the package; DataError unless they are the original ones."""
    data = read_idx_files(files)
    arrays = (data.x_train, data.t_train, data.x_test, data.t_test)
    for path, values, expected in zip(files, arrays, MNIST_SHA256, strict=True):
        if values is None or _unpacked_sha256(values) != expected:
            raise DataError(f"{path}: not the MNIST file of this release; install dptrain again")
    return data


def _unpacked_sha256(values: NDArray[Any]) -> str:
    """Return the SHA-256 of the IDX file of an array of bytes, as ``sha256sum`` would."""
    header = bytes((0, 0, 0x08, values.ndim)) + np.array(values.shape, ">u4").tobytes()
    digest = hashlib.sha256(header)
    digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()
