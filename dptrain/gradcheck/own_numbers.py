"""The numerical comparisons of a network of the user's own, of which nothing is known.

By the complex step, where the code can do that, which crosses no kinks; otherwise by differences.
Rounding of the loss and of the gradient is measured.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from dptrain.arithmetic.shards import shard_sizes
from dptrain.errors import OwnCodeError, UsageError
from dptrain.experiment.job import Job
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.directions import RESOLUTION
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.oracles.kinks import Finding, Smooth, black_box
from dptrain.gradcheck.oracles.logarithm import labelled, lacking
from dptrain.gradcheck.oracles.noise import measured
from dptrain.gradcheck.oracles.own_complex import OwnComplexStep
from dptrain.gradcheck.oracles.projections import Oracle, Slope, by_differences
from dptrain.gradcheck.oracles.taylor import Taylor
from dptrain.gradcheck.pointwise import Number, Numbers
from dptrain.gradcheck.verdict import Verdict

Array = NDArray[Any]

# Rounding of a few hundred operations, relative to what is rounded; and how many times the measured
# deviation the error may be.
ROUNDING, DEVIATIONS = 256 * 2.0**-53, 16.0
LEAST_NOISE = 16 * 2.0**-53
# A loss that is rounded to more than this, relatively, is not float64's alone.
COARSE = 1e-11
# What has lost digits, such as 1 - y where y is all but 1, moves in stairs too wide to be seen:
# derivatives of such a loss, also those by the complex step, are trusted to this part of a tensor's
# largest.
UNTOLD = 1e-6
# Its steps are so long that kinks between them drown: differences err by so many times as much,
# and directions alone are believed only where they are off by so many times that.
DROWNED, FAR = 10.0, 4.0
# Elements that the complex step compares one by one: so many numbers in all, but at least some of
# each tensor, and no more than a few thousand.
NUMBERS, EACH, MOST = 100_000_000, 20, 10_000
# A loss that takes longer is computed for fewer differences, which take some thirty losses each.
SLOW = 0.03
# Parts of what directions may be off by rounding that could be an ε in the loss.
HIDDEN = 10
# All elements by differences, where there are few and no complex step, at the first point.
ELEMENTWISE = 300


class OwnNumbers(Numbers):
    """Those of a network of the user's own."""

    def __init__(
        self,
        triangle: Triangle,
        parameters: Array,
        step: int,
        where: str,
        seed: int,
        part: int,
    ) -> None:
        """Begin; ``part`` counts the points and minibatches of a check that has one seed."""
        super().__init__(triangle, parameters, step, where, seed)
        self._part = part
        self._remarks: list[str] = []
        self._known: tuple[Array, Array] | None = None
        self._measure()
        differences = self._differences()
        own = OwnComplexStep(triangle.local, self.parameters, step)
        slopes = own.agreeing([self._tries(span) for span in self.spans], differences)
        if slopes is not None and any(self._lost(each) for each in slopes):
            slopes = None
        self._complex = None if slopes is None else own
        self.exact = slopes is not None
        self._disputed = False
        if slopes is None:
            self.oracle = differences
            self._remarks.append(
                "the loss cannot be computed with complex numbers: differences take their place"
            )
            slopes = [differences(self.direction(1, [span])) for span in self.spans]
            erratic = any(each.error > RESOLUTION * abs(each.value) for each in slopes)
            self._disputed = erratic and self._is_gradient(own)
            self.few = self._seconds() > SLOW
            self.samples = 1 if self.few else self.samples
        else:
            self.oracle = own.oracle()
            self.samples = 1
        self._account_for_epsilon(slopes)

    def _is_gradient(self, own: OwnComplexStep) -> bool:
        """Return whether the complex step finds the very gradient that is checked.

        The one is made of the loss, the other by its own code: both would hardly be wrong alike. If
        differences are erratic and do not agree, the loss has lost its digits.
        """
        for span in self.spans:
            direction = self.direction(1, [span])
            found, right = own.slopes(direction), float(self.gradient @ direction)
            if found is None or not abs(float(found.sum()) - right) <= UNTOLD * abs(right):
                return False
        return True

    def _lost(self, slope: Slope) -> bool:
        """Return whether nothing is left of a complex number, as behind an absolute value.

        Differences of a coarsely rounded loss need not have noticed. Where the derivative is 0
        indeed, they tell it.
        """
        return slope.value == 0 and bool(self.gradient @ slope.direction != 0)

    def _tries(self, span: slice) -> Iterator[Array]:
        """Yield directions in a tensor: two of all its elements, then some of its largest alone."""
        for seed in (1, 2):
            yield self.direction(seed, [span])
        for place in np.argsort(-np.abs(self.gradient[span]))[:3]:
            alone = np.zeros(len(self.parameters))
            alone[span.start + place] = 1.0
            yield alone

    def _measure(self) -> None:
        """Find out how far rounding moves the loss and the gradient."""
        trained = np.concatenate([np.arange(span.start, span.stop) for span in self.spans])
        moved = self.parameters.copy()

        def both(x: Array) -> Array:
            moved[trained] = x
            found = self.triangle.local.analytic(moved, self.step)
            return np.append(found.gradient.astype(float)[trained], found.loss)

        gradient = np.zeros(len(self.parameters))
        found = measured(both, self.parameters[trained], self.seed)
        gradient[trained], noise = found[:-1], found[-1]
        size = max(1.0, abs(self.loss(self.parameters)))
        self.noise = max(LEAST_NOISE * size, DEVIATIONS * float(noise))
        least = ROUNDING * float(np.abs(self.gradient[trained]).max(initial=0))
        self.bounds = np.zeros(len(self.parameters))
        for span in self.spans:
            self.bounds[span] = max(least, DEVIATIONS * float(gradient[span].max(initial=0))) / 2
        self._unsure = 1.0 if self.noise <= COARSE * size else DROWNED
        if self._unsure > 1:
            for span in self.spans:
                largest = float(np.abs(self.gradient[span]).max(initial=0))
                self.bounds[span] = np.maximum(self.bounds[span], UNTOLD / 2 * largest)
            self._remarks.append(
                "the loss is rounded more than float64 would, as where code computes in float32: "
                "numbers tell no more than that allows"
            )

    def _measure_complex_step(self) -> None:
        """Find out how far rounding moves the complex step, where each tensor is farthest off.

        It has no error but rounding, and that is as large as the code makes it: ``log(1 - y)`` has
        lost what digits ``1 - y`` has, and so has its derivative.
        """
        trained = np.concatenate([np.arange(span.start, span.stop) for span in self.spans])
        assert self._known is not None
        shards, compared = self._known
        off = np.where(compared, np.abs(shards.sum(axis=0) - self.gradient), 0.0)
        places = [s.start + int(off[s].argmax()) for s in self.spans]
        moved = self.parameters.copy()

        def derivatives(x: Array) -> Array:
            moved[trained] = x
            found = OwnComplexStep(self.triangle.local, moved, self.step).gradients(places)
            return np.full(len(places), np.nan) if found is None else found.sum(axis=0)[places]

        noise = measured(derivatives, self.parameters[trained], self.seed)
        for span, each in zip(self.spans, noise, strict=True):
            if np.isfinite(each):
                self.bounds[span] = np.maximum(self.bounds[span], DEVIATIONS * each / 2)

    def _differences(self) -> Oracle:
        found = by_differences(self.loss, self.parameters, self.noise)

        def slope(direction: Array) -> Slope:
            one = found(direction)
            return one._replace(error=self._unsure * one.error)

        return slope

    def _seconds(self) -> float:
        """Return how long the loss takes."""
        began = time.process_time()
        self.loss(self.parameters)
        return time.process_time() - began

    def _account_for_epsilon(self, slopes: list[Slope]) -> None:
        off = [float(self.gradient @ each.direction) - each.value for each in slopes]
        room = [each.error + float(np.abs(each.direction) @ self.bounds) for each in slopes]
        # what hides in the room of these directions may show along others, or in an element
        known = self.triangle.epsilon
        if not known and all(abs(a) <= b / HIDDEN for a, b in zip(off, room, strict=True)):
            return
        others = labelled(self.triangle.local, self.parameters, self.step)
        found = None if others is None else lacking(others, self.gradient, slopes, known)
        if found is not None:
            self.triangle.epsilon = found.epsilon
            self.gradient = self.gradient - found.excess
            self._remarks.append(
                f"the loss has log(y + {found.epsilon:g}), and the gradient is that of log(y): "
                "the difference is known, and accounted for"
            )

    def all(self) -> Iterator[Number]:
        """Yield all of them, those that say most first."""
        remark = "; ".join(self._remarks)
        along = self.projections()
        exactly = self.complex_step(along)
        if exactly is not None and Verdict.FAIL in (along.verdict, exactly.verdict):
            self._measure_complex_step()
            along = self.projections()
            exactly = self.complex_step(along)
        by_differences = _left_to(along, self.differences())
        each = [c for c in (exactly, by_differences) if c is not None]
        if self._disputed:
            self._remarks.append(
                "the complex step finds the gradient, and differences do not: they are not trusted"
            )
            remark = "; ".join(self._remarks)
            each, along = [_doubted(c) for c in each], _doubted(along)
        located = any(c.verdict is Verdict.FAIL for c in each)
        for comparison in (*each, along if located else self._unlocated(along)):
            yield Number(comparison._replace(remark=remark), evidence=self.evidence)
        comparison, slope = self.taylor()
        comparison = comparison if located else self._unlocated(comparison)
        yield Number(_doubted(comparison) if self._disputed else comparison, slope, self.evidence)

    def _unlocated(self, found: Comparison) -> Comparison:
        """Return what directions have found where no single element is known to be wrong.

        Of a loss that is rounded coarsely, they alone prove nothing unless they are far off.
        """
        worst = [t.worst for t in found.tensors if t.worst is not None]
        far = any(abs(e.found - e.wanted) > FAR * e.tolerance for e in worst)
        if found.verdict is Verdict.FAIL and self._unsure > 1 and not far:
            return found._replace(verdict=Verdict.INCONCLUSIVE)
        names = ", ".join(t.tensor for t in found.tensors if t.failed)
        what = f"the gradient of {names}" if names else "the gradient"
        sentence = (
            f"{what} is wrong along random directions; of the elements that were compared one by "
            "one, none is"
        )
        return found._replace(diagnoses=(Diagnosis("unlocated", sentence, 0.0),))

    def findings(self, indices: Array) -> list[Finding]:
        """Return what the loss is like along some elements."""
        found = black_box(self.loss, self.parameters, indices, self.noise)
        return [
            f._replace(error=self._unsure * f.error) if isinstance(f, Smooth) else f for f in found
        ]

    def sampled(self) -> Array:
        """Return which elements differences compare: all of a few, if nothing else does."""
        total = sum(span.stop - span.start for span in self.spans)
        if total <= ELEMENTWISE and not self.exact and not self._part:
            return np.concatenate([np.arange(span.start, span.stop) for span in self.spans])
        return super().sampled()

    def kinked(self, found: Taylor, direction: Array) -> bool:  # noqa: ARG002 - as of the formulas
        """Return whether the oracle, which crosses no kinks, finds the gradient's slope."""
        slope = self.oracle(direction)
        room = slope.error + 2 * float(np.abs(slope.direction) @ self.bounds)
        return abs(slope.value - float(self.gradient @ slope.direction)) <= room

    def projections(self) -> Comparison:
        """Compare along random directions; kinks leave some open, where elements are compared."""
        found = super().projections()
        if self.exact and found.verdict is Verdict.INCONCLUSIVE:
            return found._replace(verdict=Verdict.PASS)
        return found

    def complex_step(self, projections: Comparison) -> Comparison | None:
        """Compare elements with the complex step, if the code can do that.

        Args:
            projections: tensors that they find wrong are compared as far as can be.
        """
        own = self._complex
        if own is None:
            return None
        wrong = {each.tensor for each in projections.tensors if each.failed}
        pairs = zip(self.spans, self.tensors, strict=True)
        chosen = self._chosen([span for span, t in pairs if t.name in wrong])
        shards = own.gradients(chosen.tolist())
        if shards is None:
            return None
        compared = np.zeros(len(self.gradient), bool)
        compared[chosen] = True
        right = np.where(compared, shards.sum(axis=0), self.gradient)
        failing = chosen[np.abs(right - self.gradient)[chosen] > 2 * self.bounds[chosen]]
        tied = own.tied(failing.tolist(), right)
        compared[tied] = False
        self._known = shards, compared
        found = compare(
            "analytic = complex step",
            "analytic",
            self.where,
            self.tensors,
            self.gradient,
            right,
            2 * self.bounds,
            compared,
        )
        return found._replace(note=f"{len(tied)} kink" if len(tied) else "")

    def _chosen(self, wrong: list[slice]) -> Array:
        """Return which elements are compared one by one: all where that is quick.

        Otherwise all of wrong tensors, if they are not too many, and of the others a part at each
        point and minibatch, so that four of them compare up to four times as many.
        """
        everything = np.concatenate([np.arange(s.start, s.stop) for s in self.spans])
        most = max(EACH * len(self.spans), min(MOST, NUMBERS // self.triangle.numbers()))
        if len(everything) <= most:
            return everything
        random = np.random.default_rng(self.seed)
        found = []
        for span in self.spans:
            own = np.arange(span.start, span.stop)
            share = MOST // len(wrong) if span in wrong else most * len(own) // len(everything)
            turned = np.roll(random.permutation(own), -self._part * max(EACH, share))
            found.append(turned[: max(EACH, share)])
        return np.unique(np.concatenate(found))

    def evidence(self) -> Evidence:
        """Return what a diagnosis begins with where there are no formulas."""
        if self._known is None:
            wanted, compared = self.by_differences
            shards = np.where(compared, wanted, 0.0)[None]
        else:
            shards, compared = self._known
        right = np.where(compared, shards.sum(axis=0), self.gradient)
        job = self.triangle.job
        rows = job.rows(self.step)
        sizes = shard_sizes(rows, job.shards) if len(shards) > 1 else (rows,)
        return Evidence(
            self.tensors,
            self.gradient,
            right,
            shards,
            sizes,
            ((0, len(sizes)),),
            job.batch_size,
            rows=self._right_rows(compared),
            compared=compared,
            parameters=self.parameters,
        )

    def _right_rows(self, compared: Array) -> Callable[[], tuple[Array, list[int]]] | None:
        """Return what computes each row's part by the complex step, if that can be."""
        if self._complex is None:
            return None
        job = self.triangle.job
        each_alone = replace(job.experiment, shards=job.rows(self.step))
        alone = Local(Job(each_alone, job.dataset, job.origin))
        try:
            alone.loss(self.parameters, self.step)
        except (OwnCodeError, UsageError):
            return None

        def rows() -> tuple[Array, list[int]]:
            own = OwnComplexStep(alone, self.parameters, self.step)
            found = own.gradients(np.flatnonzero(compared).tolist())
            assert found is not None
            return found, list(range(len(found)))

        return rows


def _doubted(found: Comparison) -> Comparison:
    """Return a comparison of which a failure proves nothing."""
    fails = found.verdict is Verdict.FAIL
    return found._replace(verdict=Verdict.INCONCLUSIVE) if fails else found


def _left_to(along: Comparison, found: Comparison) -> Comparison:
    """Return what differences have found; directions compare the elements that they leave open.

    An error in such an element is seen as one in its whole tensor is.
    """
    settled = along.verdict is Verdict.PASS and found.compared > 0
    if settled and found.verdict is Verdict.INCONCLUSIVE:
        return found._replace(verdict=Verdict.PASS)
    return found
