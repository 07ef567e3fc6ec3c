"""The numbers that the training rows are normalised by, computed a second time from these rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry, told_of
from dptrain.gradcheck.diagnosis import Diagnosis, Mistake, likeliest, weighed
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.minibatches import Stored, Visits
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.network import Network
from dptrain.nn.normalise import Normalise

Array = NDArray[Any]

# Rows that are in memory at a time.
PIECE = 1024
# Of a scale that a mistake would lead to; its roundings are not counted one by one.
CLOSE = 1e-6
# What is only counted comes behind what is explained.
UNEXPLAINED = 0.05


def check_normalisation(job: Job, stored: Stored, visits: Visits) -> Iterator[Comparison]:
    """Compare shift and scale of inputs with the definition; nothing where there are none."""
    first = job.network.row[0] if isinstance(job.network, Network) else None
    if first is None or not isinstance(first.layer, Normalise):
        return
    views = job.network.views(job.initial_parameters())
    names = ("shift", "scale")
    found = np.array([views[f"{first.name}.{name}"] for name in names], float)
    of = _numbers(stored, visits.train)
    minmax = first.layer.method == "minmax"
    wanted = of.minmax() if minmax else of.standard()
    # a mean of n numbers errs by n u of the largest, and a deviation by no more than twice that
    largest = np.maximum(np.abs(of.low), np.abs(of.high))
    room = 4 * (of.rows + 8) * UNITS["float64"] * largest
    limits = room + 2 * UNITS[job.dtype.name] * np.abs(wanted)
    name = "normalisation = the training rows'"
    compared = _compared(name, job, names, found, wanted, limits)
    if compared.verdict is Verdict.FAIL:

        def beyond(other: Array) -> int:
            with np.errstate(invalid="ignore"):
                fits = np.abs(found - other) <= limits + CLOSE * np.abs(other)
            return int(np.count_nonzero(~(fits | (found == other))))

        wrong = beyond(wanted)
        rows = _mistakes(of, stored, visits, minmax=minmax)
        told = weighed(rows, lambda other: beyond(other) / max(wrong, 1))
        sentence = f"{wrong} of {found.size} numbers are not those of the training rows."
        told.append(Diagnosis("normalisation", sentence, UNEXPLAINED))
        compared = compared._replace(diagnoses=tuple(likeliest(told)))
    yield compared


def _compared(
    name: str, job: Job, names: tuple[str, ...], found: Array, wanted: Array, limits: Array
) -> Comparison:
    size = found[0].size
    tensors = [entry(each, found.shape[1:], i * size) for i, each in enumerate(names)]
    flat = [each.reshape(-1) for each in (found, wanted, limits)]
    return compare(name, "rows", job.dtype.name, tensors, *flat)


class Numbers(NamedTuple):
    """What inputs are like, element by element, over some rows."""

    rows: int
    low: Array
    high: Array
    mean: Array
    variance: Array

    def standard(self) -> Array:
        """Return shift and scale by mean and deviation."""
        return np.array([self.mean, self.divisor(np.sqrt(self.variance))])

    def minmax(self) -> Array:
        """Return shift and scale by the smallest value and the range."""
        return np.array([self.low, self.divisor(self.high - self.low)])

    def divisor(self, scale: Array) -> Array:
        """Return a scale that is 1 where inputs are all the same."""
        return np.where((self.low == self.high) | (scale == 0), 1.0, scale)


def _numbers(stored: Stored, rows: Array) -> Numbers:
    def pieces() -> Iterator[Array]:
        for start in range(0, len(rows), PIECE):
            yield stored.inputs(rows[start : start + PIECE]).astype(float)

    low = np.min([x.min(axis=0) for x in pieces()], axis=0)
    high = np.max([x.max(axis=0) for x in pieces()], axis=0)
    mean = np.sum([x.sum(axis=0) for x in pieces()], axis=0) / len(rows)
    variance = np.sum([((x - mean) ** 2).sum(axis=0) for x in pieces()], axis=0) / len(rows)
    return Numbers(len(rows), low, high, mean, variance)


def _mistakes(
    of: Numbers, stored: Stored, visits: Visits, *, minmax: bool
) -> Iterator[Mistake[Array]]:
    """Yield known mistakes, with shift and scale."""
    method, other = Numbers.standard, Numbers.minmax
    if minmax:
        method, other = other, method
    shift, scale = method(of)
    one, none, n, mean = np.ones_like(scale), np.zeros_like(shift), of.rows, of.mean.mean()
    top, square = of.divisor(of.high), np.sqrt(of.variance + of.mean**2)
    spread = np.sqrt((of.variance + (of.mean - mean) ** 2).mean())
    unbiased = np.where(scale == 1, 1, scale * np.sqrt(n / max(n - 1, 1)))
    inputs, numbers = "Inputs are divided by their", "The numbers are those of"
    by_method = (
        ("scale", f"{inputs} largest value, not by their range.", shift, top),
        ("scale", f"{inputs} largest value alone.", none, top),
    ) if minmax else (
        ("scale", f"{inputs} variance, not its root.", shift, scale**2),
        ("scale", "The variance is divided by n - 1, not by n.", shift, unbiased),
        ("scale", "The scale is the root of the mean square: no mean is taken off.", shift, square),
    )  # fmt: skip
    everything, held = np.arange(visits.stored), np.r_[visits.validation, visits.test].astype(int)
    by_rows = (
        (f"{numbers} all rows, also the ones held out.", everything),
        (f"{numbers} all rows that are not held out, not only train_rows.",
         np.setdiff1d(everything, held)),
        (f"{numbers} the rows held out.", held),
        (f"{numbers} the first rows only.", visits.train[: visits.batch_size]),
    )  # fmt: skip
    names = ("standard", "minmax") if minmax else ("minmax", "standard")
    for kind, sentence, *changed in (
        *by_method,
        *(("rows", said, *method(_numbers(stored, rows))) for said, rows in by_rows if len(rows)),
        ("swapped", "Shift and scale are swapped.", scale, shift),
        ("method", f"The method is {names[0]}, not {names[1]}.", *other(of)),
        ("together", "All inputs have one shift and one scale, taken over them all.",
         mean + none, spread * one),
        ("scale", "Nothing is divided by: the scale is 1.", shift, one),
        ("shift", "Nothing is taken off: the shift is 0.", none, scale),
        ("missing", "The numbers are never taken from the data.", none, one),
        ("shift", "The shift has the wrong sign.", -shift, scale),
        ("scale", "The scale is inverted.", shift, 1 / scale),
    ):  # fmt: skip
        yield Mistake(f"normalisation-{kind}", sentence, np.array(changed))


def check_targets(job: Job, stored: Stored, visits: Visits) -> Iterator[Comparison]:
    """Compare mean and deviation of targets with the definition; nothing where there are none."""
    scale = job.experiment.target_scale
    if scale is None:
        return
    t = np.asarray(stored.t[visits.train], np.longdouble)
    mean = t.mean(axis=0)
    deviation = np.sqrt(np.square(t - mean).mean(axis=0))
    wanted = np.array([mean, np.where(t.min(axis=0) == t.max(axis=0), 1, deviation)], float)
    found = np.array([scale.mean, scale.deviation])
    limits = np.full_like(found, 8 * UNITS["float64"]) * np.abs(t).max(axis=0).astype(float)
    name, names = "targets' scale = the training rows'", ("mean", "deviation")
    sentence = "Targets are not standardised by mean and deviation of the training rows."
    why = (Diagnosis("target-scale", sentence, 0.0),)
    yield from told_of([_compared(name, job, names, found, wanted, limits)], diagnoses=why)
