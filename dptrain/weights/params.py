"""Parameters as a dict of arrays in a file, as the book keeps them: .npz, or its own .pkl."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dptrain.checkpoint.atomic import atomic_write
from dptrain.data.npz import npz_bytes, read_arrays
from dptrain.data.pickled import PICKLES
from dptrain.data.pickled.reading import read_pickle
from dptrain.data.pickled.writing import pickled
from dptrain.errors import DataError, UsageError

Params = dict[str, NDArray[Any]]

SUFFIXES = (".npz", *PICKLES)

_NUMBERS = "buif"
_NAME = re.compile(r"[A-Za-z0-9_.]+")


def load_params(path: str | Path) -> Params:
    """Return the arrays in a file, by name, such as W1, b1, W2, b2; in this machine's byte order.

    Args:
        path: an .npz file, or a pickle of a dict of arrays, such as the book's sample_weight.pkl or
            params.pkl. A pickle is read without running anything in it.

    Raises:
        DataError: the file is missing or damaged, or holds anything but arrays of numbers; what was
            refused is told.
        UsageError: the path has another suffix.
    """
    path = Path(path)
    if _suffix(path) in PICKLES:
        return read_pickle(path)
    arrays = read_arrays(path, lambda *_: None)
    for name, array in arrays.items():
        if array.dtype.kind not in _NUMBERS:
            raise DataError(f"{path}: array {name!r} is {array.dtype}; only numbers are read")
    return {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}


def save_params(path: str | Path, params: Mapping[str, ArrayLike]) -> None:
    """Write arrays to a file, by name; what `load_params` reads.

    Args:
        path: an .npz file, which ``np.load`` reads, or a .pkl file, which ``pickle.load`` reads,
            as the book's programs do. Prefer .npz: loading a pickle runs what is in it, so that its
            readers must trust whoever hands it to them.
        params: arrays of numbers, with names of letters, digits, ``_`` and ``.``.

    Raises:
        UsageError: the path has another suffix, a name is none, or an array is empty or does not
            hold numbers.
        RunFolderError: the file cannot be written.
    """
    path = Path(path)
    suffix = _suffix(path)
    arrays = {name: _checked(name, np.asarray(array)) for name, array in params.items()}
    if not arrays:
        raise UsageError(f"{path}: there are no arrays to save")
    write: Callable[[Params], bytes] = pickled if suffix in PICKLES else npz_bytes
    atomic_write(path, write(arrays))


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: parameters are in files called {', '.join(SUFFIXES)}")
    return suffix


def _checked(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is not a name for an array; use letters, digits, _ and .")
    if array.dtype.kind not in _NUMBERS or array.dtype.itemsize > 8 or not array.size:
        raise UsageError(f"{name} is {array.dtype} of shape {array.shape}; it must hold numbers")
    return array
