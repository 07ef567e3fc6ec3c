"""New samples from files, for prediction."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.cli.pictures import PICTURES, Reader
from dptrain.data.npz import read_inputs
from dptrain.errors import DataError


def input_files(given: Sequence[Path]) -> list[Path]:
    """Return the files to predict from; of a folder its pictures, in the order of their names.

    Raises:
        DataError: there is no such file, or no picture in a folder.
    """
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


def read_samples(path: Path, reader: Reader, columns: Sequence[str] | None = None) -> NDArray[Any]:
    """Return the samples in a file, ``(n, …)``.

    ``reader`` reads pictures. ``columns`` names what the network learnt from, to be found again in
    a CSV file with a header line.

    Raises:
        DataError: the file is missing, damaged, or of a kind that is not understood.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if suffix == ".csv":
            return _table(path, columns)
        if suffix == ".npz":
            name, found = read_inputs(path)
            reader.notes.append(f"{path}: its array {name!r} is predicted from")
            return found
        if is_picture(path):
            return reader.read(path)
    except (OSError, ValueError, EOFError, UnicodeDecodeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from None
    raise DataError(f"{path}: input must be .npy, .npz, .csv or a picture such as .png")


def _table(path: Path, columns: Sequence[str] | None) -> NDArray[Any]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if row]
    header: list[str] = []
    if rows and not all(_is_number(cell) for cell in rows[0]):
        header, *rows = rows
    if not rows:
        raise DataError(f"{path}: has no rows")
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise DataError(f"{path}: row {i} has {len(row)} cells, the first has {len(rows[0])}")
    names = [cell.strip() for cell in header]
    whole = len(names) == len(rows[0])
    if columns is not None and whole and all(each in names for each in columns):
        rows = [[row[names.index(each)] for each in columns] for row in rows]
    return np.array([[float(cell) for cell in row] for row in rows])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
