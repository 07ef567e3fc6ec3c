"""Gradients in which rows count without their weights."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Hypothesis
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Reference

Array = NDArray[Any]


def hypotheses(
    reference: Reference, parameters: Array, ranks: Sequence[tuple[int, int]]
) -> Iterator[Hypothesis]:
    """Yield what a step's gradient is where weights of rows are ignored; nothing without them.

    Args:
        reference: of the step.
        parameters: at which the gradient was computed, float64.
        ranks: each rank's range of shards.
    """
    weights = reference.batch.weights
    if weights is None:
        return
    parts = {"": range(len(weights))}
    if len(ranks) > 1:
        parts |= {f" by rank {i}": range(*bounds) for i, bounds in enumerate(ranks)}
    parts |= {f" in shard {i}": range(i, i + 1) for i in range(len(weights))}
    for where, shards in parts.items():
        others = [np.ones(len(w)) if i in shards else w for i, w in enumerate(weights)]
        batch = reference.batch._replace(weights=others)
        found = Reference(reference.network, reference.loss, batch)
        sentence = f"The weights of the rows are ignored{where}."
        total = found.gradient(parameters, UNITS["float64"]).total
        yield Hypothesis("weights-ignored", sentence, total)
