"""New samples from files, for prediction."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DataError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp")


def read_samples(
    path: Path, shape: tuple[int, ...], columns: Sequence[str] | None = None
) -> NDArray[Any]:
    """Return the samples in a file, for a network that takes samples of ``shape``.

    ``columns`` names what it learnt from, to be found again in a CSV file with a header line.

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
        if suffix in PICTURES:
            return _picture(path, shape)
    except (OSError, ValueError, EOFError, UnicodeDecodeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from None
    raise DataError(f"{path}: input must be .npy, .csv or a picture such as .png")


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


def _picture(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    from PIL import Image  # costs 30 ms, and only pictures need it

    side = math.isqrt(math.prod(shape))
    size = shape if len(shape) == 2 else (side, side)
    if math.prod(size) != math.prod(shape):
        raise DataError(f"{path}: a picture does not fit samples of shape {shape}")
    with Image.open(path) as picture:
        grey = picture.convert("L").resize((size[1], size[0]))
        return np.asarray(grey, np.uint8).reshape(1, *shape)
