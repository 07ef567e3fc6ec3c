"""The analytic gradient of one point and minibatch against numbers made of the loss alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.oracles.complex_step import by_complex_step
from dptrain.gradcheck.oracles.differences import Finding, Kink, Smooth, along_element
from dptrain.gradcheck.oracles.projections import RESOLUTION, Oracle, compare_along_directions
from dptrain.gradcheck.oracles.taylor import Judgement, taylor
from dptrain.gradcheck.verdict import Verdict, worst

Array = NDArray[Any]

# An element takes about so many forward passes, which may compute so many numbers in all.
EVALUATIONS, BUDGET = 40, 500_000_000


class Numbers:
    """The numerical comparisons of one point and minibatch, wherever the numbers come from.

    Attributes:
        gradient: that is checked, flat ``(size,)``.
        bounds: for each element, how far rounding may have moved it, ``(size,)``.
        noise: bound of the loss's rounding error.
        oracle: of derivatives along directions.
        exact: whether something compares the elements that is more exact than differences.
        few: whether only few directions are affordable.
        edge: that is to blame where a projection is wrong.
        unsure: differences err by so many times what they say.
        samples: of each tensor, differences compare so many of the largest elements, of the
            smallest and of the others.
        by_differences: what they say that elements should be ``(size,)``, and of which, bool.
    """

    bounds: Array
    noise: float
    oracle: Oracle
    by_differences: tuple[Array, Array]
    exact = True
    few = False
    edge = "numerical"
    unsure = 1.0
    samples = 3

    def __init__(
        self, triangle: Triangle, parameters: Array, step: int, where: str, seed: int
    ) -> None:
        """Begin.

        Args:
            triangle: the job in this process.
            parameters: flat ``(size,)``.
            step: whose minibatch.
            where: as of `Comparison`.
            seed: of directions and elements.
        """
        self.triangle = triangle
        self.parameters = parameters.astype(float)
        self.step = step
        self.where = where
        self.seed = seed
        self.tensors = triangle.tensors
        self.spans = [slice(t.start, t.stop) for t in self.tensors]
        self.gradient = triangle.local.analytic(parameters, step).gradient.astype(float)

    def all(self) -> Iterator[Comparison]:
        """Yield all comparisons, those that say most first."""
        yield self.differences()
        yield self.projections()
        yield self.taylor()

    def loss(self, x: Array) -> float:
        """Return the loss with some weights."""
        return self.triangle.local.loss(x, self.step)

    def direction(self, seed: int = 0, tensors: Sequence[slice] | None = None) -> Array:
        """Return a direction of normal numbers in some tensors, or all."""
        direction = np.zeros(len(self.parameters))
        random = np.random.default_rng((self.seed, seed))
        for span in self.spans if tensors is None else tensors:
            direction[span] = random.standard_normal(span.stop - span.start)
        return direction

    def projections(self) -> Comparison:
        """Compare along random directions, tensor by tensor."""
        return compare_along_directions(
            self.edge,
            self.where,
            self.tensors,
            self.gradient,
            self.oracle,
            2 * self.bounds,
            self.seed,
            few=self.few,
        )

    def taylor(self) -> Comparison:
        """Test whether what the gradient leaves over falls with slope 2."""
        direction = self.direction()
        found = taylor(self.loss, self.parameters, self.gradient, direction, self.noise)
        verdict, note = Verdict.PASS, f"slope {found.slope:.2f}: {found.judgement.value}"
        if found.judgement is Judgement.WRONG:
            verdict = Verdict.FAIL
            slope = self.oracle(direction)  # which crosses no kinks
            room = slope.error + 2 * float(np.abs(slope.direction) @ self.bounds)
            if abs(slope.value - float(self.gradient @ slope.direction)) <= room:
                verdict = Verdict.KINK
                note = f"slope {found.slope:.2f}: that of kinks near the weights"
        curve = tuple(point for point in found.points if point[1] > 0)
        return Comparison("Taylor slope", "numerical", self.where, verdict, (), note, curve=curve)

    def differences(self) -> Comparison:
        """Compare with central differences, element by element."""
        size = len(self.parameters)
        wanted, tolerance = self.gradient.copy(), np.zeros(size)
        compared = np.zeros(size, bool)
        verdicts = []
        sampled = self.sampled()
        for span, scale in zip(self.spans, self._scales(), strict=True):
            own_elements = sampled[(sampled >= span.start) & (sampled < span.stop)]
            for i in own_elements.tolist():
                finding = along_element(self.loss, self.parameters, i, self.noise)
                own, error, verdict = _wanted(finding, float(self.gradient[i]), self.unsure, scale)
                verdicts.append(verdict)
                if verdict is not Verdict.INCONCLUSIVE:
                    wanted[i], tolerance[i] = own, error + float(self.bounds[i])
                    compared[i] = True
        self.by_differences = wanted, compared
        name, edge = "analytic = central differences", "numerical"
        found = compare(
            name, edge, self.where, self.tensors, self.gradient, wanted, tolerance, compared
        )
        note = ", ".join(
            f"{verdicts.count(each)} {each.value}"
            for each in (Verdict.KINK, Verdict.INCONCLUSIVE)
            if each in verdicts
        )
        if self.exact and found.compared:  # what differences leave open is known from elsewhere
            verdicts = [each for each in verdicts if each is not Verdict.INCONCLUSIVE]
        return found._replace(verdict=worst([found.verdict, *verdicts]), note=note)

    def sampled(self) -> Array:
        """Return which elements differences compare: of each tensor the most telling, and others.

        Those with the largest absolute values, with the smallest other than 0, and at random.
        """
        chosen = []
        for place, span in enumerate(self.spans):
            key = np.random.SeedSequence(self.seed, spawn_key=(place,))
            random = np.random.Generator(np.random.Philox(key))
            size, each = np.abs(self.gradient[span]), self.samples
            order = np.argsort(size, kind="stable")
            smallest = order[np.count_nonzero(size == 0) :][:each]
            others = random.choice(len(size), min(each, len(size)), replace=False)
            own = np.concatenate([order[max(len(order) - each, 0) :], smallest, others])
            chosen.append(own + span.start)
        found = np.unique(np.concatenate(chosen))
        most = max(len(self.spans), BUDGET // (EVALUATIONS * self.triangle.numbers()))
        if len(found) <= most:
            return found
        return np.sort(np.random.default_rng(self.seed).choice(found, most, replace=False))

    def _scales(self) -> list[float]:
        """Return for each tensor what certainty is measured by: its largest element.

        Where that is 0 but for rounding, as of biases before a batch norm, the largest of all.
        """
        sizes = [float(np.abs(self.gradient[span]).max(initial=0)) for span in self.spans]
        rooms = [float(self.bounds[span].max(initial=0)) for span in self.spans]
        return [s if s > room else max(sizes) for s, room in zip(sizes, rooms, strict=True)]


def with_formulas(
    triangle: Triangle, parameters: Array, step: int, where: str, seed: int
) -> Numbers:
    """Return the numbers of a network whose formulas are known; they bound its rounding."""
    found = Numbers(triangle, parameters, step, where, seed)
    reference, expected = triangle.reference(step), triangle.expected(parameters, step)
    assert reference is not None
    assert expected is not None
    found.edge = "analytic"
    found.bounds = expected.bound + triangle.coarse(expected)
    found.noise = expected.loss_bound
    found.oracle = by_complex_step(reference, found.parameters)
    return found


def _wanted(
    finding: Finding, found: float, unsure: float, scale: float
) -> tuple[float, float, Verdict]:
    """Return what an element should be, its tolerance, and what the oracle itself comes to.

    Of several comparisons that are tied at once any sum of sides is right; so a kink decides
    nothing where a derivative lies beside both slopes.
    """
    if isinstance(finding, Smooth):
        error = unsure * finding.error
        open_ = error > RESOLUTION * scale > 0
        return finding.value, error, Verdict.INCONCLUSIVE if open_ else Verdict.PASS
    if isinstance(finding, Kink) and abs(found - finding.nearest(found)) <= finding.error:
        return finding.nearest(found), finding.error, Verdict.KINK
    return found, np.inf, Verdict.INCONCLUSIVE
