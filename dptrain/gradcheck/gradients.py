"""The triangle: distributed, analytic and numerical gradients of the same steps."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import LOSS, Comparison, compare
from dptrain.gradcheck.diagnosis import Diagnosis, Mistake
from dptrain.gradcheck.distributed import Step, Way, gradient_of
from dptrain.gradcheck.forensics import EXACT, UNEXPLAINED, diagnose
from dptrain.gradcheck.hypotheses.areas import areas
from dptrain.gradcheck.hypotheses.buffers import stale_buffers
from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis, Past
from dptrain.gradcheck.hypotheses.fits import least_squares
from dptrain.gradcheck.hypotheses.known import of_layers, times
from dptrain.gradcheck.hypotheses.orders import bounds_of
from dptrain.gradcheck.hypotheses.scopes import Known
from dptrain.gradcheck.masks import check_masks
from dptrain.gradcheck.oracles.complex_step import complex_step
from dptrain.gradcheck.recomputed import Recomputed
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Gradient, Reference
from dptrain.gradcheck.reference.places import couples_rows, leaves
from dptrain.gradcheck.report import Failure
from dptrain.gradcheck.truncation import first_fault, of_loss, with_fault
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn.dropout import Dropout
from dptrain.nn.network import Network
from dptrain.nn.numerical import STEP as DIFFERENCE

Array = NDArray[Any]

# Of the largest element: what the notes' differences, with a fixed step of 1e-4, are trusted for.
NUMERICAL = 1e-5
# Numbers that the complex step may compute: more elements than that allows are sampled. Where rows
# depend on each other, an element takes a whole forward pass, as long as so many numbers.
BUDGET, PASS = 1_000_000_000, 1_000_000
# A gradient in the job's dtype and a prediction in double precision: how many roundings apart.
ROUNDINGS = 16

DIFFERENCES = Diagnosis(
    "difference-quotient",
    "the differences that the gradient is made of are not those of the loss",
    0.0,
)


class Triangle:
    """A job in this process: what its gradients should be, and why one is not.

    Attributes:
        local: the job in this process.
        tensors: those that are trained.
        epsilon: in the logarithm of a loss of the user's own, once that is known; otherwise 0.
    """

    def __init__(self, local: Local) -> None:
        self.local = local
        self.job = local.job
        self.epsilon = 0.0
        self.unit = UNITS[self.job.dtype.name]
        self.tensors = [t for t in self.job.network.all_tensors() if t.trained]
        self._references: dict[int, Reference | None] = {}
        self._last: tuple[int, Array, Gradient] | None = None

    def reference(self, step: int) -> Reference | None:
        """Return the formulas of a step's rows."""
        if step not in self._references:
            self._references[step] = self.local.reference(step)
        return self._references[step]

    def expected(self, parameters: Array, step: int) -> Gradient | None:
        """Return what the formulas give, with bounds for the job's dtype."""
        reference = self.reference(step)
        if reference is None:
            return None
        if self._last is None or self._last[0] != step or self._last[1] is not parameters:
            found = reference.gradient(parameters.astype(float), self.unit)
            self._last = step, parameters, found
        return self._last[2]

    def affordable(self) -> int:
        """Return of how many elements the complex step can be computed in a few seconds."""
        network = self.job.network
        assert isinstance(network, Network)
        return BUDGET // (self.numbers() + (PASS if couples_rows(network.row) else 0))

    def numbers(self) -> int:
        """Return how many numbers a forward pass computes."""
        network = self.job.network
        if not isinstance(network, Network):
            return self.job.batch_size * network.size
        return self.job.batch_size * sum(math.prod(shape) for shape in network.shapes)

    def against_formulas(self, parameters: Array, step: int, where: str) -> Iterator[Comparison]:
        """Compare loss and gradient of this process with the formulas, element by element."""
        expected = self.expected(parameters, step)
        if expected is None:
            return
        found = self.local.analytic(parameters, step)
        bound = self._rounding * expected.loss_bound
        yield _losses("loss = formulas", "analytic", where, found.loss, expected.loss, bound)
        yield self._with_formulas("analytic", "analytic", where, found.gradient, expected)

    @property
    def _rounding(self) -> float:
        """By how much a bound is exceeded because the formulas are computed in float64 too."""
        return 1 + UNITS["float64"] / self.unit

    def _with_formulas(
        self, what: str, edge: str, where: str, found: Array, expected: Gradient
    ) -> Comparison:
        room = self._rounding * expected.bound + self.coarse(expected)
        name, plain = f"{what} = formulas", found.astype(float)
        return compare(name, edge, where, self.tensors, plain, expected.total, room)

    def coarse(self, expected: Gradient) -> Array | float:
        """Return what a gradient by differences may be off by beside rounding; otherwise 0."""
        if self.job.experiment.gradient != "numerical":
            return 0.0
        rounded = float(np.max(expected.loss_bound)) / DIFFERENCE  # of both losses
        return NUMERICAL * float(np.abs(expected.total).max()) + rounded

    def against_complex_step(
        self, parameters: Array, step: int, where: str, indices: Array
    ) -> Iterator[Comparison]:
        """Compare the gradient of this process with the complex step, at some elements."""
        reference, expected = self.reference(step), self.expected(parameters, step)
        if reference is None or expected is None:
            return
        found = self.local.analytic(parameters, step).gradient.astype(float)
        wanted = np.zeros(len(found))
        wanted[indices] = complex_step(reference, parameters.astype(float), indices)
        compared = np.zeros(len(found), bool)
        compared[indices] = True
        room = 2 * expected.bound + self.coarse(expected)
        name, edge = "analytic = complex step", "analytic"
        yield compare(name, edge, where, self.tensors, found, wanted, room, compared)

    def against_processes(self, step: Step, where: str) -> Iterator[Comparison]:
        """Compare what workers came to with this process, bit by bit, and with the formulas."""
        own = self.local.analytic(step.before.parameters, step.number)
        found = gradient_of(step)
        name, edge = "distributed = analytic", "distributed"
        same = compare(name, edge, where, self.tensors, found, own.gradient, 0.0)
        yield same
        expected = self.expected(step.before.parameters, step.number)
        if expected is not None:
            edge = "analytic" if same.verdict is Verdict.PASS else edge
            yield self._with_formulas("distributed", edge, where, found, expected)
        yield _losses("reported loss = loss", "reported", where, step.loss, own.loss, 0.0)

    def failure(
        self,
        comparison: Comparison,
        found: Array,
        parameters: Array,
        number: int,
        workers: int,
        before: Sequence[Step] = (),
        *,
        step: Step | None = None,
        exchange: str = "inline",
    ) -> Failure:
        """Return what a wrong gradient is put down to.

        Args:
            comparison: that failed.
            found: the wrong gradient.
            parameters: at which it was computed.
            number: of the step.
            workers: that computed it.
            before: the steps before, of the same run.
            step: the one that is wrong, where it is a step of a run.
            exchange: of the run.
        """
        reference = self.reference(number)
        if reference is None:
            return Failure(comparison, ())
        if comparison.edge == "analytic":
            evidence = self._evidence(reference, found, parameters)
            diagnoses = self._of_one_process(reference, evidence, parameters)
        else:
            evidence = self._evidence(reference, found, parameters, workers, before, exchange)
            diagnoses = []
            if step is not None:
                run = [*before, step]
                diagnoses = stale_buffers(run, evidence.wrong, moved_rightly=False)
            diagnoses = diagnoses or self._of_workers(reference, evidence)
        weights = least_squares(evidence, evidence.shards)
        if weights is None or evidence.residual(weights @ evidence.shards) >= 1e-6:
            weights = np.empty(0)
        return Failure(
            comparison,
            diagnoses,
            tuple(map(float, weights)) if evidence.wrong.any() else (),
            evidence.found,
            evidence.right,
            self.tensors,
        )

    def _of_one_process(
        self, reference: Reference, evidence: Evidence, parameters: Array
    ) -> list[Diagnosis]:
        """Return why the gradient of one process is not that of the formulas."""
        numerical = self.job.experiment.gradient == "numerical"
        fault = first_fault(self.job, reference, parameters, backward=not numerical)
        if numerical and fault is None:
            fault = DIFFERENCES
        expected = self.expected(parameters, reference.batch.step)
        assert expected is not None
        again = self._with_formulas("", "", "", evidence.found, expected)
        if again.verdict is not Verdict.FAIL or (numerical and fault is not None):
            return [of_loss(fault)]  # the gradient tells nothing
        rows = sum(evidence.sizes)
        sentence = f"1/N is missing: the loss is summed over the {rows} rows"
        where = inputs_changed(evidence)
        if fault is not None:
            predicted = evidence.found + fault.residual * (evidence.found - evidence.right)
            where = [Hypothesis(fault.kind, fault.sentence, predicted, placed=True)]
        more: Iterable[Known | Hypothesis] = chain(
            [Known(Mistake("missing-mean", sentence, times(rows)))],
            of_layers(reference, evidence.ranks, self.job.steps_per_epoch),
            where,
        )
        found = diagnose(evidence, more, more_first=True, exact=self._exact)
        masks = self._wrong_masks() if found[0].kind == UNEXPLAINED else []
        return with_fault(fault, [*masks, *found])

    def _wrong_masks(self) -> list[Diagnosis]:
        """Return what is wrong with the masks of dropout as this process draws them."""
        found = check_masks(self.job, Way("inline", 1))
        wrong = (each for each in found if each.verdict is Verdict.FAIL)
        return [Diagnosis("dropout-masks", f"the masks are wrong. {c.note}", 0.0) for c in wrong]

    def _of_workers(self, reference: Reference, evidence: Evidence) -> list[Diagnosis]:
        """Return why the gradient of workers is not that of one process."""
        expected = reference.gradient(np.asarray(evidence.parameters), self.unit).total
        sentence = "the workers' gradient is that of the formulas; what is wrong is this process's"
        more: Iterable[Known | Hypothesis] = chain(
            [Hypothesis("analytic", f"{sentence} own", expected)],
            of_layers(reference, evidence.ranks, self.job.steps_per_epoch),
            inputs_changed(evidence),
        )
        return diagnose(evidence, more, exact=self._exact)

    @property
    def _exact(self) -> float:
        """What a prediction in double precision may leave of a gradient in the job's dtype."""
        return max(EXACT, ROUNDINGS * self.unit)

    def _evidence(
        self,
        reference: Reference,
        found: Array,
        parameters: Array,
        workers: int = 1,
        before: Sequence[Step] = (),
        exchange: str | None = None,
    ) -> Evidence:
        """Return what a diagnosis begins with.

        Of workers, this process is right, bit by bit; without an ``exchange``, the formulas are.
        """
        local, plain, number = self.local, parameters.astype(float), reference.batch.step
        again = Recomputed(local, reference, plain, number, trusted=exchange is not None)
        row = reference.network.row
        # where a row's part of the gradient depends on its shard, none can be computed alone
        alone = not couples_rows(row) and not any(
            isinstance(layer, Dropout) for _, _, layer in leaves(row)
        )
        formulas = reference.gradient(plain, self.unit)
        evidence = Evidence(
            self.tensors,
            found.astype(float),
            formulas.total,
            formulas.shards,
            reference.batch.sizes,
            tuple(bounds_of(self.job.shards, workers)),
            self.job.batch_size,
            parts=again.shards,
            labelled=cache(again.labelled) if alone else None,
            rows=cache(again.rows) if alone else None,
            step=number,
            parameters=plain,
        )
        if exchange is None:
            return evidence
        network, seed = self.job.network, self.job.experiment.seed
        seeds = {*range(workers), *range(seed, seed + workers)}
        weights = [(each.before.parameters, each.number) for each in before]
        return replace(
            evidence,
            right=local.analytic(parameters, number).gradient.astype(float),
            shards=local.shards(parameters, number).astype(float),
            past=[Past(w.astype(float), local.shards(w, n).astype(float)) for w, n in weights],
            drawn={s: network.initial_parameters(s, self.job.dtype).astype(float) for s in seeds},
            areas=areas(self.job, exchange, workers),
            bitwise=True,
        )


def inputs_changed(evidence: Evidence) -> list[Hypothesis]:
    """Say so where only some tensors of the first layer are wrong: its inputs were overwritten.

    Not where what is wrong lies in some of the parts alone into which the exchange cuts the vector.
    """
    first = evidence.tensors[0].name.rpartition(".")[0]
    own = [t.name.rpartition(".")[0] == first for t in evidence.tensors]
    wrong = list(map(evidence.is_wrong, evidence.tensors))
    parts = [evidence.wrong[area.start : area.stop].any() for area in evidence.areas]
    others = any(w and not o for w, o in zip(wrong, own, strict=True))
    if others or not any(wrong) or all(wrong[: sum(own)]) or not all(parts):
        return []
    # a little of the difference is left, so that what explains all of it comes first
    predicted = evidence.found * (1 + 1e-6)
    sentence = f"{first}: its inputs have changed between the two passes"
    return [Hypothesis("race", sentence, predicted, placed=True)]


def _losses(
    name: str, edge: str, where: str, found: float, wanted: float, tolerance: float
) -> Comparison:
    return compare(name, edge, where, [LOSS], np.array([found]), np.array([wanted]), tolerance)
