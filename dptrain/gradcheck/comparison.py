"""Two vectors compared tensor by tensor, and how small an error would have been seen."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import Tensor

Array = NDArray[Any]


class Entry(NamedTuple):
    """One element of a tensor, as two computations have it.

    Attributes:
        place: in the tensor.
        found: the value that is checked.
        wanted: what it is checked against.
        tolerance: how far apart they may be.
    """

    place: tuple[int, ...]
    found: float
    wanted: float
    tolerance: float


class TensorResult(NamedTuple):
    """One tensor of a comparison.

    Attributes:
        tensor: its name.
        size: elements.
        compared: of them.
        blind: of those compared, where even an error as large as the value would have passed.
        failed: of those compared, how many lie outside their tolerance.
        worst: the element with the largest difference relative to its tolerance.
        detectable: the smallest relative error of one element that would have been seen, for the
            median element and the best one; NaN where all values are 0.
    """

    tensor: str
    size: int
    compared: int
    blind: int
    failed: int
    worst: Entry | None
    detectable: tuple[float, float]


class Comparison(NamedTuple):
    """What was compared with what, and what came of it.

    Attributes:
        name: such as ``"distributed = analytic"``.
        edge: what is to blame if it fails: ``"distributed"``, ``"analytic"``, ``"update"`` …
        where: such as ``"shared, 3 workers, step 1"``.
        verdict: of all tensors.
        tensors: one by one.
        note: a sentence, possibly empty.
        remark: what a reader should know although it passes, possibly empty.
        diagnoses: what is wrong where it fails, if that is known already, the likeliest first.
        dtype: in which it was made; ``""`` where that is no matter, as is ``point``.
        point: the weights at which it was made, by name.
        curve: points ``(x, y)`` of what it has measured, for a picture.
    """

    name: str
    edge: str
    where: str
    verdict: Verdict
    tensors: tuple[TensorResult, ...]
    note: str = ""
    remark: str = ""
    diagnoses: tuple[Diagnosis, ...] = ()
    dtype: str = ""
    point: str = ""
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def compared(self) -> int:
        """Elements compared, over all tensors."""
        return sum(t.compared for t in self.tensors)

    @property
    def worst(self) -> tuple[str, Entry] | None:
        """The tensor and the element that fit worst."""
        found = [(t.tensor, t.worst) for t in self.tensors if t.worst is not None]
        return max(found, key=lambda each: _ratio(each[1]), default=None)


def worst_line(comparison: Comparison) -> str | None:
    """Return the element that fits worst, as a line; None where nothing was compared."""
    if comparison.worst is None:
        return None
    tensor, entry = comparison.worst
    place = f"[{', '.join(map(str, entry.place))}]" if entry.place else ""
    return (
        f"worst in {tensor}{place}: {entry.found!r} instead of {entry.wanted!r}, "
        f"tolerance {entry.tolerance:.3g}"
    )


def compare(
    name: str,
    edge: str,
    where: str,
    tensors: Sequence[Tensor],
    found: Array,
    wanted: Array,
    tolerance: Array | float,
    compared: Array | None = None,
) -> Comparison:
    """Compare flat vectors ``(size,)``.

    Args:
        name: as of `Comparison`, as are ``edge`` and ``where``.
        edge: see there.
        where: see there.
        tensors: those that are compared.
        found: what is checked.
        wanted: what it is checked against.
        tolerance: for each element, absolute; 0 demands equality.
        compared: which elements are, bool; all unless given.
    """
    limits = np.broadcast_to(np.asarray(tolerance, float), found.shape)
    which = np.ones(found.shape, bool) if compared is None else compared
    results = tuple(_tensor(t, found, wanted, limits, which) for t in tensors)
    verdicts = [Verdict.FAIL if t.failed else Verdict.PASS for t in results if t.compared]
    return Comparison(name, edge, where, worst(verdicts), results)


def entry(name: str, shape: tuple[int, ...] = (), start: int = 0) -> Tensor:
    """Return where numbers stand that are compared like a tensor, but are no parameters."""
    stop = start + math.prod(shape)
    return Tensor(name, shape, start, stop, decays=False, init=Zeros(), fans=(1, 1))


LOSS = entry("loss")


def told_of(compared: Sequence[Comparison], **what: Any) -> list[Comparison]:
    """Return comparisons, those that failed with a ``note``, say, or ``diagnoses``."""
    failed = Verdict.FAIL
    return [each._replace(**what) if each.verdict is failed else each for each in compared]


def compare_numbers(
    name: str,
    edge: str,
    where: str,
    pairs: Mapping[str, tuple[float, float]],
    tolerances: Sequence[float] | float = 0.0,
) -> Comparison:
    """Compare numbers.

    Args:
        name: as of `Comparison`, as are ``edge`` and ``where``.
        edge: see there.
        where: see there.
        pairs: for each name what was found, and what it should be.
        tolerances: for each, or for all; 0 demands equality.
    """
    tensors = [entry(each, (1,), i) for i, each in enumerate(pairs)]
    found, wanted = (np.array(each, float) for each in zip(*pairs.values(), strict=True))
    return compare(name, edge, where, tensors, found, wanted, np.array(tolerances))


def _tensor(
    tensor: Tensor, found: Array, wanted: Array, limits: Array, which: Array
) -> TensorResult:
    own = slice(tensor.start, tensor.stop)
    chosen = np.flatnonzero(which[own] & (limits[own] < np.inf))  # what may be anything is no test
    size = tensor.stop - tensor.start
    if not len(chosen):
        return TensorResult(tensor.name, size, 0, 0, 0, None, (np.nan, np.nan))
    a, b = found[own][chosen].astype(float), wanted[own][chosen].astype(float)
    limit = limits[own][chosen]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        difference = np.abs(a - b)
        fits = (difference <= limit) | (a == b)
        ratio = np.where(fits, np.where(limit > 0, difference / limit, 0.0), np.inf)
        outside = np.where(fits, -1.0, np.where(np.isnan(difference), np.inf, difference))
        place = int(outside.argmax() if not fits.all() else np.nan_to_num(ratio).argmax())
        relative = np.maximum(
            limit, np.spacing(np.abs(wanted[own][chosen])).astype(float)
        ) / np.abs(b)
    seen = relative[np.abs(b) > 0]
    detectable = (float(np.median(seen)), float(seen.min())) if len(seen) else (np.nan, np.nan)
    where = tuple(int(i) for i in np.unravel_index(chosen[place], tensor.shape))
    entry = Entry(where, float(a[place]), float(b[place]), float(limit[place]))
    blind = int(np.count_nonzero((limit > 0) & (limit >= np.abs(b))))
    failed = int(np.count_nonzero(~fits))
    return TensorResult(
        tensor.name, size, len(chosen), min(blind, len(chosen)), failed, entry, detectable
    )


def _ratio(entry: Entry) -> float:
    difference = abs(entry.found - entry.wanted)
    if not difference <= entry.tolerance:
        return np.inf if not np.isfinite(difference) else 1e300 * (1 + difference)
    return difference / entry.tolerance if entry.tolerance else 0.0
