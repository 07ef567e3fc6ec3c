"""The ledger: which rows a step has counted, how often and with which weight.

The probe's row i is the unit vector ``e_i`` with a target of its own, and its network is linear
with weights of 0; so the gradient of weight i is ``-2 tᵢ`` times the weight with which row i was
counted, and nothing else goes into it. In each step every row of its minibatch should count with
1/N, N being the rows of the global minibatch, and all others not at all.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.arithmetic.shards import assign, shard_sizes
from dptrain.experiment.schema import Experiment
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.diagnosis import Diagnosis, described, ranked
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.probe import probe, weight_gradients
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Tensor

Array = NDArray[Any]

# The probe has as many features as rows, so larger minibatches are seen through smaller ones.
LARGEST_BATCH = 1024
# Roundings between a weight of 1/N and what is read off the gradient: of the target, of 1/N, of
# the loss's gradient and of their products.
ROUNDINGS = 8
# Targets of 1 + i/4096 are exact in float32, and none is twice another: a row that is counted twice
# cannot be mistaken for one with the target of another.
DENOMINATOR = 4096
SHOWN = 4


class Ledger(NamedTuple):
    """What was seen.

    Attributes:
        weights: with which each row counted in each step, ``(steps, rows)``.
        orders: the rows that belong to each step, in order.
        targets: of the rows.
        unit: roundoff of the job's dtype.
    """

    weights: Array
    orders: Sequence[Array]
    targets: Array
    unit: float

    @property
    def sizes(self) -> Array:
        """Rows of each step, ``(steps, 1)``."""
        return np.array([[len(order)] for order in self.orders], float)

    @property
    def wanted(self) -> Array:
        """How the weights should be."""
        return self.spread(lambda order: np.full(len(order), 1 / len(order)))

    @property
    def tolerance(self) -> Array:
        """For each weight; 0 for rows that have no part in a step."""
        found: Array = ROUNDINGS * self.unit * self.wanted
        return found

    def spread(self, of: Callable[[Array], Array]) -> Array:
        """Return what a function makes of the rows of each step, as weights."""
        found = np.zeros(self.weights.shape)
        for step, order in enumerate(self.orders):
            found[step, order] = of(order)
        return found


def check_ledger(
    experiment: Experiment,
    way: Way,
    *,
    worker: Sequence[str] = WORKER,
    timeout: float = 30.0,
) -> list[Comparison]:
    """Compare for every step of two epochs which rows have counted, and with which weight.

    Args:
        experiment: settled.
        way: exchange and workers, which are started anew.
        worker: as of `dptrain.gradcheck.distributed.engine`.
        timeout: likewise.
    """
    return judged(seen(experiment, way, worker=worker, timeout=timeout), experiment, way)


def seen(
    experiment: Experiment,
    way: Way,
    *,
    worker: Sequence[str] = WORKER,
    timeout: float = 30.0,
) -> Ledger:
    """Return what two epochs of a probe show; arguments as of `check_ledger`.

    There are two whole minibatches and one of fewer rows than there are shards.
    """
    batch = min(experiment.batch_size or 1, LARGEST_BATCH)
    rows = 2 * batch + max(1, min(experiment.shards or 1, batch) - 1) * (batch > 1)
    targets = 1 + np.arange(rows) / DENOMINATOR
    with tempfile.TemporaryDirectory(prefix="dptrain-ledger-") as name:
        folder = Path(name) / "data"
        job = probe(folder, experiment, [], np.eye(rows), targets[:, np.newaxis], batch)
        gradients = weight_gradients(job, folder, way, worker=worker, timeout=timeout)[:, :, 0]
    per_epoch = -(-rows // batch)
    orders = []
    for step in range(len(gradients)):
        epoch, position = divmod(step, per_epoch)
        order = generator(experiment.seed, Purpose.SHUFFLE, epoch).permutation(rows)
        orders.append(order[position * batch : (position + 1) * batch])
    return Ledger(gradients / (-2 * targets), orders, targets, UNITS[experiment.dtype])


def judged(ledger: Ledger, experiment: Experiment, way: Way) -> list[Comparison]:
    """Return a comparison for each step, and one for each epoch as a whole."""
    rows = ledger.weights.shape[1]
    tensors = [Tensor("rows", (rows,), 0, rows, False, Zeros(), (rows, rows))]
    found = [
        compare(
            "rows counted = 1/N for the rows of the step", "ledger", f"{way}, step {step}",
            tensors, ledger.weights[step], ledger.wanted[step], ledger.tolerance[step],
        )
        for step in range(len(ledger.weights))
    ]  # fmt: skip
    counted, once = ledger.weights * ledger.sizes, np.ones(rows)
    for epoch, times in enumerate(counted.reshape(2, -1, rows).sum(axis=1)):
        found.append(
            compare(
                "rows counted in an epoch = 1", "ledger", f"{way}, epoch {epoch}",
                tensors, times, once, ROUNDINGS * ledger.unit * once,
            )
        )  # fmt: skip
    if all(each.verdict is not Verdict.FAIL for each in found):
        return found
    note = described(diagnose_ledger(ledger, experiment.shards or 1, way.workers))
    failed = Verdict.FAIL
    return [each._replace(note=note) if each.verdict is failed else each for each in found]


def diagnose_ledger(ledger: Ledger, shards: int, workers: int) -> list[Diagnosis]:
    """Return what could be wrong with what was counted, the best explanation first.

    Args:
        ledger: what was seen.
        shards: of a minibatch.
        workers: the world size.
    """
    beyond = _beyond(ledger, ledger.wanted)
    if not beyond:
        return []
    found = [
        Diagnosis(kind, sentence, _beyond(ledger, wanted) / beyond)
        for kind, sentence, wanted in _mistakes(ledger, shards, workers)
    ]
    return ranked(found)


def _mistakes(ledger: Ledger, shards: int, workers: int) -> Iterator[tuple[str, str, Array]]:
    """Yield kinds of mistakes, with the weights that they would give."""
    yield from _factors(ledger, workers)
    yield from _means(ledger, shards, workers)
    yield from _counts(ledger)


def _factors(ledger: Ledger, workers: int) -> Iterator[tuple[str, str, Array]]:
    yield (
        "sum-not-mean",
        "Every row counts with 1 instead of 1/N: a sum instead of a mean.",
        ledger.wanted * ledger.sizes,
    )
    if workers > 1:
        part = f"Every row counts with 1/(W N) instead of 1/N, W = {workers}: divided twice."
        yield "divided-by-workers", part, ledger.wanted / workers
        times = f"Every row counts with W/N instead of 1/N, W = {workers}."
        yield "multiplied-by-workers", times, ledger.wanted * workers


def _means(ledger: Ledger, shards: int, workers: int) -> Iterator[tuple[str, str, Array]]:
    for parts, of, symbol in ((workers, "ranks", "W"), (shards, "shards", "S")):
        if parts > 1:
            sentence = (
                f"Rows count with 1/({symbol} n) instead of 1/N, n being the rows of one of the "
                f"{parts} {of}: a mean of the {of}' means."
            )
            wanted = ledger.spread(partial(_mean_of_means, shards=shards, parts=parts))
            yield f"mean-of-{of}-means", sentence, wanted


def _mean_of_means(order: Array, shards: int, parts: int) -> Array:
    sizes = shard_sizes(len(order), shards)
    own = [sum(sizes[low:high]) for low, high in assign(shards, parts)]
    return np.concatenate([np.full(n, 1 / (parts * n)) for n in own if n])


def _counts(ledger: Ledger) -> Iterator[tuple[str, str, Array]]:
    """Yield what rows that count a whole number of times come to."""
    wanted, sizes = ledger.wanted, ledger.sizes
    times = np.round(ledger.weights * sizes)
    lost, twice = (wanted > 0) & (times == 0), (wanted > 0) & (times > 1)
    foreign = (wanted == 0) & (times != 0)
    missing = np.where(lost, 0, wanted)
    last = np.zeros_like(lost)
    last[len(last) // 2 - 1 :: len(last) // 2] = True
    if np.array_equal(lost, last & (wanted > 0)):
        yield "rows-lost", "The last, smaller minibatch of an epoch is lost.", missing
    if lost.any():
        yield "rows-lost", f"Rows are lost: {_rows(lost)}.", missing
        rest = missing / np.maximum(missing.sum(axis=1, keepdims=True), 1 / sizes)
        sentence = f"Rows are lost, and the mean is over the others: {_rows(lost)}."
        yield "rows-lost", sentence, rest
    if twice.any():
        sentence = f"Rows are counted twice or more: {_rows(twice)}."
        yield "rows-counted-twice", sentence, np.where(twice, times / sizes, wanted)
    if lost.any() and twice.any():
        sentence = f"Rows are lost ({_rows(lost)}) and others counted twice ({_rows(twice)})."
        yield "rows-lost-and-counted-twice", sentence, np.where(foreign, 0, times / sizes)
    if foreign.any():
        sentence = f"Rows of another step are counted: {_rows(foreign)}."
        yield "rows-of-another-step", sentence, times / sizes
    yield (
        "targets-of-other-rows",
        "Rows have the targets of other rows: inputs and targets are shuffled apart.",
        _with_other_targets(ledger),
    )


def _with_other_targets(ledger: Ledger) -> Array:
    """Return weights that rows have with whatever target fits best."""

    def of(step: int, order: Array) -> Array:
        own = ledger.targets[order]
        seen = ledger.weights[step, order] * own * len(order)
        nearest = np.clip(np.round((seen - 1) * DENOMINATOR), 0, len(ledger.targets) - 1)
        found: Array = (1 + nearest / DENOMINATOR) / own / len(order)
        return found

    found = np.zeros(ledger.weights.shape)
    for step, order in enumerate(ledger.orders):
        found[step, order] = of(step, order)
    return found


def _beyond(ledger: Ledger, wanted: Array) -> float:
    """Return the part of the weights that is not what is wanted, beyond rounding."""
    scale = np.maximum(np.abs(wanted), ledger.wanted)
    difference = np.abs(ledger.weights - wanted)
    left = np.where(difference <= ROUNDINGS * ledger.unit * scale, 0, difference * ledger.sizes)
    return float(np.sqrt(np.sum(np.nan_to_num(left, nan=1e100) ** 2)))


def _rows(which: Array) -> str:
    """Return rows and steps as the beginning of a list."""
    pairs = np.argwhere(which)
    shown = ", ".join(f"row {row} in step {step}" for step, row in pairs[:SHOWN])
    return f"{shown} and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else shown
