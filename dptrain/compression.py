"""What pruning and quantisation cost a trained network in accuracy, and what they save on disk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.digest import digest
from dptrain.checkpoint.checkpoint import Checkpoint
from dptrain.errors import DataError
from dptrain.exchange.engine import SplitScore
from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.nn.network import Layout
from dptrain.nn.pruning import prune, weight_places
from dptrain.nn.quantisation import Quantised, quantise_weights
from dptrain.trained import TrainedNetwork
from dptrain.weights.model_file import model_bytes

SPLIT = "test"


@dataclass(frozen=True)
class Variant:
    """The weights of one network, made smaller or not.

    Attributes:
        pruned: the fraction of the weights that was set to zero, None where none was.
        bits: of a quantised weight, None where none is.
        parameters: the flat vector ``(size,)`` as it is computed with.
        quantised: by name, what stands for some of the weights.
    """

    pruned: float | None
    bits: int | None
    parameters: NDArray[Any]
    quantised: dict[str, Quantised] = field(default_factory=dict)

    def checkpoint(self, network: Layout, original: Checkpoint) -> Checkpoint:
        """Return what a model file is made of."""
        return replace(
            original,
            tensors=network.views(self.parameters),
            optimizer={},
            digest=digest(self.parameters),
        )


class CompressionResult(msgspec.Struct, frozen=True):
    """What was measured of one variant.

    Attributes:
        pruned: the fraction of the weights that was set to zero, None where none was.
        bits: of a quantised weight, None where none is.
        nonzero: weights that are not zero; biases do not count.
        bytes: of its model file.
        accuracy: fraction of the test rows that is correct; None for a regression.
        loss: mean over the test rows.
        agreement: fraction of the test rows given the same class as by the original weights.
    """

    pruned: float | None
    bits: int | None
    nonzero: int
    bytes: int
    accuracy: float | None
    loss: float
    agreement: float | None


def variants(
    trained: TrainedNetwork, fractions: Sequence[float], bits: int | None
) -> list[Variant]:
    """Return the original, then each fraction pruned, quantised, and each fraction both.

    Raises:
        UsageError: a fraction or a number of bits that cannot be.
    """
    network, original = trained.layered("smaller weights"), trained.parameters
    found = [Variant(None, None, original)]
    found += [Variant(fraction, None, prune(network, original, fraction)) for fraction in fractions]
    if bits is None:
        return found
    return found + [
        Variant(each.pruned, bits, *quantise_weights(network, each.parameters, bits))
        for each in found
    ]


def measured(
    trained: TrainedNetwork, saved: Checkpoint, job: Job, what: Sequence[Variant]
) -> Iterator[CompressionResult]:
    """Yield what each variant comes to on the test rows of a job, the original first.

    Raises:
        DataError: the data set has no test rows.
    """
    if not len(job.split(SPLIT)):
        raise DataError(
            f"the data set {job.experiment.dataset} has no test rows to compare on; name another "
            "with --dataset"
        )
    places = weight_places(trained.layered("smaller weights"))
    expected = None
    for each in what:
        score = _score(job, each)
        found = _classes(trained, job, each) if job.dataset.classes else None
        expected = found if expected is None else expected
        yield CompressionResult(
            pruned=each.pruned,
            bits=each.bits,
            nonzero=int(np.count_nonzero(each.parameters[places])),
            bytes=len(model_bytes(each.checkpoint(trained.network, saved), each.quantised)),
            accuracy=score.accuracy,
            loss=score.loss,
            agreement=None if found is None else float(np.mean(found == expected)),
        )


def _score(job: Job, variant: Variant) -> SplitScore:
    return InlineEngine(job, variant.parameters, []).evaluate(SPLIT)


def _classes(trained: TrainedNetwork, job: Job, variant: Variant) -> NDArray[np.intp]:
    """Return the class of each test row, ``(n,)``; with as little memory as an evaluation needs."""
    network = replace(trained, parameters=variant.parameters)
    split = job.split(SPLIT)
    cuts = np.array_split(np.arange(len(split)), job.pieces(SPLIT))
    return np.concatenate([network.answers(split.take(rows, job.dtype)[0]) for rows in cuts])
