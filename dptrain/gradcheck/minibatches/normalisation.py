"""The numbers by which inputs are normalised, computed a second time from the training rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.diagnosis import Diagnosis, ranked
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.minibatches import Stored, Visits
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Network, Tensor
from dptrain.nn.normalise import Normalise

Array = NDArray[Any]

NAMES = ("shift", "scale")


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
    x = stored.inputs(visits.train).astype(float)
    minmax = first.layer.method == "minmax"
    wanted = np.array(_minmax(x) if minmax else _standard(x))
    # a mean of n numbers errs by n u of the largest, and a deviation by no more than twice that
    room = 4 * (len(x) + 8) * UNITS["float64"] * np.abs(x).max(axis=0)
    limits = room + 2 * UNITS[job.dtype.name] * np.abs(wanted)
    size = found[0].size
    tensors = [
        Tensor(name, found.shape[1:], i * size, (i + 1) * size, False, Zeros(), (1, 1))
        for i, name in enumerate(NAMES)
    ]
    flat = [each.reshape(-1) for each in (found, wanted, limits)]
    compared = compare("normalisation = the training rows'", "rows", job.dtype.name, tensors, *flat)
    if compared.verdict is Verdict.FAIL:
        why = _diagnosed(found, wanted, limits, _mistakes(x, stored, visits, minmax=minmax))
        compared = compared._replace(diagnoses=tuple(why))
    yield compared


def _standard(x: Array, *, unbiased: bool = False) -> tuple[Array, Array]:
    deviation = x.std(axis=0, ddof=int(unbiased and len(x) > 1))
    return x.mean(axis=0), _scale(deviation, x)


def _minmax(x: Array) -> tuple[Array, Array]:
    low, high = x.min(axis=0), x.max(axis=0)
    return low, _scale(high - low, x)


def _scale(scale: Array, x: Array) -> Array:
    """Return a scale that is 1 where inputs are all the same."""
    found: Array = np.where((x == x[0]).all(axis=0) | (scale == 0), 1.0, scale)
    return found


def _mistakes(
    x: Array, stored: Stored, visits: Visits, *, minmax: bool
) -> Iterator[tuple[str, str, tuple[Array, Array]]]:
    """Yield kinds of mistakes, with shift and scale."""
    shift, scale = of = _minmax(x) if minmax else _standard(x)
    ones, zeros = np.ones_like(scale), np.zeros_like(shift)
    kind = "normalisation-scale"
    if not minmax:
        yield kind, "Inputs are divided by their variance, not its root.", (shift, scale**2)
        sentence = "The variance is divided by n - 1, not by n."
        yield "normalisation-unbiased", sentence, _standard(x, unbiased=True)
        yield kind, "The scale is the root mean square.", (shift, np.sqrt((x**2).mean(axis=0)))
    else:
        yield (
            kind,
            "Inputs are divided by their largest value, not the range.",
            (shift, x.max(axis=0)),
        )
    whole = stored.inputs(np.arange(visits.stored)).astype(float)
    held = np.concatenate([visits.validation, visits.test])
    seen = np.sort(np.concatenate([visits.train, visits.spare]))
    for rows, sentence in (
        (whole, "The numbers are those of all rows, also the ones held out."),
        (whole[seen], "The numbers are those of rows outside of the training rows, too."),
        (whole[held], "The numbers are those of the rows held out."),
        (x[: visits.batch_size], "The numbers are those of the first rows only."),
    ):
        if len(rows):
            yield "normalisation-rows", sentence, _minmax(rows) if minmax else _standard(rows)
    yield "normalisation-swapped", "Shift and scale are swapped.", (scale, shift)
    other = _standard(x) if minmax else _minmax(x)
    names = ("minmax", "standard") if minmax else ("standard", "minmax")
    yield "normalisation-method", f"The method is {names[1]}, not {names[0]}.", other
    together = np.full_like(shift, x.mean()), np.full_like(scale, x.std())
    sentence = "All inputs have one shift and one scale, taken over all of them."
    yield "normalisation-together", sentence, together
    yield kind, "Nothing is divided by: the scale is 1.", (shift, ones)
    yield "normalisation-shift", "Nothing is taken off: the shift is 0.", (zeros, scale)
    yield "normalisation-missing", "The numbers are never taken from the data.", (zeros, ones)
    yield "normalisation-shift", "The shift has the wrong sign.", (-shift, scale)
    yield kind, "The scale is inverted.", (shift, 1 / of[1])


def _diagnosed(
    found: Array, wanted: Array, limits: Array, mistakes: Iterator[tuple[str, str, Any]]
) -> list[Diagnosis]:
    def beyond(other: Array) -> float:
        room = limits + 1e-6 * np.abs(other)
        with np.errstate(invalid="ignore"):
            fits = (np.abs(found - other) <= room) | (found == other)
        return float(np.count_nonzero(~fits))

    nothing = beyond(wanted)
    return ranked(
        Diagnosis(kind, sentence, beyond(np.array(other)) / max(nothing, 1))
        for kind, sentence, other in mistakes
    )[:5]
