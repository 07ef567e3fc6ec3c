"""Bugs in which rows are visited when, as gradients."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.hypotheses.evidence import Hypothesis
from dptrain.gradcheck.hypotheses.orders import orders
from dptrain.gradcheck.reference.augmentation import augmented, draws_of
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.minibatches import Stored, sizes, visits
from dptrain.gradcheck.reference.network import Batch, Reference

Array = NDArray[Any]


def hypotheses(
    job: Job,
    reference: Reference,
    parameters: Array,
    number: int,
    ranks: Sequence[tuple[int, int]],
) -> Iterator[Hypothesis]:
    """Yield the gradients of the rows that other orders would visit in a step.

    Args:
        job: the one that is checked.
        reference: of the step.
        parameters: at which the gradient was computed, float64.
        number: of the step.
        ranks: each rank's range of shards.
    """
    data, seed = job.dataset, job.experiment.seed
    scale = job.experiment.target_scale
    stored = Stored(data.train.inputs, data.train.targets, job.dtype, scale=scale)
    own = data.test.inputs is not data.train.inputs
    right = visits(job.experiment, len(stored.x), has_test=own)
    draws = draws_of(job.experiment, data.sample_shape)
    seen = [right.minibatch(number)]
    for order in orders(right, ranks, job.shards):
        rows = order.minibatch(number)
        if not len(rows) or any(np.array_equal(rows, other) for other in seen):
            continue
        seen.append(rows)
        shards = sizes(len(rows), job.shards)
        x = augmented(stored.inputs(rows), shards, number, draws).x
        cuts = np.cumsum([n for n in shards if n])[:-1]
        t, weights = np.split(stored.targets(rows), cuts), None
        if data.train.weights is not None:
            weights = np.split(data.train.weights[rows].astype(float), cuts)
        batch = Batch(np.split(x, cuts), t, seed, number, weights)
        found = Reference(reference.network, reference.loss, batch)
        gradient = found.gradient(parameters, UNITS["float64"]).total
        yield Hypothesis(order.kind, order.sentence, gradient)
