"""Read the mnist.pkl that dataset/mnist.py of "Deep Learning from Scratch" writes."""

import math
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dptrain.data.pickled.reading import read_pickle
from dptrain.data.raw import RawData
from dptrain.errors import DataError

_TRAIN = ("train_img", "train_label")
_TEST = ("test_img", "test_label")


def read_book_pickle(path: Path) -> RawData:
    """Return the images and labels of a pickled dict; images in rows come back as squares.

    ``train_img`` and ``test_img`` are (n, 784) in the book's file, or (n, k) with any other square
    k; others stay as they are. Nothing is unpickled, and the test pair may be missing.

    Raises DataError naming the file when it is damaged, or holds anything else.
    """
    arrays = read_pickle(path)
    holds = f"a data set is {', '.join(_TRAIN)} and, optionally, {', '.join(_TEST)}"
    if "W1" in arrays:
        raise DataError(
            f"{path}: holds {', '.join(arrays)}: the weights of a network, not a data set; "
            "`dptrain convert` makes a model of them"
        )
    with_test = any(name in arrays for name in _TEST)
    wanted = _TRAIN + _TEST * with_test
    if sorted(arrays) != sorted(wanted):
        raise DataError(f"{path}: holds {', '.join(arrays)}, but {holds}")
    train, labels = _squares(arrays[_TRAIN[0]]), arrays[_TRAIN[1]]
    if not with_test:
        return RawData(train, labels)
    return RawData(train, labels, _squares(arrays[_TEST[0]]), arrays[_TEST[1]])


def _squares(images: NDArray[Any]) -> NDArray[Any]:
    """Return rows of pixels as images where they are squares."""
    side = math.isqrt(images.shape[1]) if images.ndim == 2 else 0
    return images.reshape(-1, side, side) if side and side**2 == images.shape[1] else images
