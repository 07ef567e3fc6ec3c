"""Dropout masks as real workers draw them.

The probe has inputs of 1, dropout and a linear layer with weights of 0 whose output i has a target
for row i alone: the gradient of its column i is the mask of row i, times ``1 / (1 - p)``, times a
number that is known. So every element of every row's mask is seen, whoever drew it.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import shard_sizes
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.comparison import Comparison, compare, entry, told_of
from dptrain.gradcheck.diagnosis import Diagnosis, described, ranked, weighed
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.hypotheses.orders import bounds_of
from dptrain.gradcheck.probe import EPOCHS, probe, weight_gradients
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.mistaken_masks import Mask, Run, Stream, wrong_masks
from dptrain.gradcheck.reference.places import leaves
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Program
from dptrain.nn.dropout import Dropout
from dptrain.nn.network import Network

Array = NDArray[Any]

FEATURES = 1024
LARGEST_BATCH = 64
# Roundings between a mask and what is read off the gradient: the factor, the loss's gradient, and
# their products.
ROUNDINGS = 8


class Masks(NamedTuple):
    """What was seen of dropout at one rate.

    Attributes:
        rate: probability of being left out.
        values: what dropout multiplied with, ``(rows of all steps, features)``, in order.
        sizes: of the shards of each step, in rows.
        seed: of the experiment.
        unit: roundoff of the job's dtype.
    """

    rate: float
    values: Array
    sizes: Sequence[tuple[int, ...]]
    seed: int
    unit: float

    def drawn(self, mask: Mask) -> Array:
        """Return what dropout should multiply with, or does by a mistake, like ``values``."""
        return np.concatenate(
            [
                mask.drawn(Stream(self.seed, step, (0,), s), sizes, (n, FEATURES), self.rate)
                for step, sizes in enumerate(self.sizes)
                for s, n in enumerate(sizes)
            ]
        )

    def beyond(self, mask: Mask) -> float:
        """Return how far the values are from what a mask gives, rounding aside."""
        wanted = self.drawn(mask)
        difference = np.abs(self.values - wanted)
        room = ROUNDINGS * self.unit * np.maximum(wanted, 1)
        left = np.nan_to_num(np.where(difference <= room, 0, difference), nan=1e100)
        return float(np.sqrt(np.sum(left**2)))


def check_masks(job: Job, way: Way, *, worker: Program = WORKER) -> list[Comparison]:
    """Check the masks of real workers, once for every rate that a job's network has.

    Empty where it has none.

    Args:
        job: the one that is checked.
        way: exchange and workers, which are started anew.
        worker: as of `dptrain.gradcheck.distributed.engine`.
    """
    if not isinstance(job.network, Network):
        return []
    layers = [layer for _, _, layer in leaves(job.network.row)]
    rates = {each.rate for each in layers if isinstance(each, Dropout) and each.rate}
    return [judged(seen(job.experiment, way, rate, worker=worker), way) for rate in sorted(rates)]


def seen(experiment: Settled, way: Way, rate: float, *, worker: Program = WORKER) -> Masks:
    """Return the masks that a probe shows; arguments as of `check_masks`."""
    batch = min(experiment.batch_size, LARGEST_BATCH)
    rows = 2 * batch
    with tempfile.TemporaryDirectory(prefix="dptrain-masks-") as name:
        folder = Path(name) / "data"
        x = np.ones((rows, FEATURES))
        job = probe(folder, experiment, [Dropout(rate)], x, np.eye(rows), batch)
        gradients = weight_gradients(job, folder, way, worker=worker)
        orders = [job.minibatch(step).copy() for step in range(len(gradients))]
    # each column's gradient is that of (y - t)² over rows and outputs, at y = 0 and t = 1
    scale = -2 / (batch * rows)
    values = [g[:, order].T / scale for g, order in zip(gradients, orders, strict=True)]
    sizes = [shard_sizes(len(order), experiment.shards) for order in orders]
    return Masks(rate, np.concatenate(values), sizes, experiment.seed, UNITS[experiment.dtype])


def judged(masks: Masks, way: Way) -> Comparison:
    """Compare masks with the reference's."""
    found = compare(
        "masks = the reference's",
        "masks",
        f"{way}, dropout {masks.rate}",
        [entry("masks", masks.values.shape)],
        masks.values.reshape(-1),
        masks.drawn(Mask()).reshape(-1),
        ROUNDINGS * masks.unit / (1 - masks.rate),
    )
    if found.verdict is not Verdict.FAIL:
        return found
    return told_of([found], note=described(diagnose_masks(masks, way.workers)))[0]


def diagnose_masks(masks: Masks, workers: int = 1) -> list[Diagnosis]:
    """Return what could be wrong with masks, the best explanation first; empty: nothing is.

    Args:
        masks: as they were seen.
        workers: of the run.
    """
    nothing = masks.beyond(Mask())
    if not nothing:
        return []
    shards = max(map(len, masks.sizes))
    run = Run(bounds_of(shards, workers), len(masks.sizes) // EPOCHS)
    known = (each._replace(sentence=f"Dropout: {each.sentence}.") for each in wrong_masks(run))
    return ranked(weighed(known, lambda mask: masks.beyond(mask) / nothing))
