"""New samples from files, for prediction."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.csv_table import Table, read_samples_csv
from dptrain.data.source import TABLE_ENDINGS
from dptrain.errors import DataError
from dptrain.experiment.schema import Experiment

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".tif", ".tiff", ".webp")


def is_table(path: Path) -> bool:
    """Return whether a file is a table, by its name."""
    return path.name.lower().endswith(TABLE_ENDINGS)


def read_table(path: Path, shape: tuple[int, ...], experiment: Experiment) -> Table:
    """Return the rows of a CSV, with the columns that a run learnt from.

    Raises:
        DataError: as `read_samples_csv`, or there is no such file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
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


def read_samples(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the samples in a file of arrays or a picture, for samples of ``shape``.

    Raises:
        DataError: the file is missing, damaged, or of a kind that is not understood.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        if suffix in PICTURES:
            return _picture(path, shape)
    except (OSError, ValueError, EOFError, UnicodeDecodeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read: {error}") from None
    raise DataError(f"{path}: input must be .npy, .csv or a picture such as .png")


def _picture(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    from PIL import Image  # costs 30 ms, and only pictures need it

    side = math.isqrt(math.prod(shape))
    size = shape if len(shape) == 2 else (side, side)
    if math.prod(size) != math.prod(shape):
        raise DataError(f"{path}: a picture does not fit samples of shape {shape}")
    with Image.open(path) as picture:
        grey = picture.convert("L").resize((size[1], size[0]))
        return np.asarray(grey, np.uint8).reshape(1, *shape)
