"""The numerical comparisons of a network of the user's own, of which nothing is known.

By the complex step, where the code can do that, which crosses no kinks; otherwise by differences.
Rounding of the loss and of the gradient is measured.
"""

import time
from collections.abc import Callable, Iterator
from functools import cache
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
from dptrain.gradcheck.forensics import diagnose
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.hypotheses import own
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.numerical import Numbers
from dptrain.gradcheck.oracles.complex_step import OwnComplexStep
from dptrain.gradcheck.oracles.logarithm import labelled, lacking
from dptrain.gradcheck.oracles.noise import measured
from dptrain.gradcheck.oracles.projections import RESOLUTION, Oracle, Slope, by_differences
from dptrain.gradcheck.report import Failure
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
# each tensor, and no more than a few thousand; of tensors that are wrong more, to name what is.
NUMBERS, EACH, MOST, MOST_WRONG = 100_000_000, 20, 2_500, 10_000
# A loss that takes longer is computed for fewer differences, which take some thirty losses each.
SLOW = 0.03
# Parts of what directions may be off by rounding that could be an ε in the loss.
HIDDEN = 10
# All elements by differences, where there are few and no complex step, at the first point.
ELEMENTWISE = 300
# What these numbers are trusted for in a diagnosis.
EXACT = 1e-6


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
        remark: str,
    ) -> None:
        """Begin, as of `Numbers`.

        ``part`` counts the points and minibatches of a check that has one seed; ``remark`` is what
        a reader should know of the job, possibly empty.
        """
        super().__init__(triangle, parameters, step, where, seed)
        self._part = part
        self._remarks = [remark] if remark else []
        self._known: tuple[Array, Array] | None = None
        self._trained = np.concatenate([np.arange(s.start, s.stop) for s in self.spans])
        self._measure()
        differences = self._differences()
        stepped = OwnComplexStep(triangle.local, self.parameters, step)
        slopes = stepped.agreeing([self._tries(span) for span in self.spans], differences)
        if slopes is not None and any(map(self._lost, slopes)):
            slopes = None
        self.exact = slopes is not None
        self._complex = stepped if self.exact else None
        self._disputed = False
        self.oracle, self.samples = stepped.slope, 1
        if slopes is None:
            slopes = self._without_complex_numbers(stepped, differences)
        self._account_for_epsilon(slopes)

    def _without_complex_numbers(self, stepped: OwnComplexStep, differences: Oracle) -> list[Slope]:
        """Let differences take the place of the complex step; return theirs."""
        self.oracle = differences
        self._remarks.append(
            "the loss cannot be computed with complex numbers: differences take their place"
        )
        slopes = [differences(self.direction(1, [span])) for span in self.spans]
        erratic = any(each.error > RESOLUTION * abs(each.value) for each in slopes)
        self._disputed = erratic and self._is_gradient(stepped)
        began = time.process_time()
        self.loss(self.parameters)
        self.few = time.process_time() - began > SLOW
        self.samples = 1 if self.few else Numbers.samples
        return slopes

    def _is_gradient(self, stepped: OwnComplexStep) -> bool:
        """Return whether the complex step finds the very gradient that is checked.

        The one is made of the loss, the other by its own code: both would hardly be wrong alike. If
        differences are erratic and do not agree, the loss has lost its digits.
        """
        for span in self.spans:
            direction = self.direction(1, [span])
            found, right = stepped.slopes(direction), float(self.gradient @ direction)
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

    def _measured(self, f: Callable[[Array], Array]) -> Array:
        """Return how far rounding moves what a function makes of the weights."""
        moved = self.parameters.copy()

        def of_trained(x: Array) -> Array:
            moved[self._trained] = x
            return f(moved)

        return measured(of_trained, self.parameters[self._trained], self.seed)

    def _measure(self) -> None:
        """Find out how far rounding moves the loss and the gradient."""

        def both(x: Array) -> Array:
            found = self.triangle.local.analytic(x, self.step)
            return np.append(found.gradient.astype(float), found.loss)

        *gradient, noise = self._measured(both)
        size = max(1.0, abs(self.loss(self.parameters)))
        self.noise = max(LEAST_NOISE * size, DEVIATIONS * float(noise))
        coarse = self.noise > COARSE * size
        self.unsure = DROWNED if coarse else 1.0
        self.bounds = np.zeros(len(self.parameters))
        least = ROUNDING * float(np.abs(self.gradient[self._trained]).max(initial=0))
        for span in self.spans:
            self._allow(span, max(least, DEVIATIONS * max(gradient[span], default=0.0)))
            if coarse:
                self._allow(span, UNTOLD * float(np.abs(self.gradient[span]).max(initial=0)))
        if coarse:
            self._remarks.append(
                "the loss is rounded more than float64 would, as where code computes in float32: "
                "numbers tell no more than that allows"
            )

    def _allow(self, span: slice, room: float) -> None:
        """Let gradient and numbers be apart by so much in a tensor."""
        self.bounds[span] = np.maximum(self.bounds[span], room / 2)

    def _measure_complex_step(self) -> None:
        """Find out how far rounding moves the complex step, where each tensor is farthest off.

        It has no error but rounding, and that is as large as the code makes it: ``log(1 - y)`` has
        lost what digits ``1 - y`` has, and so has its derivative.
        """
        assert self._known is not None
        shards, compared = self._known
        off = np.where(compared, np.abs(shards.sum(axis=0) - self.gradient), 0.0)
        places = np.array([s.start + int(off[s].argmax()) for s in self.spans])

        def derivatives(x: Array) -> Array:
            found = OwnComplexStep(self.triangle.local, x, self.step).gradients(places)
            return np.full(len(places), np.nan) if found is None else found.sum(axis=0)[places]

        for span, noise in zip(self.spans, self._measured(derivatives), strict=True):
            if np.isfinite(noise):
                self._allow(span, DEVIATIONS * float(noise))

    def _differences(self) -> Oracle:
        found = by_differences(self.loss, self.parameters, self.noise)

        def slope(direction: Array) -> Slope:
            one = found(direction)
            return one._replace(error=self.unsure * one.error)

        return slope

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

    def all(self) -> Iterator[Comparison]:
        """Yield all of them, those that say most first."""
        along, exactly = self.projections(), None
        if self._complex is not None:
            exactly = self._elements(self._complex, along)
            if exactly and Verdict.FAIL in (along.verdict, exactly.verdict):
                self._measure_complex_step()
                along = self.projections()
                exactly = self._elements(self._complex, along)
        if self._disputed:
            self._remarks.append(
                "the complex step finds the gradient, and differences do not: they are not trusted"
            )
        remark, located = "; ".join(self._remarks), False
        for each in self._by_elements(exactly, along):  # the second takes long
            located = located or each.verdict is Verdict.FAIL
            yield each._replace(remark=remark)
        for each in map(self._settled, (along, self.taylor())):
            told = each if located else self._settled(self._unlocated(each))
            yield told._replace(remark=remark)

    def _by_elements(self, exactly: Comparison | None, along: Comparison) -> Iterator[Comparison]:
        """Yield what was compared element by element."""
        if exactly is not None:
            yield self._settled(exactly)
        yield self._settled(self._left_to(along))

    def _settled(self, found: Comparison) -> Comparison:
        """Return a comparison; where differences are not trusted, a failure proves nothing."""
        doubted = self._disputed and found.verdict is Verdict.FAIL
        return found._replace(verdict=Verdict.INCONCLUSIVE) if doubted else found

    def _unlocated(self, found: Comparison) -> Comparison:
        """Return what directions have found where no single element is known to be wrong.

        Of a loss that is rounded coarsely, they alone prove nothing unless they are far off.
        """
        worst = [t.worst for t in found.tensors if t.worst is not None]
        far = any(abs(e.found - e.wanted) > FAR * e.tolerance for e in worst)
        if found.verdict is Verdict.FAIL and self.unsure > 1 and not far:
            return found._replace(verdict=Verdict.INCONCLUSIVE)
        names = ", ".join(t.tensor for t in found.tensors if t.failed)
        what = f"the gradient of {names}" if names else "the gradient"
        sentence = (
            f"{what} is wrong along random directions; of the elements that were compared one by "
            "one, none is"
        )
        return found._replace(diagnoses=(Diagnosis("unlocated", sentence, 0.0),))

    def _left_to(self, along: Comparison) -> Comparison:
        """Return what differences have found; directions compare the elements that they leave open.

        An error in such an element is seen as one in its whole tensor is.
        """
        found = self.differences()
        settled = along.verdict is Verdict.PASS and found.compared > 0
        if settled and found.verdict is Verdict.INCONCLUSIVE:
            return found._replace(verdict=Verdict.PASS)
        return found

    def sampled(self) -> Array:
        """Return which elements differences compare: all of a few, if nothing else does."""
        if len(self._trained) <= ELEMENTWISE and not self.exact and not self._part:
            return self._trained
        return super().sampled()

    def projections(self) -> Comparison:
        """Compare along random directions; kinks leave some open, where elements are compared."""
        found = super().projections()
        if self.exact and found.verdict is Verdict.INCONCLUSIVE:
            return found._replace(verdict=Verdict.PASS)
        return found

    def _elements(self, stepped: OwnComplexStep, along: Comparison) -> Comparison | None:
        """Compare elements with the complex step; None where the code fails on the way.

        Args:
            stepped: the complex step.
            along: the projections; tensors that they find wrong are compared as far as can be.
        """
        chosen = self._chosen({each.tensor for each in along.tensors if each.failed})
        shards = stepped.gradients(chosen)
        if shards is None:
            return None
        compared = np.zeros(len(self.gradient), bool)
        compared[chosen] = True
        right = np.where(compared, shards.sum(axis=0), self.gradient)
        failing = chosen[np.abs(right - self.gradient)[chosen] > 2 * self.bounds[chosen]]
        tied = stepped.tied(failing, right)
        compared[tied] = False
        self._known = shards, compared
        name, edge, room = "analytic = complex step", "analytic", 2 * self.bounds
        found = compare(name, edge, self.where, self.tensors, self.gradient, right, room, compared)
        return found._replace(note=f"{len(tied)} kink" if len(tied) else "")

    def _chosen(self, wrong: set[str]) -> Array:
        """Return which elements are compared one by one: all where that is quick.

        Otherwise all of wrong tensors, if they are not too many, and of the others a part at each
        point and minibatch, so that four of them compare up to four times as many.
        """
        most = max(EACH * len(self.spans), min(MOST, NUMBERS // self.triangle.numbers()))
        if len(self._trained) <= most:
            return self._trained
        random = np.random.default_rng(self.seed)
        found = []
        for tensor, span in zip(self.tensors, self.spans, strict=True):
            elements = np.arange(span.start, span.stop)
            share = most * len(elements) // len(self._trained)
            count = max(EACH, MOST_WRONG // len(wrong) if tensor.name in wrong else share)
            found.append(np.roll(random.permutation(elements), -self._part * count)[:count])
        return np.unique(np.concatenate(found))

    def failure(self, comparison: Comparison) -> Failure:
        """Return what a comparison that failed is put down to."""
        if comparison.diagnoses:
            return Failure(comparison, comparison.diagnoses)
        e = self._evidence()
        told = own.hypotheses(e, comparison.tensors)
        found = diagnose(e, told, more_first=True, exact=EXACT)
        return Failure(comparison, found, (), e.found, e.right, e.tensors)

    def _evidence(self) -> Evidence:
        """Return what a diagnosis begins with where there are no formulas."""
        if self._known is None:
            wanted, compared = self.by_differences
            shards = np.where(compared, wanted, 0.0)[None]
        else:
            shards, compared = self._known
        job = self.triangle.job
        count = job.rows(self.step)
        sizes = shard_sizes(count, job.shards) if len(shards) > 1 else (count,)
        return Evidence(
            self.tensors,
            self.gradient,
            np.where(compared, shards.sum(axis=0), self.gradient),
            shards,
            sizes,
            ((0, len(sizes)),),
            job.batch_size,
            rows=self._rows(compared),
            compared=compared,
            parameters=self.parameters,
        )

    def _rows(self, compared: Array) -> Callable[[], tuple[Array, list[int]]] | None:
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

        @cache
        def rows() -> tuple[Array, list[int]]:
            stepped = OwnComplexStep(alone, self.parameters, self.step)
            found = stepped.gradients(np.flatnonzero(compared))
            assert found is not None
            return found, list(range(len(found)))

        return rows
