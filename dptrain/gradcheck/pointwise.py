"""What is compared with numbers at one point and minibatch, wherever the numbers come from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.directions import RESOLUTION, compare_along_directions
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.oracles.kinks import Finding, Kink, Smooth
from dptrain.gradcheck.oracles.projections import Oracle, sampled
from dptrain.gradcheck.oracles.taylor import Judgement, Taylor, taylor
from dptrain.gradcheck.verdict import Verdict, worst

Array = NDArray[Any]

# An element takes about so many forward passes, which may compute so many numbers in all.
EVALUATIONS, BUDGET = 40, 500_000_000


class Number(NamedTuple):
    """A numerical comparison.

    Attributes:
        comparison: what came of it.
        slope: of a Taylor test.
        evidence: of a network of the user's own, computes what a diagnosis can begin with.
    """

    comparison: Comparison
    slope: Taylor | None = None
    evidence: Callable[[], Evidence] | None = None


class Numbers(ABC):
    """The numerical comparisons of one point and minibatch.

    Attributes:
        gradient: that is checked, flat ``(size,)``.
        bounds: for each element, how far rounding may have moved it, ``(size,)``.
        noise: bound of the loss's rounding error.
        oracle: of derivatives along directions.
        exact: whether something compares the elements that is more exact than differences.
        few: whether only few directions are affordable.
        edge: that is to blame where a projection is wrong.
        by_differences: what they say that elements should be ``(size,)``, and of which, bool.
        samples: of each tensor, differences compare so many of the largest elements, of the
            smallest and of the others.
    """

    bounds: Array
    noise: float
    oracle: Oracle
    by_differences: Sequence[Array]
    exact = True
    few = False
    edge = "numerical"
    samples = 3

    def __init__(
        self, triangle: Triangle, parameters: Array, step: int, where: str, seed: int
    ) -> None:
        """Begin."""
        self.triangle = triangle
        self.parameters = parameters.astype(float)
        self.step = step
        self.where = where
        self.seed = seed
        self.tensors = triangle.tensors
        self.spans = [slice(t.start, t.stop) for t in self.tensors]
        self.gradient = triangle.local.analytic(parameters, step).gradient.astype(float)

    @abstractmethod
    def all(self) -> Iterator[Number]:
        """Yield all comparisons, those that say most first."""

    @abstractmethod
    def findings(self, indices: Array) -> list[Finding]:
        """Return what the loss is like along some elements."""

    @abstractmethod
    def kinked(self, found: Taylor, direction: Array) -> bool:
        """Return whether a slope that looks wrong may be that of kinks."""

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

    def differences(self) -> Comparison:
        """Compare with central differences, element by element."""
        indices = self.sampled()
        found, *self.by_differences = self.judged(indices, self.findings(indices))
        return found

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

    def taylor(self) -> tuple[Comparison, Taylor]:
        """Test whether what the gradient leaves over falls with slope 2."""
        direction = self.direction()
        found = taylor(self.loss, self.parameters, self.gradient, direction, self.noise)
        verdict = Verdict.FAIL if found.judgement is Judgement.WRONG else Verdict.PASS
        note = f"slope {found.slope:.2f}: {found.judgement.value}"
        if verdict is Verdict.FAIL and self.kinked(found, direction):
            verdict, note = Verdict.KINK, f"slope {found.slope:.2f}: that of kinks near the weights"
        return Comparison("Taylor slope", "numerical", self.where, verdict, (), note), found

    def sampled(self) -> Array:
        """Return which elements differences compare."""
        _, found = sampled(self.gradient, self.spans, self.samples, seed=self.seed)
        most = max(len(self.spans), BUDGET // (EVALUATIONS * self.triangle.numbers()))
        if len(found) <= most:
            return found
        return np.sort(np.random.default_rng(self.seed).choice(found, most, replace=False))

    def judged(
        self, indices: Array, findings: Sequence[Finding]
    ) -> tuple[Comparison, Array, Array]:
        """Return the comparison, what the elements should be, and which are compared."""
        size = len(self.parameters)
        wanted, tolerance = self.gradient.copy(), np.zeros(size)
        compared = np.zeros(size, bool)
        verdicts = []
        scales = self._scales()
        for index, finding in zip(indices.tolist(), findings, strict=True):
            scale = scales[self._tensor(index)]
            own, limit, verdict = _wanted(finding, float(self.gradient[index]), scale)
            verdicts.append(verdict)
            if verdict is not Verdict.INCONCLUSIVE:
                wanted[index], tolerance[index] = own, limit + float(self.bounds[index])
                compared[index] = True
        found = compare(
            "analytic = central differences",
            "numerical",
            self.where,
            self.tensors,
            self.gradient,
            wanted,
            tolerance,
            compared,
        )
        note = ", ".join(
            f"{verdicts.count(each)} {each.value}"
            for each in (Verdict.KINK, Verdict.INCONCLUSIVE)
            if each in verdicts
        )
        if self.exact and found.compared:  # what differences leave open is known from elsewhere
            verdicts = [each for each in verdicts if each is not Verdict.INCONCLUSIVE]
        overall = worst([found.verdict, *verdicts])
        return found._replace(verdict=overall, note=note), wanted, compared

    def _scales(self) -> dict[str, float]:
        """Return by tensor what certainty is measured by: its largest element.

        Where that is 0 but for rounding, as of biases before a batch norm, the largest of all.
        """
        overall = max(float(np.abs(self.gradient[span]).max(initial=0)) for span in self.spans)
        found = {}
        for tensor in self.tensors:
            own = slice(tensor.start, tensor.stop)
            size = float(np.abs(self.gradient[own]).max(initial=0))
            found[tensor.name] = size if size > self.bounds[own].max(initial=0) else overall
        return found

    def _tensor(self, index: int) -> str:
        return next(t.name for t in self.tensors if t.start <= index < t.stop)


def _wanted(finding: Finding, found: float, scale: float) -> tuple[float, float, Verdict]:
    """Return what an element should be, its tolerance, and what the oracle itself comes to."""
    if isinstance(finding, Smooth):
        unsure = finding.error > RESOLUTION * scale and scale > 0
        verdict = Verdict.INCONCLUSIVE if unsure else Verdict.PASS
        return finding.value, finding.error, verdict
    if isinstance(finding, Kink) and finding.decides(found):
        low, high = sorted((finding.left, finding.right))
        return min(max(found, low), high), finding.error, Verdict.KINK
    return found, np.inf, Verdict.INCONCLUSIVE
