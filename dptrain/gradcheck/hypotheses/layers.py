"""Bugs in a layer or the loss: what the reference would give with that layer made wrong."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Hypothesis
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.loss_mutants import loss_mutants
from dptrain.gradcheck.reference.mutant import Mutant
from dptrain.gradcheck.reference.mutants import mutants
from dptrain.gradcheck.reference.network import LOSS, Reference
from dptrain.gradcheck.reference.places import leaves

Array = NDArray[Any]


def hypotheses(
    reference: Reference, parameters: Array, ranks: Sequence[tuple[int, int]]
) -> Iterator[Hypothesis]:
    """Yield what each bug in each layer would lead to, the layers nearest to the loss first.

    Args:
        reference: of the minibatch.
        parameters: flat ``(size,)`` float64.
        ranks: each rank's range of shards.
    """
    for loss_mutant in loss_mutants(reference.loss):
        sentence = f"{reference.loss.kind}: {loss_mutant.sentence}"
        yield from _tried(reference, parameters, [LOSS], loss_mutant._replace(sentence=sentence))
    row = list(leaves(reference.network.row))
    for place, name, layer in reversed(row):
        for mutant in mutants(layer, ranks):
            sentence = f"{name}: {mutant.sentence}"
            yield from _tried(reference, parameters, [place], mutant._replace(sentence=sentence))
    for kind in dict.fromkeys(layer.kind for _, _, layer in row):
        alike = [(place, layer) for place, _, layer in row if layer.kind == kind]
        for mutant in mutants(alike[0][1], ranks) if len(alike) > 1 else ():
            sentence = f"every {kind}: {mutant.sentence}"
            places = [place for place, _ in alike]
            yield from _tried(reference, parameters, places, mutant._replace(sentence=sentence))


def _tried(
    reference: Reference, parameters: Array, places: Sequence[tuple[int, ...]], mutant: Mutant
) -> Iterator[Hypothesis]:
    swaps = dict.fromkeys(places, mutant.forward)
    wrong = Reference(reference.network, reference.loss, reference.batch, swaps)
    try:
        with np.errstate(all="ignore"):
            found = wrong.gradient(parameters, UNITS["float64"])
    except ValueError:  # a bug that cannot be had in these shapes
        return
    yield Hypothesis(mutant.kind, mutant.sentence, found.total)
