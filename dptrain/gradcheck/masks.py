"""Dropout masks as real workers draw them.

The probe has inputs of 1, dropout and a linear layer with weights of 0 whose output i has a target
for row i alone: the gradient of its column i is the mask of row i, times ``1 / (1 - p)``, times a
number that is known. So every element of every row's mask is seen, whoever drew it.

A random quantity is compared with its expectation. Its tolerance is Hoeffding's,
``√(ln(2/α) / 2n)`` for a fraction of n independent draws, α being the probability that any such
comparison at one rate is a false alarm (Hoeffding 1963, "Probability inequalities for sums of
bounded random variables", theorem 1).
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import shard_sizes
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Settled
from dptrain.gradcheck.comparison import Comparison, compare, entry, told_of
from dptrain.gradcheck.diagnosis import Diagnosis, described, ranked
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.probe import probe, weight_gradients
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.setting import Setting
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Program
from dptrain.nn.composite import Residual
from dptrain.nn.dropout import Dropout
from dptrain.nn.network import Network
from dptrain.nn.row import Placed, place

Array = NDArray[Any]

FALSE_ALARM = 1e-9
FEATURES = 1024
LARGEST_BATCH = 64
# Roundings between a mask and what is read off the gradient: the factor, the loss's gradient, and
# their products.
ROUNDINGS = 8
# What is kept is at least 1. What is left out need not be 0: weights of the size of the learning
# rate, 1e-300, leave their trace.
THRESHOLD = 0.25


class Masks(NamedTuple):
    """What was seen of dropout at one rate.

    Attributes:
        rate: probability of being left out.
        values: of every step ``(rows, features)``, what dropout multiplied with, rows in order.
        sizes: of the shards of each step, in rows.
        seed: of the experiment.
        unit: roundoff of the job's dtype.
    """

    rate: float
    values: Sequence[Array]
    sizes: Sequence[tuple[int, ...]]
    seed: int
    unit: float

    @property
    def kept(self) -> Array:
        """Which elements were kept, of all rows of all steps ``(rows, features)``."""
        return np.concatenate(list(self.values)) > THRESHOLD

    @property
    def wanted(self) -> Array:
        """Which should have been, by the keys of the streams alone."""
        found = []
        for step, sizes in enumerate(self.sizes):
            setting = Setting(sizes, self.seed, step, place=(0,))
            found += [setting.uniform(s, (n, FEATURES)) for s, n in enumerate(sizes)]
        return np.concatenate(found) >= np.float32(self.rate)


def check_masks(
    job: Job,
    way: Way,
    *,
    worker: Program = WORKER,
    timeout: float = 30.0,
) -> list[Comparison]:
    """Check the masks of real workers, once for every rate that a job's network has.

    Empty where it has none.

    Args:
        job: the one that is checked.
        way: exchange and workers, which are started anew.
        worker: as of `dptrain.gradcheck.distributed.engine`.
        timeout: likewise.
    """
    found = []
    for rate in dropout_rates(job):
        masks = seen(job.experiment, way, rate, worker=worker, timeout=timeout)
        found += judged(masks, way)
    return found


def dropout_rates(job: Job) -> list[float]:
    """Return the rates of a network's dropout layers, ascending, each once, but 0."""
    if not isinstance(job.network, Network):
        return []
    return sorted({rate for rate in _rates(job.network.row) if rate})


def _rates(row: Sequence[Placed]) -> Iterator[float]:
    for _, layer, shape, _ in row:
        if isinstance(layer, Dropout):
            yield layer.rate
        if isinstance(layer, Residual):
            for held in (layer.layers, layer.shortcut):
                yield from _rates(place(held, shape))


def seen(
    experiment: Settled,
    way: Way,
    rate: float,
    *,
    worker: Program = WORKER,
    timeout: float = 30.0,
) -> Masks:
    """Return the masks that a probe shows; arguments as of `check_masks`."""
    batch = min(experiment.batch_size, LARGEST_BATCH)
    rows = 2 * batch
    with tempfile.TemporaryDirectory(prefix="dptrain-masks-") as name:
        folder = Path(name) / "data"
        x = np.ones((rows, FEATURES))
        job = probe(folder, experiment, [Dropout(rate)], x, np.eye(rows), batch)
        gradients = weight_gradients(job, folder, way, worker=worker, timeout=timeout)
        orders = [job.minibatch(step).copy() for step in range(len(gradients))]
    # each column's gradient is that of (y - t)² over rows and outputs, at y = 0 and t = 1
    scale = -2 / (batch * rows)
    values = [g[:, order].T / scale for g, order in zip(gradients, orders, strict=True)]
    sizes = [shard_sizes(len(order), experiment.shards) for order in orders]
    return Masks(rate, values, sizes, experiment.seed, UNITS[experiment.dtype])


def judged(masks: Masks, way: Way) -> list[Comparison]:
    """Compare masks with the reference's, their values, their rate, and each with all others."""
    kept, rate = masks.kept, masks.rate
    where = f"{way}, dropout {rate}"
    values = np.concatenate(list(masks.values))
    factor = np.where(kept, 1 / (1 - rate), 0.0)
    found = [
        _compare("masks = the reference's", where, kept.astype(float), masks.wanted, 0.0),
        _compare(
            "what is kept is divided by 1 - p", where, values, factor,
            ROUNDINGS * masks.unit / (1 - rate),
        ),
        _fractions("dropped = p", where, [1 - kept.mean()], rate, kept.size),
    ]  # fmt: skip
    pairs = list(combinations(range(len(kept)), 2))
    if pairs:
        agreeing = [float((kept[a] == kept[b]).mean()) for a, b in pairs]
        chance = rate**2 + (1 - rate) ** 2
        name = "masks of two rows agree by chance only"
        found.append(_fractions(name, where, agreeing, chance, kept.shape[1]))
    if all(each.verdict is not Verdict.FAIL for each in found):
        return found
    note = described(diagnose_masks(masks))
    return told_of(found, note=note)


def hoeffding(draws: int, false_alarm: float) -> float:
    """Return how far a fraction of independent draws may be from its expectation."""
    return math.sqrt(math.log(2 / false_alarm) / (2 * draws))


def _fractions(
    name: str, where: str, found: Sequence[float], wanted: float, draws: int
) -> Comparison:
    tolerance = hoeffding(draws, FALSE_ALARM / 2 / len(found))
    return _compare(name, where, np.array(found), np.full(len(found), wanted), tolerance)


def _compare(
    name: str, where: str, found: Array, wanted: Array, tolerance: Array | float
) -> Comparison:
    shape = found.shape
    tensors = [entry("masks", shape)]
    limits = np.broadcast_to(tolerance, shape).reshape(-1)
    a, b = (np.asarray(each, float).reshape(-1) for each in (found, wanted))
    return compare(name, "masks", where, tensors, a, b, limits)


def diagnose_masks(masks: Masks) -> list[Diagnosis]:
    """Return what could be wrong with masks, the best explanation first."""
    wanted, rate = masks.wanted, masks.rate
    right = wanted / (1 - rate)
    values = np.concatenate(list(masks.values))
    beyond = _beyond(values, right, masks.unit)
    if not beyond:
        return []
    return ranked(
        Diagnosis(kind, sentence, _beyond(values, other, masks.unit) / beyond)
        for kind, sentence, other in _mistakes(masks, wanted)
    )


def _mistakes(masks: Masks, wanted: Array) -> Iterator[tuple[str, str, Array]]:
    """Yield kinds of mistakes, with what dropout would then multiply with."""
    rate, right = masks.rate, wanted / (1 - masks.rate)
    sentence = "What is kept is not divided by 1 - p."
    yield "dropout-scale", sentence, wanted.astype(float)
    yield "dropout-scaled-twice", "What is kept is divided by 1 - p twice.", right / (1 - rate)
    if rate != 0.5:
        sentence = "What is kept is divided by p, not by 1 - p."
        yield "dropout-scaled-by-rate", sentence, wanted / rate
        sentence = "Elements are kept with probability p, not left out."
        yield "dropout-rate-complement", sentence, _drawn(masks, 1 - rate) / rate
    sentence = "Every shard draws the mask of shard 0: masks are the same on all ranks."
    yield "dropout-equal-masks", sentence, _drawn(masks, rate, shard=0) / (1 - rate)
    sentence = "Every step draws the masks of step 0."
    yield "masks-equal-between-steps", sentence, _drawn(masks, rate, step=0) / (1 - rate)
    yield "dropout-missing", "Nothing is left out.", np.ones(right.shape)


def _drawn(masks: Masks, rate: float, shard: int | None = None, step: int | None = None) -> Array:
    found = []
    for i, sizes in enumerate(masks.sizes):
        setting = Setting(sizes, masks.seed, i if step is None else step, place=(0,))
        for s, n in enumerate(sizes):
            found.append(setting.uniform(s if shard is None else shard, (n, FEATURES)))
    return np.concatenate(found) >= np.float32(rate)


def _beyond(values: Array, wanted: Array, unit: float) -> float:
    difference = np.abs(values - wanted)
    left = np.where(difference <= ROUNDINGS * unit * np.maximum(wanted, 1), 0, difference)
    return float(np.sqrt(np.sum(np.nan_to_num(left, nan=1e100) ** 2)))
