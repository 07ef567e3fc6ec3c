"""The analytic gradient against numbers that are made of the loss alone."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import Comparison, Entry, TensorResult, compare
from dptrain.gradcheck.complex_step import STEP
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.kinks import Finding, Kink, Smooth, black_box, white_box
from dptrain.gradcheck.projections import (
    Projected,
    by_complex_step,
    by_differences,
    projected,
    sampled,
)
from dptrain.gradcheck.taylor import Judgement, Taylor, taylor
from dptrain.gradcheck.verdict import Verdict, worst

Array = NDArray[Any]

# A loss of the user's own comes without a bound: rounding of a few hundred operations.
OWN_NOISE = 256 * 2.0**-53
OWN_ELEMENTWISE = 5_000
# An oracle that is less certain than this, relative to a tensor's largest element, says nothing.
RESOLUTION = 1e-3
# Of each tensor so many of the largest, of the smallest and of the others, unless it is small.
SAMPLES, ELEMENTWISE = 3, 300
# The probability with which an error of the size named in the report may have gone unseen.
MISSED = 1e-3


class Numbers:
    """The numerical comparisons of one point and minibatch."""

    def __init__(self, triangle: Triangle, parameters: Array, step: int, where: str) -> None:
        self._triangle = triangle
        self._parameters = parameters.astype(float)
        self._step = step
        self._where = where
        self._gradient = triangle.local.analytic(parameters, step).gradient.astype(float)
        expected = triangle.expected(parameters, step)
        self._bound = np.zeros(len(parameters)) if expected is None else expected.bound
        loss = triangle.local.loss(parameters, step)
        self._noise = OWN_NOISE * max(1.0, abs(loss)) if expected is None else expected.loss_bound
        self._spans = [slice(t.start, t.stop) for t in triangle.tensors]

    def differences(self, seed: int) -> Comparison:
        """Compare with central differences, element by element."""
        indices = self._indices(seed)
        reference = self._triangle.reference(self._step)
        if reference is None:
            findings = black_box(self._loss, self._parameters, indices, self._noise)
        else:

            def branched(x: Array) -> tuple[float, list[bytes]]:
                return self._loss(x), reference.value(x)[1]

            findings = white_box(branched, self._parameters, indices, self._noise)
        return self._judged(indices, findings)

    def own_complex_step(self, seed: int) -> Comparison | None:
        """Compare a network of the user's own with the complex step, if its code can do that.

        It can where the real part of the loss is what it was, and where the imaginary part is the
        derivative along a random direction, as differences have it.
        """
        direction = np.zeros(len(self._parameters))
        random = np.random.default_rng(seed)
        for span in self._spans:
            direction[span] = random.standard_normal(span.stop - span.start)
        slope = by_differences(self._loss, self._parameters, self._noise)(direction)
        found = self._complex_slope(slope.direction)
        if found is None or abs(found - slope.value) > slope.error + 1e-6 * abs(slope.value):
            return None
        everything = np.concatenate([np.arange(s.start, s.stop) for s in self._spans])
        if len(everything) > OWN_ELEMENTWISE:
            everything = np.sort(random.choice(everything, OWN_ELEMENTWISE, replace=False))
        wanted, compared = self._gradient.copy(), np.zeros(len(self._gradient), bool)
        for index in everything.tolist():
            unit = np.zeros(len(self._gradient))
            unit[index] = 1
            one = self._complex_slope(unit)
            if one is None:
                return None
            wanted[index], compared[index] = one, True
        size = float(np.abs(self._gradient).max(initial=0))
        return compare(
            "analytic = complex step",
            "numerical",
            self._where,
            self._triangle.tensors,
            self._gradient,
            wanted,
            OWN_NOISE * size,
            compared,
        )

    def _complex_slope(self, direction: Array) -> float | None:
        """Return the derivative along a direction; None where the code cannot do that."""
        moved = self._parameters + 1j * STEP * direction
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                found = self._triangle.local.complex_loss(moved, self._step)
        except Exception:  # noqa: BLE001 - somebody's code, which was written for real numbers
            return None
        return found.imag / STEP

    def projections(self, seed: int) -> Comparison:
        """Compare along random directions, tensor by tensor."""
        reference = self._triangle.reference(self._step)
        if reference is None:
            oracle = by_differences(self._loss, self._parameters, self._noise)
        else:
            oracle = by_complex_step(reference, self._parameters)
        _, found = projected(self._spans, self._gradient, oracle, 2 * self._bound, seed=seed)
        results = tuple(self._projected(i, each) for i, each in enumerate(found))
        verdicts = [Verdict.FAIL if not each.fits else Verdict.PASS for each in found]
        return Comparison(
            "analytic = projections",
            "analytic" if reference is not None else "numerical",
            self._where,
            worst(verdicts),
            results,
            f"seed {seed}; an error of {self._unseen(found):.1e} of a tensor's gradient goes "
            f"unseen with a probability of {MISSED:g}",
        )

    def taylor(self, seed: int) -> tuple[Comparison, Taylor]:
        """Test whether what the gradient leaves over falls with slope 2."""
        direction = np.zeros(len(self._parameters))
        random = np.random.default_rng(seed)
        for span in self._spans:
            direction[span] = random.standard_normal(span.stop - span.start)
        found = taylor(self._loss, self._parameters, self._gradient, direction, self._noise)
        verdict = {Judgement.RIGHT: Verdict.PASS, Judgement.WRONG: Verdict.FAIL}.get(
            found.judgement, Verdict.PASS
        )
        note = f"slope {found.slope:.2f}: {found.judgement.value}"
        return Comparison("Taylor slope", "numerical", self._where, verdict, (), note), found

    def _loss(self, x: Array) -> float:
        return self._triangle.local.loss(x, self._step)

    def _indices(self, seed: int) -> Array:
        total = sum(span.stop - span.start for span in self._spans)
        if total <= ELEMENTWISE:
            return np.concatenate([np.arange(span.start, span.stop) for span in self._spans])
        return sampled(self._gradient, self._spans, SAMPLES, seed=seed)[1]

    def _judged(self, indices: Array, findings: Sequence[Finding]) -> Comparison:
        size = len(self._parameters)
        wanted, tolerance = self._gradient.copy(), np.zeros(size)
        compared = np.zeros(size, bool)
        verdicts = []
        largest = {
            t.name: float(np.abs(self._gradient[t.start : t.stop]).max(initial=0))
            for t in self._triangle.tensors
        }
        for index, finding in zip(indices.tolist(), findings, strict=True):
            scale = largest[self._tensor(index)]
            own, limit, verdict = _wanted(finding, float(self._gradient[index]), scale)
            verdicts.append(verdict)
            if verdict is not Verdict.INCONCLUSIVE:
                wanted[index], tolerance[index] = own, limit + float(self._bound[index])
                compared[index] = True
        found = compare(
            "analytic = central differences",
            "numerical",
            self._where,
            self._triangle.tensors,
            self._gradient,
            wanted,
            tolerance,
            compared,
        )
        note = ", ".join(
            f"{verdicts.count(each)} {each.value}"
            for each in (Verdict.KINK, Verdict.INCONCLUSIVE)
            if each in verdicts
        )
        overall = worst([found.verdict, *verdicts]) if verdicts else found.verdict
        return found._replace(verdict=overall, note=note)

    def _tensor(self, index: int) -> str:
        return next(t.name for t in self._triangle.tensors if t.start <= index < t.stop)

    def _projected(self, place: int, found: Projected) -> TensorResult:
        tensor = self._triangle.tensors[place]
        entries = [Entry((), p.found, p.wanted, p.tolerance) for p in found.projections]
        top = max(entries, key=lambda e: abs(e.found - e.wanted) / (e.tolerance or 1e-300))
        size = float(np.linalg.norm(self._gradient[tensor.start : tensor.stop]))
        seen = _seen(found) / size if size else np.nan
        failed = sum(not p.fits for p in found.projections)
        return TensorResult(
            tensor.name, tensor.stop - tensor.start, len(entries), 0, failed, top, (seen, seen)
        )

    def _unseen(self, found: Sequence[Projected]) -> float:
        sizes = [float(np.linalg.norm(self._gradient[each.span])) for each in found]
        return max((_seen(e) / s for e, s in zip(found, sizes, strict=True) if s), default=np.nan)


def _seen(found: Projected) -> float:
    """Return the norm of an error that goes unseen with the probability `MISSED`."""
    low, high = 0.0, max((p.tolerance for p in found.projections), default=0.0) * 1e6 + 1e-300
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if found.missed(middle) > MISSED else (low, middle)
    return high


def _wanted(finding: Finding, found: float, scale: float) -> tuple[float, float, Verdict]:
    """Return what an element should be, its tolerance, and what the oracle itself comes to."""
    if isinstance(finding, Smooth):
        unsure = finding.error > RESOLUTION * scale and scale > 0
        verdict = Verdict.INCONCLUSIVE if unsure else Verdict.PASS
        return finding.value, finding.error, verdict
    if isinstance(finding, Kink) and finding.ties <= 1:  # of several, any sum of sides is right
        low, high = sorted((finding.left, finding.right))
        return min(max(found, low), high), finding.error, Verdict.KINK
    return found, np.inf, Verdict.INCONCLUSIVE


def numbers(
    triangle: Triangle, parameters: Array, step: int, where: str, seed: int
) -> Iterator[tuple[Comparison, Taylor | None]]:
    """Yield all numerical comparisons of a point and a minibatch."""
    own = Numbers(triangle, parameters, step, where)
    if triangle.reference(step) is None:
        found = own.own_complex_step(seed)
        if found is not None:
            yield found, None
    yield own.projections(seed), None
    yield own.differences(seed), None
    yield own.taylor(seed)
