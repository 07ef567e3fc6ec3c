"""Bugs in a layer or the loss: what the reference would give with that layer made wrong."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Hypothesis
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.dropout_mutants import stream_mutants
from dptrain.gradcheck.reference.loss_mutants import loss_mutants
from dptrain.gradcheck.reference.mutant import Mutant
from dptrain.gradcheck.reference.mutants import mutants
from dptrain.gradcheck.reference.network import LOSS, Reference
from dptrain.gradcheck.reference.places import leaves
from dptrain.nn.dropout import Dropout
from dptrain.nn.layer import Layer

Array = NDArray[Any]


def hypotheses(
    reference: Reference,
    parameters: Array,
    ranks: Sequence[tuple[int, int]],
    steps_per_epoch: int = 1,
    apart: Array | None = None,
) -> Iterator[Hypothesis]:
    """Yield what each bug in each layer would lead to, the layers nearest to the loss first.

    Args:
        reference: of the minibatch.
        parameters: flat ``(size,)`` float64.
        ranks: each rank's range of shards.
        steps_per_epoch: of the run.
        apart: the shards' right parts, ``(shards, size)``; then each bug is tried on each rank
            alone, too.
    """
    tried: list[tuple[str, str, Array]] = []
    for found in _everywhere(reference, parameters, ranks, steps_per_epoch):
        kind, sentence, shards = found
        yield Hypothesis(kind, sentence, shards.sum(axis=0))
        if apart is not None and kind.startswith("dropout"):
            tried.append(found)
    for kind, sentence, shards in tried:
        assert apart is not None
        for rank, (low, high) in enumerate(ranks):
            part = (shards[low:high] - apart[low:high]).sum(axis=0)
            yield Hypothesis(kind, f"rank {rank}: {sentence}", apart.sum(axis=0) + part)


def _everywhere(
    reference: Reference,
    parameters: Array,
    ranks: Sequence[tuple[int, int]],
    steps_per_epoch: int,
) -> Iterator[tuple[str, str, Array]]:
    """Yield kinds and sentences of bugs, and the shards' parts with each of them."""
    for loss_mutant in loss_mutants(reference.loss):
        sentence = f"{reference.loss.kind}: {loss_mutant.sentence}"
        yield from _tried(reference, parameters, [LOSS], loss_mutant._replace(sentence=sentence))
    row = list(leaves(reference.network.row))
    names = {place: name for place, name, _ in row}
    step = reference.batch.step

    def bugs(layer: Layer) -> Iterator[Mutant]:
        yield from mutants(layer, ranks)
        if isinstance(layer, Dropout) and layer.rate:
            yield from stream_mutants(step, steps_per_epoch, names)

    for place, name, layer in reversed(row):
        for mutant in bugs(layer):
            sentence = f"{name}: {mutant.sentence}"
            yield from _tried(reference, parameters, [place], mutant._replace(sentence=sentence))
    for kind in dict.fromkeys(layer.kind for _, _, layer in row):
        alike = [(place, layer) for place, _, layer in row if layer.kind == kind]
        for mutant in bugs(alike[0][1]) if len(alike) > 1 else ():
            sentence = f"every {kind}: {mutant.sentence}"
            places = [place for place, _ in alike]
            yield from _tried(reference, parameters, places, mutant._replace(sentence=sentence))


def _tried(
    reference: Reference, parameters: Array, places: Sequence[tuple[int, ...]], mutant: Mutant
) -> Iterator[tuple[str, str, Array]]:
    swaps = dict.fromkeys(places, mutant.forward)
    wrong = Reference(reference.network, reference.loss, reference.batch, swaps)
    try:
        with np.errstate(all="ignore"):
            found = wrong.gradient(parameters, UNITS["float64"])
    except ValueError:  # a bug that cannot be had in these shapes
        return
    yield mutant.kind, mutant.sentence, found.shards
