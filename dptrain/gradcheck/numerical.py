"""The analytic gradient against numbers that are made of the loss alone."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import shard_sizes
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison, compare
from dptrain.gradcheck.directions import compare_along_directions
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.oracles.kinks import Finding, Kink, Smooth, black_box, white_box
from dptrain.gradcheck.oracles.logarithm import Rowwise, lacking, one_by_one, rowwise
from dptrain.gradcheck.oracles.own_complex import OwnComplexStep
from dptrain.gradcheck.oracles.projections import (
    Oracle,
    by_complex_step,
    by_differences,
    sampled,
)
from dptrain.gradcheck.oracles.taylor import Judgement, Taylor, taylor
from dptrain.gradcheck.verdict import Verdict, worst

Array = NDArray[Any]

# A loss of the user's own comes without a bound: rounding of a few hundred operations.
OWN_NOISE = 256 * 2.0**-53
OWN_ELEMENTWISE, SMALL = 10_000, 100
# An oracle that is less certain than this, relative to a tensor's largest element, says nothing.
RESOLUTION = 1e-3
# Differences: of each tensor so many of the largest, of the smallest and of the others; all, where
# there are few and nothing more exact compares them.
SAMPLES, ELEMENTWISE = 3, 300
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


class Numbers:
    """The numerical comparisons of one point and minibatch."""

    def __init__(
        self,
        triangle: Triangle,
        parameters: Array,
        step: int,
        where: str,
        seed: int,
        part: int = 0,
    ) -> None:
        """Begin; ``part`` counts the points and minibatches of a check that has one seed."""
        self._triangle = triangle
        self._parameters = parameters.astype(float)
        self._step = step
        self._where = where
        self._seed = seed
        self._part = part
        self._gradient = triangle.local.analytic(parameters, step).gradient.astype(float)
        expected = triangle.expected(parameters, step)
        self._bound = np.zeros(len(parameters)) if expected is None else expected.bound
        loss = triangle.local.loss(parameters, step)
        self._noise = OWN_NOISE * max(1.0, abs(loss)) if expected is None else expected.loss_bound
        self._spans = [slice(t.start, t.stop) for t in triangle.tensors]
        self._reference = triangle.reference(step)
        self._remarks: list[str] = []
        self._rows: Rowwise | None = None
        self._known: tuple[Array, Array] | None = None
        self._oracle = self._chosen_oracle()
        if self._reference is None:
            self._account_for_epsilon()

    def _chosen_oracle(self) -> Oracle:
        self._complex: OwnComplexStep | None = None
        if self._reference is not None:
            return by_complex_step(self._reference, self._parameters)
        own = OwnComplexStep(self._triangle.local, self._parameters, self._step)
        differences = by_differences(self._loss, self._parameters, self._noise)
        if own.agrees(differences(self._direction())):
            self._complex = own
            return own.oracle()
        self._remarks.append(
            "the loss cannot be computed with complex numbers: differences take their place"
        )
        return differences

    def _account_for_epsilon(self) -> None:
        rows = self._rows = rowwise(self._triangle.job, self._parameters, self._step)
        if rows is None:
            return
        found = lacking(rows, self._parameters, self._triangle.tensors, self._oracle, self._seed)
        if found is not None:
            self._gradient = self._gradient - found.excess
            beside = f", beside a penalty of {found.decay:g}/2 ‖W‖²" if found.decay else ""
            self._remarks.append(
                f"the loss has log(y + {found.epsilon:g}), and the gradient is that of log(y)"
                f"{beside}: the difference is known, and accounted for"
            )

    def _direction(self) -> Array:
        direction = np.zeros(len(self._parameters))
        random = np.random.default_rng(self._seed)
        for span in self._spans:
            direction[span] = random.standard_normal(span.stop - span.start)
        return direction

    def differences(self) -> Comparison:
        """Compare with central differences, element by element."""
        indices = self._indices()
        reference = self._reference
        if reference is None:
            findings = black_box(self._loss, self._parameters, indices, self._noise)
        else:

            def branched(x: Array) -> tuple[float, list[bytes]]:
                return self._loss(x), reference.value(x)[1]

            findings = white_box(branched, self._parameters, indices, self._noise)
        return self._judged(indices, findings)

    def own_complex_step(self) -> Comparison | None:
        """Compare a network of the user's own with the complex step, if its code can do that."""
        chosen = self._own_indices()
        shards = None if self._complex is None else self._complex.gradients(chosen.tolist())
        if shards is None:
            return None
        compared = np.zeros(len(self._gradient), bool)
        compared[chosen] = True
        self._known = shards, compared
        return compare(
            "analytic = complex step",
            "analytic",
            self._where,
            self._triangle.tensors,
            self._gradient,
            np.where(compared, shards.sum(axis=0), self._gradient),
            self._rounding,
            compared,
        )

    def _own_indices(self) -> Array:
        """Return which elements of a network of the user's own are compared one by one.

        All, where there are few. Otherwise all of small tensors, and of the others a part at each
        point and minibatch, so that four of them compare up to four times as many.
        """
        everything = np.concatenate([np.arange(s.start, s.stop) for s in self._spans])
        if len(everything) <= OWN_ELEMENTWISE:
            return everything
        small = [np.arange(s.start, s.stop) for s in self._spans if s.stop - s.start <= SMALL]
        order = np.random.default_rng(self._seed).permutation(everything)
        part = np.roll(order, -self._part * OWN_ELEMENTWISE)[:OWN_ELEMENTWISE]
        return np.unique(np.concatenate([part, *small]))

    @property
    def _rounding(self) -> float:
        """What rounding may do to an element where no formula tells."""
        return OWN_NOISE * float(np.abs(self._gradient).max(initial=0))

    def evidence(self) -> Evidence:
        """Return what a diagnosis begins with where there are no formulas."""
        assert self._known is not None
        shards, compared = self._known
        right = np.where(compared, shards.sum(axis=0), self._gradient)
        sizes = self._sizes() if len(shards) > 1 else (self._triangle.job.rows(self._step),)
        return Evidence(
            self._triangle.tensors,
            self._gradient,
            right,
            shards,
            sizes,
            ((0, len(sizes)),),
            self._triangle.job.batch_size,
            rows=self._right_rows(compared),
            compared=compared,
            parameters=self._parameters,
        )

    def _right_rows(self, compared: Array) -> Callable[[], tuple[Array, list[int]]] | None:
        """Return what computes each row's part by the complex step, if that can be."""
        if self._complex is None or self._rows is None:
            return None

        def rows() -> tuple[Array, list[int]]:
            alone = Local(one_by_one(self._triangle.job, self._step))
            own = OwnComplexStep(alone, self._parameters, self._step)
            found = own.gradients(np.flatnonzero(compared).tolist())
            assert found is not None
            return found, list(range(len(found)))

        return rows

    def _sizes(self) -> tuple[int, ...]:
        job = self._triangle.job
        return shard_sizes(job.rows(self._step), job.shards)

    def projections(self) -> Comparison:
        """Compare along random directions, tensor by tensor."""
        bounds = 2 * self._bound
        if self._complex is not None:
            bounds = bounds + self._rounding
        return compare_along_directions(
            "analytic" if self._reference is not None else "numerical",
            self._where,
            self._triangle.tensors,
            self._gradient,
            self._oracle,
            bounds,
            self._seed,
        )

    def taylor(self) -> tuple[Comparison, Taylor]:
        """Test whether what the gradient leaves over falls with slope 2."""
        direction = self._direction()
        found = taylor(self._loss, self._parameters, self._gradient, direction, self._noise)
        verdict = {Judgement.RIGHT: Verdict.PASS, Judgement.WRONG: Verdict.FAIL}.get(
            found.judgement, Verdict.PASS
        )
        note = f"slope {found.slope:.2f}: {found.judgement.value}"
        if verdict is Verdict.FAIL and self._kinked(found, direction):
            verdict, note = Verdict.KINK, f"slope {found.slope:.2f}: the weights lie at a kink"
        return Comparison("Taylor slope", "numerical", self._where, verdict, (), note), found

    def _kinked(self, found: Taylor, direction: Array) -> bool:
        """Return whether the slope is that of a kink: formulas tell, or the slopes of both sides.

        Of a black box the gradient must lie between these.
        """
        h = min((point.h for point in found.points if point.fitted), default=0.0)
        x, moved = self._parameters, h * direction
        if self._reference is not None:
            here = self._reference.value(x)[1]
            return any(self._reference.value(y)[1] != here for y in (x + moved, x - moved))
        middle = self._loss(x)
        sides = (self._loss(x + moved) - middle, middle - self._loss(x - moved))
        return min(sides) <= h * float(self._gradient @ direction) <= max(sides)

    def all(self) -> Iterator[Number]:
        """Yield all of them, those that say most first."""
        remark = "; ".join(self._remarks)
        evidence = self.evidence if self._reference is None else None
        for each in (self.own_complex_step(), self.differences(), self.projections()):
            if each is not None:
                yield Number(each._replace(remark=remark), evidence=evidence)
        comparison, slope = self.taylor()
        yield Number(comparison, slope, evidence)

    def _loss(self, x: Array) -> float:
        return self._triangle.local.loss(x, self._step)

    def _indices(self) -> Array:
        total = sum(span.stop - span.start for span in self._spans)
        if total <= ELEMENTWISE and not self._exact:
            return np.concatenate([np.arange(span.start, span.stop) for span in self._spans])
        _, found = sampled(self._gradient, self._spans, SAMPLES, seed=self._seed)
        most = max(len(self._spans), BUDGET // (EVALUATIONS * self._triangle.numbers()))
        if len(found) <= most:
            return found
        return np.sort(np.random.default_rng(self._seed).choice(found, most, replace=False))

    @property
    def _exact(self) -> bool:
        """Whether something compares the elements that is more exact than differences."""
        return self._reference is not None or self._complex is not None

    def _judged(self, indices: Array, findings: Sequence[Finding]) -> Comparison:
        size = len(self._parameters)
        wanted, tolerance = self._gradient.copy(), np.zeros(size)
        compared = np.zeros(size, bool)
        verdicts = []
        scales = self._scales()
        for index, finding in zip(indices.tolist(), findings, strict=True):
            scale = scales[self._tensor(index)]
            own, limit, verdict = _wanted(finding, float(self._gradient[index]), scale)
            verdicts.append(verdict)
            if verdict is not Verdict.INCONCLUSIVE:
                wanted[index], tolerance[index] = own, limit + float(self._bound[index])
                compared[index] = True
        if self._known is None:
            self._known = np.where(compared, wanted, 0.0)[None], compared
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
        if self._exact and found.compared:  # what differences leave open is known from elsewhere
            verdicts = [each for each in verdicts if each is not Verdict.INCONCLUSIVE]
        overall = worst([found.verdict, *verdicts])
        return found._replace(verdict=overall, note=note)

    def _scales(self) -> dict[str, float]:
        """Return by tensor what certainty is measured by: its largest element.

        Where that is 0 but for rounding, as of biases before a batch norm, the largest of all.
        """
        overall = float(np.abs(self._gradient).max(initial=0))
        found = {}
        for tensor in self._triangle.tensors:
            own = slice(tensor.start, tensor.stop)
            size = float(np.abs(self._gradient[own]).max(initial=0))
            zero = max(self._rounding, float(self._bound[own].max(initial=0)))
            found[tensor.name] = size if size > zero else overall
        return found

    def _tensor(self, index: int) -> str:
        return next(t.name for t in self._triangle.tensors if t.start <= index < t.stop)


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
    triangle: Triangle, parameters: Array, step: int, where: str, seed: int, part: int
) -> Iterator[Number]:
    """Yield all numerical comparisons of a point and a minibatch, the ``part``-th of a check."""
    own = Numbers(triangle, parameters, step, where, seed, part)
    yield from own.all()
