"""The order in which the rows of an epoch are visited."""

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.randomness import Purpose, generator


def epoch_order(seed: int, epoch: int, rows: int) -> NDArray[np.intp]:
    """Return the permutation, shape ``(rows,)``, in which epoch ``epoch`` visits the rows."""
    return generator(seed, Purpose.SHUFFLE, epoch).permutation(rows).astype(np.intp, copy=False)
