"""The numbers by which inputs are normalised, computed a second time from the training rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry
from dptrain.gradcheck.diagnosis import Diagnosis, likeliest
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.minibatches import Stored, Visits
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.network import Network
from dptrain.nn.normalise import Normalise

Array = NDArray[Any]

NAMES = ("shift", "scale")
# Rows that are in memory at a time.
PIECE = 1024
# Of a scale that a mistake would lead to; its roundings are not counted one by one.
CLOSE = 1e-6
# What is only counted comes behind what is explained.
UNEXPLAINED = 0.05


def check_normalisation(job: Job, stored: Stored, visits: Visits) -> Iterator[Comparison]:
    """Compare shift and scale with the definition; nothing where inputs are not normalised.

    Args:
        job: the one that is checked.
        stored: its data.
        visits: its training rows.
    """
    if not isinstance(job.network, Network):
        return
    first = job.network.row[0]
    if not isinstance(first.layer, Normalise):
        return
    views = job.network.views(job.initial_parameters())
    found = np.array([views[f"{first.name}.{name}"] for name in NAMES], float)
    of = _numbers(stored, visits.train)
    minmax = first.layer.method == "minmax"
    wanted = np.array(_minmax(of) if minmax else _standard(of))
    # a mean of n numbers errs by n u of the largest, and a deviation by no more than twice that
    largest = np.maximum(np.abs(of.low), np.abs(of.high))
    room = 4 * (of.rows + 8) * UNITS["float64"] * largest
    limits = room + 2 * UNITS[job.dtype.name] * np.abs(wanted)
    size = found[0].size
    tensors = [entry(name, found.shape[1:], i * size) for i, name in enumerate(NAMES)]
    flat = [each.reshape(-1) for each in (found, wanted, limits)]
    compared = compare("normalisation = the training rows'", "rows", job.dtype.name, tensors, *flat)
    if compared.verdict is Verdict.FAIL:
        why = _diagnosed(found, wanted, limits, _mistakes(of, stored, visits, minmax=minmax))
        compared = compared._replace(diagnoses=tuple(why))
    yield compared


class Numbers(NamedTuple):
    """What inputs are like, element by element, over some rows.

    Attributes:
        rows: how many.
        low: the smallest value.
        high: the largest value.
        mean: the mean.
        variance: mean of the squared distances from it.
    """

    rows: int
    low: Array
    high: Array
    mean: Array
    variance: Array


def _numbers(stored: Stored, rows: Array) -> Numbers:
    starts = range(0, len(rows), PIECE)

    def pieces() -> Iterator[Array]:
        for start in starts:
            yield stored.inputs(rows[start : start + PIECE]).astype(float)

    low = np.min([x.min(axis=0) for x in pieces()], axis=0)
    high = np.max([x.max(axis=0) for x in pieces()], axis=0)
    mean = np.sum([x.sum(axis=0) for x in pieces()], axis=0) / len(rows)
    variance = np.sum([((x - mean) ** 2).sum(axis=0) for x in pieces()], axis=0) / len(rows)
    return Numbers(len(rows), low, high, mean, variance)


def _standard(of: Numbers) -> tuple[Array, Array]:
    return of.mean, _scale(np.sqrt(of.variance), of)


def _minmax(of: Numbers) -> tuple[Array, Array]:
    return of.low, _scale(of.high - of.low, of)


def _scale(scale: Array, of: Numbers) -> Array:
    """Return a scale that is 1 where inputs are all the same."""
    found: Array = np.where((of.low == of.high) | (scale == 0), 1.0, scale)
    return found


def _mistakes(
    of: Numbers, stored: Stored, visits: Visits, *, minmax: bool
) -> Iterator[tuple[str, str, tuple[Array, Array]]]:
    """Yield kinds of mistakes, with shift and scale."""
    method = _minmax if minmax else _standard
    shift, scale = method(of)
    ones, zeros, kind = np.ones_like(scale), np.zeros_like(shift), "normalisation-scale"
    if minmax:
        sentence = "Inputs are divided by their largest value, not by their range."
        yield kind, sentence, (shift, of.high)
        yield kind, "Inputs are divided by their largest value alone.", (zeros, of.high)
    else:
        yield kind, "Inputs are divided by their variance, not its root.", (shift, scale**2)
        unbiased = scale * np.sqrt(of.rows / max(of.rows - 1, 1))
        sentence = "The variance is divided by n - 1, not by n."
        yield kind, sentence, (shift, np.where(scale == 1, 1, unbiased))
        sentence = "The scale is the root of the mean square, from which no mean is taken off."
        yield kind, sentence, (shift, np.sqrt(of.variance + of.mean**2))
    for rows, sentence in _other_rows(visits):
        if len(rows):
            yield "normalisation-rows", sentence, method(_numbers(stored, rows))
    yield "normalisation-swapped", "Shift and scale are swapped.", (scale, shift)
    names = ("minmax", "standard") if minmax else ("standard", "minmax")
    sentence = f"The method is {names[1]}, not {names[0]}."
    yield "normalisation-method", sentence, (_standard if minmax else _minmax)(of)
    mean = of.mean.mean()
    spread = np.sqrt((of.variance + (of.mean - mean) ** 2).mean())
    together = np.full_like(shift, mean), np.full_like(scale, spread)
    sentence = "All inputs have one shift and one scale, taken over all of them."
    yield "normalisation-together", sentence, together
    yield kind, "Nothing is divided by: the scale is 1.", (shift, ones)
    yield "normalisation-shift", "Nothing is taken off: the shift is 0.", (zeros, scale)
    yield "normalisation-missing", "The numbers are never taken from the data.", (zeros, ones)
    yield "normalisation-shift", "The shift has the wrong sign.", (-shift, scale)
    yield kind, "The scale is inverted.", (shift, 1 / scale)


def _other_rows(visits: Visits) -> Iterator[tuple[Array, str]]:
    held = np.concatenate([visits.validation, visits.test])
    everything = np.arange(visits.stored)
    yield everything, "The numbers are those of all rows, also the ones held out."
    sentence = "The numbers are those of all rows that are not held out, not only train_rows."
    yield np.setdiff1d(everything, held), sentence
    yield held, "The numbers are those of the rows held out."
    yield visits.train[: visits.batch_size], "The numbers are those of the first rows only."


def _diagnosed(
    found: Array, wanted: Array, limits: Array, mistakes: Iterator[tuple[str, str, Any]]
) -> list[Diagnosis]:
    def beyond(other: Array) -> float:
        room = limits + CLOSE * np.abs(other)
        with np.errstate(invalid="ignore"):
            fits = (np.abs(found - other) <= room) | (found == other)
        return float(np.count_nonzero(~fits))

    nothing = beyond(wanted)
    likely = [
        Diagnosis(kind, sentence, beyond(np.array(other)) / max(nothing, 1))
        for kind, sentence, other in mistakes
    ]
    sentence = f"{nothing:.0f} of {found.size} numbers are not those of the training rows."
    return likeliest([*likely, Diagnosis("normalisation", sentence, UNEXPLAINED)])
