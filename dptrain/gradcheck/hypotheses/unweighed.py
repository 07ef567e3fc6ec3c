"""Gradients in which rows count without their weights."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Hypothesis
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Reference

Array = NDArray[Any]

KIND = "weights-ignored"


def hypotheses(
    reference: Reference, parameters: Array, ranks: Sequence[tuple[int, int]]
) -> Iterator[Hypothesis]:
    """Yield what a step's gradient is where weights of rows are ignored; nothing without them.

    Args:
        reference: of the step.
        parameters: at which the gradient was computed, float64.
        ranks: each rank's range of shards.
    """
    batch = reference.batch
    if batch.weights is None:
        return
    equal = Reference(reference.network, reference.loss, batch._replace(weights=None))
    right = reference.gradient(parameters, UNITS["float64"])
    alike = equal.gradient(parameters, UNITS["float64"])
    yield Hypothesis(KIND, "The weights of the rows are ignored.", alike.total)
    change = alike.shards - right.shards
    for rank, (low, high) in enumerate(ranks if len(ranks) > 1 else ()):
        sentence = f"The weights of the rows are ignored by rank {rank}."
        yield Hypothesis(KIND, sentence, right.total + change[low:high].sum(axis=0))
    for shard, own in enumerate(change):
        if np.any(own):
            sentence = f"The weights of the rows are ignored in shard {shard}."
            yield Hypothesis(KIND, sentence, right.total + own)
