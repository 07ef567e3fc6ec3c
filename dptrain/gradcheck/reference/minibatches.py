"""Which stored rows a step visits, and what they hold: written a second time, from the files.

The splits and the order of an epoch are permutations, with the keys ``(2, 0)`` for the rows held
out for testing, ``(2, 1)`` for validation, ``(2, 2)`` for ``train_rows``, and ``(1, epoch)`` for
the order. Every run that was ever recorded depends on these numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.data.target_scale import TargetScale
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.reference.streams import SHUFFLE, SPLIT, stream

Array = NDArray[Any]

TEST, VALIDATION, TRAIN = 0, 1, 2


@dataclass(frozen=True)
class Visits:
    """The rows of every step, as numbers of rows that are stored for training.

    Attributes:
        experiment: settled.
        has_test: whether the data set brings a test part of its own.
        train: the rows to train on, ascending.
        spare: rows that ``train_rows`` leaves out.
        validation: held out.
        test: held out.
    """

    experiment: Settled
    has_test: bool
    train: Array
    spare: Array
    validation: Array
    test: Array

    @property
    def seed(self) -> int:
        """Of the experiment."""
        return self.experiment.seed

    @property
    def batch_size(self) -> int:
        """Rows of a whole minibatch."""
        return self.experiment.batch_size

    @property
    def stored(self) -> int:
        """Rows in all."""
        return sum(map(len, (self.train, self.spare, self.validation, self.test)))

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch, of which the last may have fewer rows."""
        return (len(self.train) + self.batch_size - 1) // self.batch_size

    def order(self, epoch: int) -> Array:
        """Return the places in ``train`` in the order of an epoch."""
        return stream(self.seed, SHUFFLE, epoch).permutation(len(self.train))

    def minibatch(self, step: int) -> Array:
        """Return the rows of a step, in order."""
        epoch, position = divmod(step, self.per_epoch)
        first = position * self.batch_size
        return self.train[self.order(epoch)[first : first + self.batch_size]]

    def with_settings(self, **settings: Any) -> "Visits":
        """Return which rows an experiment would visit that is different in some settings."""
        other = msgspec.structs.replace(self.experiment, **settings)
        return visits(other, self.stored, has_test=self.has_test)


def visits(experiment: Settled, stored: int, *, has_test: bool) -> Visits:
    """Return which rows an experiment visits.

    Args:
        experiment: settled.
        stored: rows that the data set has for training.
        has_test: whether it brings a test part of its own.
    """
    seed, rows = experiment.seed, np.arange(stored)
    rows, test = _apart(rows, 0.0 if has_test else experiment.test, seed, TEST)
    rows, validation = _apart(rows, experiment.validation, seed, VALIDATION)
    spare = rows[:0]
    if experiment.train_rows is not None:
        order = stream(seed, SPLIT, TRAIN).permutation(len(rows))
        chosen, rest = order[: experiment.train_rows], order[experiment.train_rows :]
        rows, spare = np.sort(rows[chosen]), np.sort(rows[rest])
    return Visits(experiment, has_test, rows, spare, validation, test)


def _apart(rows: Array, fraction: float, seed: int, key: int) -> tuple[Array, Array]:
    """Return the rows that stay, and those that are held out."""
    if not fraction:
        return rows, rows[:0]
    count = max(1, round(fraction * len(rows)))
    order = stream(seed, SPLIT, key).permutation(len(rows))
    return np.sort(rows[order[count:]]), np.sort(rows[order[:count]])


def sizes(rows: int, shards: int) -> list[int]:
    """Return the rows of every shard, also of those that are empty: the larger ones come first."""
    return [rows // shards + (shard < rows % shards) for shard in range(shards)]


class Stored:
    """What a prepared data set holds for training, as it is stored.

    Inputs ``x`` are ``(rows, *sample)``, targets ``t`` ``(rows,)`` or ``(rows, units)``, weights
    ``w`` ``(rows,)``, or None where there are none.
    """

    def __init__(
        self,
        x: Array,
        t: Array,
        dtype: np.dtype[Any],
        w: Array | None = None,
        scale: TargetScale | None = None,
    ) -> None:
        """Keep arrays; inputs will be in a dtype, targets standardised by a scale."""
        self.x, self.t, self.w = x, t, w
        self._dtype, self._scale = dtype, scale

    @classmethod
    def opened(
        cls, folder: Path, dtype: np.dtype[Any], scale: TargetScale | None = None
    ) -> "Stored":
        """Open the files of a prepared data set."""
        x, t = (np.load(folder / f"{name}_train.npy", mmap_mode="r") for name in "xt")
        weights = folder / "w_train.npy"
        return cls(x, t, dtype, np.load(weights) if weights.exists() else None, scale)

    def inputs(self, rows: Array) -> Array:
        """Return the inputs of some rows: numbers as they are, grey values from 0 to 1."""
        found = np.asarray(self.x[rows])
        if found.dtype == np.uint8:
            grey: Array = found.astype(self._dtype) / self._dtype.type(255)
            return grey
        return found.astype(self._dtype)

    def targets(self, rows: Array) -> Array:
        """Return the targets of some rows, perhaps standardised."""
        found = np.asarray(self.t[rows])
        if self._scale is None:
            return found
        centred = found.astype(float) - np.array(self._scale.mean)
        scaled: Array = centred / np.array(self._scale.deviation)
        return scaled.astype(self._dtype)
