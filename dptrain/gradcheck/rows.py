"""What each row alone adds to a gradient, with its own label or another."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Batch, Reference

Array = NDArray[Any]

# Training rows that are told apart one by one; of more, only those of the minibatch.
MOST_ROWS = 100
MOST_CLASSES = 10


class Rows:
    """The rows of a step, for networks that compute each row by itself."""

    def __init__(self, job: Job, reference: Reference, parameters: Array, number: int) -> None:
        self._job = job
        self._reference = reference
        self._parameters = parameters
        self._own = job.minibatch(number).tolist()
        batch = reference.batch
        self._x = np.concatenate(list(batch.inputs))
        self._t = np.concatenate(list(batch.targets))
        self._w = None if batch.weights is None else np.concatenate(list(batch.weights))

    def rows(self) -> tuple[Array, list[int]]:
        """Return each row's part, ``(rows, size)``, and which rows belong to the minibatch.

        Of all training rows where they are few, otherwise of the minibatch.
        """
        train = self._job.dataset.train
        if len(train) > MOST_ROWS or self._job.augmentation:
            return self._parts(self._x, self._t, self._w), list(range(len(self._x)))
        order = np.arange(len(train), dtype=np.intp)
        x, t = train.take(order, self._job.dtype)
        w = None
        if train.weights is not None:
            w = np.empty(len(order), train.weights.dtype)
            train.gather_weights(order, w)
        return self._parts(x.astype(float), t, w), self._own

    def labelled(self) -> tuple[Array, Array]:
        """Return each row's part with each label, ``(classes, rows, size)``, and the labels."""
        classes = self._job.dataset.classes
        if not 0 < classes <= MOST_CLASSES:
            return np.zeros((0, len(self._x), len(self._parameters))), self._t
        parts = [self._parts(self._x, np.full_like(self._t, c), self._w) for c in range(classes)]
        return np.array(parts), self._t

    def _parts(self, x: Array, t: Array, w: Array | None) -> Array:
        batch, n = self._reference.batch, len(x)
        weights = None if w is None else np.split(w.astype(float), n)
        alone = Batch(np.split(x, n), np.split(t, n), batch.seed, batch.step, weights)
        found = Reference(self._reference.network, self._reference.loss, alone)
        # divided by the rows of the minibatch, however many there are here
        parts: Array = found.gradient(self._parameters, UNITS["float64"]).shards * (
            len(x) / len(self._x)
        )
        return parts
