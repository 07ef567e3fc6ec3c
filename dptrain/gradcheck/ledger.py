"""The ledger: which rows a step has counted, how often and with which weight.

The probe's row i is the unit vector ``e_i`` with a target of its own, and its network is linear
with weights of 0; so the gradient of weight i is ``-2 tᵢ`` times the weight with which row i was
counted, and nothing else goes into it. In each step every row of its minibatch should count with
1/N, N being the rows of the global minibatch, and all others not at all. Some rows are held out for
testing and validation, and some are left out by ``train_rows``; they should never count. Where rows
have weights of their own, those of the probe have, too, and what they count is divided by them.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.schema import Settled
from dptrain.gradcheck.comparison import Comparison, compare, entry, told_of
from dptrain.gradcheck.diagnosis import Diagnosis, Mistake, described, likeliest, ranked, weighed
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.hypotheses.orders import Sighting, bounds_of, edges_of, facts, listed, orders
from dptrain.gradcheck.probe import probe, weight_gradients
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.minibatches import Visits, visits
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import WORKER, Program

Array = NDArray[Any]

# The probe has as many features as rows, so larger minibatches are seen through smaller ones.
LARGEST_BATCH = 512
EPOCHS = 4
# Roundings between a weight of 1/N and what is read off the gradient: of the target, of 1/N, of
# the loss's gradient and of their products.
ROUNDINGS = 8
# Targets of 1 + i/4096 are exact in float32, and none is twice another: a row that is counted twice
# cannot be mistaken for one with the target of another.
DENOMINATOR = 4096
# A row cannot count so often by mistake.
MOST_OFTEN = 1000


class Ledger(NamedTuple):
    """What was seen.

    Attributes:
        weights: with which each row counted in each step, ``(steps, rows)``.
        orders: the rows that belong to each step, in order.
        targets: of the rows.
        unit: roundoff of the job's dtype.
        visits: which rows the steps should have.
        own: the rows' own weights, of mean 1 over those that are trained on, by which ``weights``
            are divided already; None where they have none.
    """

    weights: Array
    orders: Sequence[Array]
    targets: Array
    unit: float
    visits: Visits
    own: Array | None = None

    @property
    def sizes(self) -> Array:
        """Rows of each step, ``(steps, 1)``."""
        return np.array([[len(order)] for order in self.orders], float)

    @property
    def wanted(self) -> Array:
        """How the weights should be."""
        return self.spread(lambda order: np.full(len(order), 1 / len(order)))

    def spread(self, of: Callable[[Array], Array]) -> Array:
        """Return what a function makes of the rows of each step, as weights."""
        found = np.zeros(self.weights.shape)
        for step, order in enumerate(self.orders):
            found[step, order] = of(order)
        return found

    def beyond(self, wanted: Array) -> float:
        """Return the part of the weights that is not what is wanted, beyond rounding."""
        scale = np.maximum(np.abs(wanted), self.wanted)
        off = np.abs(self.weights - wanted)
        left = np.where(off <= ROUNDINGS * self.unit * scale, 0, off * self.sizes)
        return float(np.sqrt(np.sum(np.nan_to_num(left, nan=1e100) ** 2)))


Row = Mistake[Array]


def check_ledger(
    experiment: Settled, way: Way, *, weighted: bool = False, worker: Program = WORKER
) -> list[Comparison]:
    """Compare for every step of four epochs which rows have counted, and with which weight.

    Args:
        experiment: settled.
        way: exchange and workers, which are started anew.
        weighted: whether rows have weights.
        worker: as of `dptrain.gradcheck.distributed.engine`.
    """
    ledger = seen(experiment, way, weighted=weighted, worker=worker)
    rows, once = ledger.weights.shape[1], np.zeros(ledger.weights.shape[1])
    once[ledger.visits.train] = 1
    times = (ledger.weights * ledger.sizes).reshape(EPOCHS, -1, rows).sum(axis=1)
    tensors, wanted, room = [entry("rows", (rows,))], ledger.wanted, ROUNDINGS * ledger.unit
    name = "rows counted = 1/N for the rows of the step"
    found = [
        compare(name, "ledger", f"{way}, step {i}", tensors, a, b, room * b)
        for i, (a, b) in enumerate(zip(ledger.weights, wanted, strict=True))
    ]
    name = "rows counted in an epoch = 1"
    found += [
        compare(name, "ledger", f"{way}, epoch {i}", tensors, each, once, room * once)
        for i, each in enumerate(times)
    ]
    if all(each.verdict is not Verdict.FAIL for each in found):
        return found
    diagnoses = diagnose_ledger(ledger, experiment.shards, way.workers)
    likely = tuple(likeliest(diagnoses))
    return told_of(found, note="" if likely else described(diagnoses), diagnoses=likely)


def seen(
    experiment: Settled, way: Way, *, weighted: bool = False, worker: Program = WORKER
) -> Ledger:
    """Return what four epochs of a probe show; arguments as of `check_ledger`.

    There are two whole minibatches and one of fewer rows than there are shards.
    """
    batch = min(experiment.batch_size, LARGEST_BATCH)
    train = 2 * batch + max(1, min(experiment.shards, batch) - 1) * (batch > 1)
    held = max(2, train // 8)  # for testing, for validation, and left out
    rows = train + 3 * held
    targets = 1 + np.arange(rows) / DENOMINATOR
    count = EPOCHS * -(-train // batch)
    apart = {"test": held / rows, "validation": held / (rows - held), "train_rows": train}
    plain = 2.0 ** (np.arange(rows) % 3) if weighted else None
    with tempfile.TemporaryDirectory(prefix="dptrain-ledger-") as name:
        folder, x, t = Path(name) / "data", np.eye(rows), targets[:, np.newaxis]
        job = probe(folder, experiment, [], x, t, batch, plain, steps=count, epochs=None, **apart)
        gradients = weight_gradients(job, folder, way, worker=worker)[:, :, 0]
    right = visits(job.experiment, rows, has_test=False)
    orders_of = [right.minibatch(step) for step in range(count)]
    own = None if plain is None else plain / plain[right.train].mean()
    counted = gradients / (-2 * targets * (1 if own is None else own))
    return Ledger(counted, orders_of, targets, UNITS[experiment.dtype], right, own)


def diagnose_ledger(ledger: Ledger, shards: int, workers: int) -> list[Diagnosis]:
    """Return what could be wrong with what was counted, the best explanation first."""
    beyond = ledger.beyond(ledger.wanted)
    if not beyond:
        return []
    rows = [*_shares(ledger, shards, workers), *_orders(ledger, shards, workers), *_counts(ledger)]
    return ranked(weighed(rows, lambda wanted: ledger.beyond(wanted) / beyond))


def _shares(ledger: Ledger, shards: int, workers: int) -> Iterator[Row]:
    """Yield mistakes in what each row counts, with the weights that rows would have."""
    wanted, own = ledger.wanted, ledger.own
    for kind, what, weights in (
        ("sum-not-mean", "1 instead of 1/N: a sum instead of a mean", wanted * ledger.sizes),
        ("divided-by-workers", "1/(W N) instead of 1/N: divided twice", wanted / workers),
        ("multiplied-by-workers", "W/N instead of 1/N", wanted * workers),
    ):
        yield Mistake(kind, f"Every row counts with {what}, W = {workers}.", weights)
    parts = [(n, of) for n, of in ((workers, "rank"), (shards, "shard")) if n > 1]
    for n, of in parts:
        sentence = (
            f"Rows count with 1/({n} n) instead of 1/N, n being the rows of one of the {n} {of}s: "
            f"a mean of the {of}s' means."
        )
        means = ledger.spread(partial(_mean_of_means, shards, n))
        yield Mistake(f"mean-of-{of}s-means", sentence, means)
    if own is None:
        return
    kind, sentence = "weights-ignored", "Rows count without their weights"
    yield Mistake(kind, f"{sentence}.", ledger.spread(lambda rows: 1 / own[rows] / len(rows)))
    for n, of in parts:
        for part in range(n):
            without = ledger.spread(partial(_unweighed, own, shards, n, part))
            yield Mistake(kind, f"{sentence} in {of} {part}.", without)


def _mean_of_means(shards: int, parts: int, order: Array) -> Array:
    edges = edges_of(bounds_of(shards, parts), len(order), shards)
    own = [high - low for low, high in edges]
    return np.concatenate([np.full(n, 1 / (parts * n)) for n in own if n])


def _unweighed(own: Array, shards: int, parts: int, part: int, order: Array) -> Array:
    low, high = edges_of(bounds_of(shards, parts), len(order), shards)[part]
    found = np.ones(len(order))
    found[low:high] /= own[order[low:high]]
    return found / len(order)


def _orders(ledger: Ledger, shards: int, workers: int) -> Iterator[Row]:
    """Yield mistakes in which rows are visited when, each counting with 1 / the step's rows."""
    for order in orders(ledger.visits, bounds_of(shards, workers), shards):
        found = np.zeros(ledger.weights.shape)
        for step, weights in enumerate(found):
            rows = order.minibatch(step)
            np.add.at(weights, rows, 1 / max(len(rows), 1))
        yield Mistake(order.kind, order.sentence, found)


def _counts(ledger: Ledger) -> Iterator[Row]:
    """Yield what rows that count a whole number of times come to."""
    wanted = ledger.wanted
    times, one = _whole_times(ledger)
    lost = (wanted > 0) & (times == 0)
    missing = np.where(lost, 0, wanted)
    rest = missing / np.maximum(missing.sum(axis=1, keepdims=True), 1 / ledger.sizes)
    if lost.any() and not np.allclose(rest, missing):  # or whole steps are lost
        pairs = [(int(step), int(row)) for step, row in np.argwhere(lost)]
        sentence = f"Rows are lost, and the mean is over the others: {listed(pairs)}."
        yield Mistake("rows-lost", sentence, rest)
    sightings = [
        Sighting(step, np.sort(order), np.repeat(np.arange(len(n)), n))
        for step, (order, n) in enumerate(zip(ledger.orders, times, strict=True))
    ]
    for kind, sentence in facts(ledger.visits, sightings):
        yield Mistake(kind, sentence, times * one)
    # with whatever target fits best
    own = ledger.targets
    nearest = np.round((ledger.weights * ledger.sizes * own - 1) * DENOMINATOR)
    others = 1 + nearest.clip(0, len(own) - 1) / DENOMINATOR
    sentence = "Rows have the targets of other rows: inputs and targets are shuffled apart."
    yield Mistake("targets-of-other-rows", sentence, others / own * wanted)


def _whole_times(ledger: Ledger) -> tuple[Array, Array]:
    """Return how often each row counts in each step, and with what weight each time.

    That is 1/N or, where these would be no whole numbers, the smallest weight that there is: the
    minibatch may have had another number of rows.
    """
    plain = np.nan_to_num(ledger.weights, nan=0.0, posinf=0.0, neginf=0.0)
    one = 1 / ledger.sizes
    for step, weights in enumerate(plain):
        counted = np.abs(weights[np.abs(weights) > one[step] / MOST_OFTEN])
        if len(counted) and not np.allclose(counted / one[step], np.round(counted / one[step])):
            one[step] = counted.min()
    times = np.round(plain / one).clip(0, MOST_OFTEN).astype(int)
    return times, one
