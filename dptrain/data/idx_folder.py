"""Read a folder of IDX files under the names that MNIST and its successors use."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.idx import read_idx
from dptrain.data.raw import RawData
from dptrain.errors import DataError

_TRAIN = (("train", "images"), ("train", "labels"))
_TEST = (("test", "images"), ("test", "labels"))
_AXES = {"images": "idx3", "labels": "idx1"}
_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]"
    r"(?P<axes>idx[13])-ubyte(\.gz)?"
)

# Of the unpacked embedded files, in the order of the names above.
MNIST_SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


def find_idx_files(path: Path) -> tuple[Path, ...]:
    """Return the paths of training images and labels and, where there are any, of the test's.

    Names are those of MNIST, ``train-images-idx3-ubyte`` and so on, or with a dot before ``idx``;
    each plain or with ``.gz``; before them may stand the name of a data set, as in
    ``emnist-letters-train-images-idx3-ubyte``, and ``test`` in place of ``t10k``.

    Args:
        path: their folder, or one that holds it as a folder ``raw``; or the training images, where
            a folder holds several data sets.

    Raises:
        DataError: a file is missing, or there are several data sets.
    """
    named = not path.is_dir() and is_idx_name(path)
    folder = path.parent if named else _folder_of_files(path)
    sets = _data_sets(folder)
    trained = sorted(prefix for prefix, parts in sets.items() if _TRAIN[0] in parts)
    prefix = "" if "" in trained else (trained or [""])[0]
    if named:
        prefix = path.name.partition("train-images")[0]
    if not named and "" not in trained and len(trained) > 1:
        raise DataError(
            f"{path}: holds several data sets: {', '.join(each.strip('-_.') for each in trained)}; "
            f"name the training images of one, as {sets[trained[0]][_TRAIN[0]]}"
        )
    found = sets.get(prefix, {})
    test = [found.get(each) for each in _TEST]
    if any(test) and not all(test):
        present = next(path for path in test if path)
        raise DataError(f"{folder}: holds {present.name}, but not the other file of the test pair")
    for part, what in _TRAIN:
        if (part, what) not in found:
            stem = f"{prefix}{part}-{what}-{_AXES[what]}-ubyte"
            raise DataError(
                f"{folder}: holds no {stem} or {stem}.gz; a folder is read as the IDX files of "
                "MNIST by their usual names"
            )
    return tuple(found[each] for each in (*_TRAIN, *_TEST) if each in found)


def is_idx_name(path: Path) -> bool:
    """Tell whether a file is called as training images are."""
    return "train-images" in path.name and _NAME.fullmatch(path.name) is not None


def data_set_name(path: Path) -> str:
    """Return what stands before ``train-images`` in the name of a file; ``""`` if nothing does."""
    return path.name.partition("train-images")[0].strip("-_.")


def _folder_of_files(path: Path) -> Path:
    """Return the folder itself, or the only one below it where downloads are unpacked."""
    if _data_sets(path):
        return path
    below = [path / "raw", *sorted(path.glob("*/raw"))]
    found = [each for each in below if each.is_dir() and _data_sets(each)]
    return found[0] if len(found) == 1 else path


def _data_sets(folder: Path) -> dict[str, dict[tuple[str, str], Path]]:
    """Return the files of a folder by prefix, part and contents; plain ones before gzipped."""
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda each: (each.suffix == ".gz", each.name)):
        name = _NAME.fullmatch(path.name)
        if name and name["axes"] == _AXES[name["what"]] and path.is_file():
            part = "train" if name["part"] == "train" else "test"
            found.setdefault(name["prefix"], {}).setdefault((part, name["what"]), path)
    return found


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
