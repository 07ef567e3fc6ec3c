"""New samples from files, for prediction."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.cli.pictures import PICTURES, Reader
from dptrain.data.csv_table import CsvTable, read_samples_csv
from dptrain.data.npy import DAMAGE, read_npy_header
from dptrain.data.npz import read_inputs
from dptrain.data.source import TABLE_ENDINGS
from dptrain.errors import DataError, UsageError
from dptrain.experiment.schema import Experiment


def input_files(given: Sequence[Path]) -> list[Path]:
    """Return the files to predict from; of a folder its pictures, in the order of their names.

    Raises:
        DataError: there is no such file, or no picture in a folder.
        UsageError: nothing is given.
    """
    if not given:
        raise UsageError("--input needs a value; name files, or a folder of pictures")
    found: list[Path] = []
    for path in given:
        if not path.is_dir():
            found.append(path)
            continue
        pictures = sorted(each for each in path.iterdir() if is_picture(each))
        if not pictures:
            raise DataError(f"{path}: a folder without pictures; name a file")
        found += pictures
    return found


def is_picture(path: Path) -> bool:
    """Tell whether a file is a picture, by its name."""
    return path.suffix.lower() in PICTURES


def is_table(path: Path) -> bool:
    """Return whether a file is a table, by its name."""
    return path.name.lower().endswith(TABLE_ENDINGS)


def read_table(path: Path, shape: tuple[int, ...], experiment: Experiment) -> CsvTable:
    """Return the rows of a CSV, with the columns that a run learnt from.

    Raises:
        DataError: as `read_samples_csv`, or there is no such file.
    """
    _demand_file(path)
    header = experiment.header
    if header is None and experiment.columns is not None:  # a run of an earlier version
        header = True
    return read_samples_csv(
        path,
        header=header,
        columns=experiment.columns,
        label=experiment.label,
        features=math.prod(shape),
    )


def read_samples(path: Path, reader: Reader) -> NDArray[Any]:
    """Return the samples in a file of arrays or a picture, ``(n, …)``; ``reader`` reads pictures.

    Raises:
        DataError: the file is missing, damaged, or of a kind that is not understood.
    """
    _demand_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return _array(path)
        if suffix == ".npz":
            name, found = read_inputs(path)
            reader.notes.append(f"{path}: its array {name!r} is predicted from")
            return found
        if is_picture(path):
            return reader.read(path)
    except (OSError, EOFError, UnicodeDecodeError, *DAMAGE) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from None
    raise DataError(f"{path}: input must be .npy, .npz, .csv or a picture such as .png")


def _array(path: Path) -> NDArray[Any]:
    """Return the array in a file, once its header declares no more than the file holds."""
    with path.open("rb") as file:
        shape, dtype = read_npy_header(file)
        declared, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
    if declared > held and not dtype.hasobject:  # NumPy tells what to do about objects
        raise DataError(
            f"{path}: truncated: shape {shape} takes {declared:,} bytes, the file holds {held:,}"
        )
    return np.asarray(np.load(path, allow_pickle=False))


def _demand_file(path: Path) -> None:
    if not path.is_file():  # a pipe could keep its reader waiting for ever
        raise DataError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
