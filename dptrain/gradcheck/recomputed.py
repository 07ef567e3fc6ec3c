"""The parts of a step's gradient computed again, with something done otherwise."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.hypotheses.evidence import Recipe
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Batch, Reference
from dptrain.gradcheck.taken import taken, taken_weights

Array = NDArray[Any]

# Training rows that are told apart one by one; of more, only those of the minibatch.
MOST_ROWS = 100
MOST_CLASSES = 10


class Recomputed:
    """The parts of one step's gradient."""

    def __init__(
        self, local: Local, reference: Reference, parameters: Array, number: int, *, trusted: bool
    ) -> None:
        """Bind.

        Args:
            local: the job in this process.
            reference: formulas of the step.
            parameters: at which the gradient was computed, flat, float64.
            number: of the step.
            trusted: whether this process's own code may be asked: not where it is what is wrong.
        """
        self._local = local
        self._job = local.job
        self._reference = reference
        self._parameters = parameters
        self._number = number
        self._trusted = trusted

    def shards(self, recipe: Recipe) -> Array:
        """Return every shard's part of the gradient by a recipe, ``(shards, size)``."""
        if recipe.weights is None and recipe.step is None:
            return self._by_formulas(recipe)
        if not self._trusted:
            raise NotImplementedError("the code of this process is what is wrong")
        weights = self._parameters if recipe.weights is None else recipe.weights
        step = self._number if recipe.step is None else recipe.step
        return self._local.shards(weights, step).astype(float)

    def _by_formulas(self, recipe: Recipe) -> Array:
        batch = self._reference.batch
        if recipe.targets is not None:
            batch = batch._replace(targets=[recipe.targets(t) for t in batch.targets])
        if recipe.unweighed is not None:
            if batch.weights is None:
                raise NotImplementedError("rows have no weights")
            weights = enumerate(batch.weights)
            ones = [np.ones(len(w)) if s in recipe.unweighed else w for s, w in weights]
            batch = batch._replace(weights=ones)
        return self._gradient(batch, recipe)

    def _gradient(self, batch: Batch, recipe: Recipe | None = None) -> Array:
        swaps = None if recipe is None else recipe.swaps
        found = Reference(self._reference.network, self._reference.loss, batch, swaps)
        return found.gradient(self._parameters, UNITS["float64"]).shards

    def rows(self) -> tuple[Array, list[int]]:
        """Return each row's part, ``(rows, size)``, and which rows belong to the minibatch.

        Of all training rows where they are few, otherwise of the minibatch. For networks that
        compute each row by itself.
        """
        train, batch = self._job.dataset.train, self._reference.batch
        if len(train) > MOST_ROWS or self._job.augmentation:
            x, t, w = (_joined(each) for each in (batch.inputs, batch.targets, batch.weights))
            return self._apart(x, t, w), list(range(len(x)))
        order = np.arange(len(train), dtype=np.intp)
        x, t = taken(self._job, order)
        w = taken_weights(self._job, order)
        return self._apart(x.astype(float), t, w), self._job.minibatch(self._number).tolist()

    def labelled(self) -> tuple[Array, Array]:
        """Return each row's part with each label, ``(classes, rows, size)``, and the labels."""
        batch, classes = self._reference.batch, self._job.dataset.classes
        x, t, w = (_joined(each) for each in (batch.inputs, batch.targets, batch.weights))
        if not 0 < classes <= MOST_CLASSES:
            return np.zeros((0, len(x), len(self._parameters))), t
        return np.array([self._apart(x, np.full_like(t, c), w) for c in range(classes)]), t

    def _apart(self, x: Array, t: Array, w: Array | None) -> Array:
        """Return the part of each row, in a minibatch of as many rows as there should be."""
        n, batch = len(x), self._reference.batch
        weights = None if w is None else np.split(w.astype(float), n)
        alone = batch._replace(inputs=np.split(x, n), targets=np.split(t, n), weights=weights)
        return self._gradient(alone) * (n / sum(batch.sizes))


def _joined(parts: Any) -> Any:
    return None if parts is None else np.concatenate(list(parts))
