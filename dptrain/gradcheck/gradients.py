"""The triangle: distributed, analytic and numerical gradients of the same steps."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.shards import assign
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import LOSS, Comparison, compare
from dptrain.gradcheck.diagnosis import Diagnosis, times
from dptrain.gradcheck.distributed import Step, gradient_of
from dptrain.gradcheck.forensics import EXACT, diagnose, fit
from dptrain.gradcheck.hypotheses import layers, unweighed, visits
from dptrain.gradcheck.hypotheses.areas import areas
from dptrain.gradcheck.hypotheses.buffers import stale_buffers
from dptrain.gradcheck.hypotheses.evidence import WRONG, Evidence, Hypothesis, Past
from dptrain.gradcheck.hypotheses.place import located
from dptrain.gradcheck.oracles.complex_step import complex_step
from dptrain.gradcheck.reference.bounded import UNITS
from dptrain.gradcheck.reference.network import Gradient, Reference
from dptrain.gradcheck.reference.places import couples_rows, leaves
from dptrain.gradcheck.report import Failure
from dptrain.gradcheck.rows import Rows
from dptrain.gradcheck.truncation import Fault, first_fault, of_loss, with_fault
from dptrain.gradcheck.updates.rates import learning_rate
from dptrain.gradcheck.updates.textbook import Textbook
from dptrain.gradcheck.variations import augmented_otherwise
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

DIFFERENCES = Fault(
    "difference-quotient",
    "the differences that the gradient is made of are not those of the loss",
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
        return compare(
            f"{what} = formulas",
            edge,
            where,
            self.tensors,
            found.astype(float),
            expected.total,
            self._rounding * expected.bound + self.coarse(expected),
        )

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
        yield compare(
            "analytic = complex step",
            "analytic",
            where,
            self.tensors,
            found,
            wanted,
            2 * expected.bound + self.coarse(expected),
            compared,
        )

    def against_processes(self, step: Step, where: str) -> Iterator[Comparison]:
        """Compare what workers came to with this process, bit by bit, and with the formulas."""
        own = self.local.analytic(step.before.parameters, step.number)
        found = gradient_of(step)
        same = compare(
            "distributed = analytic",
            "distributed",
            where,
            self.tensors,
            found,
            own.gradient,
            0.0,
        )
        yield same
        expected = self.expected(step.before.parameters, step.number)
        if expected is not None:
            edge = "analytic" if same.verdict is Verdict.PASS else "distributed"
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
        exact = comparison.edge != "analytic"
        evidence = self.evidence(
            found, parameters, number, workers, before, exact=exact, exchange=exchange
        )
        if evidence is None:
            return Failure(comparison, ())
        if step is not None:
            if kept := self._kept_scaled(step, evidence):
                return Failure(comparison, [kept], (), evidence.found, evidence.right, self.tensors)
            moved_rightly = self._moved_rightly(step, evidence)
            if stale := stale_buffers([*before, step], evidence.wrong, moved_rightly=moved_rightly):
                return Failure(comparison, stale, (), evidence.found, evidence.right, self.tensors)
        reference = self.reference(number)
        assert reference is not None
        fault = None
        if not exact:
            numerical = self.job.experiment.gradient == "numerical"
            fault = first_fault(self.job, reference, parameters, backward=not numerical)
            if numerical and fault is None:
                fault = DIFFERENCES
            if self._is_right(found, parameters, number) or (numerical and fault is not None):
                return Failure(comparison, [of_loss(fault)])
        plain = parameters.astype(float)
        wrong_layers = layers.hypotheses(
            reference,
            plain,
            evidence.ranks,
            self.job.steps_per_epoch,
            evidence.shards if exact else None,
        )
        weights = fit(evidence)
        explained = weights.weights if weights.residual < 1e-6 else ()
        if fault is not None:
            # a little of the difference is left, so that what explains all of it comes first
            predicted = evidence.found + 0.01 * (evidence.found - evidence.right)
            where = [Hypothesis(fault.kind, fault.sentence, predicted, placed=True)]
        else:
            where = [h for h in located(reference, evidence) if not exact or _may_be(h, evidence)]
        ignored = unweighed.hypotheses(reference, plain, evidence.ranks)
        more: Iterable[Hypothesis] = chain(ignored, wrong_layers, where)
        if exact:
            visited = visits.hypotheses(self.job, reference, plain, number, evidence.ranks)
            more = chain(self._formulas(parameters, number), more, visited)
        else:  # one process has no ranks to sum over
            more = chain(more, [_summed(evidence)])
        diagnoses = diagnose(evidence, more, more_first=not exact, exact=self._exact)
        return Failure(
            comparison,
            with_fault(fault, diagnoses),
            explained,
            evidence.found,
            evidence.right,
            self.tensors,
        )

    def _is_right(self, found: Array, parameters: Array, number: int) -> bool:
        """Return whether a gradient is that of the formulas, so that it tells nothing."""
        expected = self.expected(parameters, number)
        assert expected is not None
        compared = self._with_formulas("", "", "", found, expected)
        return compared.verdict is not Verdict.FAIL

    def _formulas(self, parameters: Array, number: int) -> Iterator[Hypothesis]:
        """Workers are right, and this process is not."""
        expected = self.expected(parameters, number)
        if expected is not None:
            sentence = (
                "the workers' gradient is that of the formulas; what is wrong is this process's own"
            )
            yield Hypothesis("analytic", sentence, expected.total)

    @property
    def _exact(self) -> float:
        """What a prediction in double precision may leave of a gradient in the job's dtype."""
        return max(EXACT, ROUNDINGS * self.unit)

    def _kept_scaled(self, step: Step, evidence: Evidence) -> Diagnosis | None:
        """Say so where the weights move by the right gradient, but its multiple is kept."""
        known = evidence.scale > 0
        found, right = evidence.found[known], evidence.right[known]
        if not right.any() or not np.isfinite(found).all() or not found.any():
            return None
        factor = float(found @ right / (right @ right))
        off = np.linalg.norm(found - factor * right)
        multiple = abs(factor - 1) > WRONG and off <= self._exact * np.linalg.norm(found)
        if not multiple or not self._moved_rightly(step, evidence):
            return None
        rate = float(learning_rate(self.job, step.number).value)
        named = ": the learning rate" if math.isclose(factor, rate, rel_tol=1e-6) else ""
        sentence = (
            "the weights move by the right gradient, but the velocity that is kept has "
            f"{times(factor)} it{named}"
        )
        return Diagnosis("velocity-rate", sentence, 0.0)

    def _moved_rightly(self, step: Step, evidence: Evidence) -> bool:
        """Return whether a step's weights moved as the right gradient demands."""
        book = Textbook(self.job, slots=step.before.slots)
        change = book.step(step.number, step.before.parameters, evidence.right).change
        found = np.subtract(step.after.parameters, step.before.parameters, dtype=float)
        room = 4 * np.asarray(change.error)  # as of an update
        return bool((np.abs(found - change.value) <= room)[evidence.wrong].all())

    def _drawn(self, workers: int) -> dict[int, Array]:
        network, seed = self.job.network, self.job.experiment.seed
        seeds = {*range(workers), *range(seed, seed + workers)}
        return {s: network.initial_parameters(s, self.job.dtype).astype(float) for s in seeds}

    def evidence(
        self,
        found: Array,
        parameters: Array,
        number: int,
        workers: int,
        before: Sequence[Step] = (),
        *,
        exact: bool = True,
        exchange: str = "inline",
    ) -> Evidence | None:
        """Return what a diagnosis begins with; None where there are no formulas.

        With ``exact`` the right gradient is this process's own, bit by bit, otherwise that of the
        formulas.
        """
        reference = self.reference(number)
        if reference is None:
            return None
        # one process is one rank, whatever a run would have
        ranks = assign(self.job.shards, workers if exact else 1)
        local, plain = self.local, parameters.astype(float)
        if exact:
            shards = local.shards(parameters, number).astype(float)
            right = local.analytic(parameters, number).gradient.astype(float)
        else:
            formulas = reference.gradient(plain, self.unit)
            shards, right = formulas.shards, formulas.total
        alone = None if _by_shard(reference) else Rows(self.job, reference, plain, number)
        past = []
        for step in before:
            weights = step.before.parameters
            earlier = local.shards(weights, step.number).astype(float)
            parts = [earlier[low:high].sum(axis=0) for low, high in ranks]
            past.append(Past(weights.astype(float), earlier.sum(axis=0), parts))
        return Evidence(
            self.tensors,
            found.astype(float),
            right,
            shards,
            reference.batch.sizes,
            ranks,
            self.job.batch_size,
            past,
            # the code of this process tells nothing where it is what is wrong
            (lambda w: local.shards(w, number).astype(float)) if exact else None,
            lambda change: _relabelled(reference, change, plain, self.unit),
            None if alone is None else cache(alone.labelled),
            self._drawn(workers),
            None if alone is None else cache(alone.rows),
            areas=areas(self.job, exchange, workers),
            bitwise=exact,
            step=number,
            elsewhere=(lambda k: local.shards(parameters, k).astype(float)) if exact else None,
            augmented=partial(augmented_otherwise, self.job, parameters, number)
            if self.job.augmentation
            else None,
            parameters=plain,
            memory={"the weights": plain},
        )


def _relabelled(reference: Reference, change: Any, parameters: Array, unit: float) -> Array:
    other = reference.batch._replace(targets=[change(t) for t in reference.batch.targets])
    return Reference(reference.network, reference.loss, other).gradient(parameters, unit).shards


def _summed(evidence: Evidence) -> Hypothesis:
    rows = sum(evidence.sizes)
    what = f"1/N is missing: the loss is summed over the {rows} rows"
    return Hypothesis("missing-mean", what, rows * evidence.right)


def _may_be(located: Hypothesis, evidence: Evidence) -> bool:
    """Return whether workers can have this: not where what is wrong is a part that one updates."""
    parts = [evidence.wrong[area.start : area.stop].any() for area in evidence.areas]
    return located.kind == "race" and all(parts)


def _by_shard(reference: Reference) -> bool:
    """Return whether a row's part of the gradient depends on the shard that it is in."""
    row = reference.network.row
    dropout = any(isinstance(layer, Dropout) for _, _, layer in leaves(row))
    return dropout or couples_rows(row)


def _losses(
    name: str, edge: str, where: str, found: float, wanted: float, tolerance: float
) -> Comparison:
    return compare(name, edge, where, [LOSS], np.array([found]), np.array([wanted]), tolerance)
