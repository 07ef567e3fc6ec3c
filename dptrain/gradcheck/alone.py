"""The gradients of this process alone, against formulas and numbers."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.forensics import diagnose
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.hypotheses import own
from dptrain.gradcheck.hypotheses.evidence import Evidence
from dptrain.gradcheck.numerical import numbers
from dptrain.gradcheck.own_checks import (
    Checked,
    check_called,
    check_float32,
    check_repeatable,
    check_rows,
    check_state,
)
from dptrain.gradcheck.report import Failure, Report
from dptrain.gradcheck.subject import BURNT_IN, STEPS, TRAINED, Dtype, Subject, is_own
from dptrain.gradcheck.widened import narrow, widened

Array = NDArray[Any]
Found = Iterator[tuple[Comparison, Callable[[], Failure]]]

# What the numbers of a network of the user's own are trusted for in a diagnosis.
OWN_EXACT = 1e-6


class Alone:
    """What of a check needs no other process."""

    def __init__(
        self, subject: Subject, points: Mapping[str, Array], workers: int, report: Report
    ) -> None:
        """Bind.

        Args:
            subject: what is checked.
            points: weights at which to check, flat float64, by name.
            workers: among which a diagnosis would spread the shards.
            report: gets the points of pictures.
        """
        self._subject = subject
        self._points = points
        self._workers = workers
        self._report = report
        self._triangles: dict[Dtype, Triangle] = {}
        self._widened: tuple[Triangle | None] | None = None

    def checked(self, dtype: Dtype, point: str) -> Found:
        """This process's gradients, against formulas and numbers."""
        triangle = self._alone(dtype)
        parameters = self._points[point].astype(dtype)
        first, turns = first_step(point), list(self._points).index(point)
        for step in range(first, first + STEPS):
            where = f"{dtype}, {point} weights, minibatch {step}"
            # numbers need float64, and take longer: a full minibatch and the last are enough
            turn, rest = divmod(step - first, 2)
            part = None if rest or dtype != "float64" else turns * STEPS // 2 + turn
            for comparison, explain in self._about(triangle, parameters, step, where, part):
                yield (
                    comparison,
                    explain
                    or (
                        lambda c=comparison, s=step: triangle.failure(  # type: ignore[misc]
                            c,
                            triangle.local.analytic(parameters, s).gradient,
                            parameters,
                            s,
                            self._workers,
                        )
                    ),
                )

    def _alone(self, dtype: Dtype) -> Triangle:
        """Return the job in this process, the same for all points."""
        if dtype not in self._triangles:
            self._triangles[dtype] = Triangle(Local(self._subject.job(dtype)))
        return self._triangles[dtype]

    def _about(
        self, triangle: Triangle, parameters: Array, step: int, where: str, part: int | None
    ) -> Iterator[tuple[Comparison, Callable[[], Failure] | None]]:
        for comparison in triangle.against_formulas(parameters, step, where):
            yield comparison, None
        if is_own(triangle.job):
            for comparison, diagnoses in self._own(triangle, parameters, step, where):
                yield comparison, partial(Failure, comparison, diagnoses)
        if part is None:
            return
        if not is_own(triangle.job):
            indices = self._indices(triangle)
            for comparison in triangle.against_complex_step(parameters, step, where, indices):
                yield comparison, None
        seed, wide = self._subject.seed, self._wide(triangle)
        told = self._told(triangle)
        found = numbers(wide or triangle, parameters, step, where, seed, part)
        for comparison, slope, evidence in found:
            if told and slope is None:
                remark = "; ".join(filter(None, [told, comparison.remark]))
                comparison = comparison._replace(remark=remark)
            if slope is not None:
                points = [(p.h, p.remainder) for p in slope.points if p.remainder > 0]
                plots = self._report.plots.setdefault("taylor", {})
                plots[where] = (points, slope.slope)
            explain = None if evidence is None else partial(own_failure, comparison, evidence)
            if comparison.diagnoses:
                explain = partial(Failure, comparison, comparison.diagnoses)
            yield comparison, explain

    def _own(self, triangle: Triangle, parameters: Array, step: int, where: str) -> Checked:
        yield from check_repeatable(triangle.local, parameters, step, where)
        yield from check_called(triangle.local, parameters, step, where)
        yield from check_state(triangle.local, parameters, step, where)
        if triangle.job.dtype == np.float64:
            yield from check_rows(triangle.local, parameters, step, where)
        exact = self._alone("float64")
        exact = self._wide(exact) or exact
        if triangle is not exact:
            weights, seed = parameters.astype("float32"), self._subject.seed
            yield from check_float32(triangle.local, exact.local, weights, step, where, seed)

    def _wide(self, triangle: Triangle) -> Triangle | None:
        """Return the float64 job with float64 arrays, where ``params`` has others."""
        if not is_own(triangle.job) or not narrow(triangle.job):
            return None
        if self._widened is None:
            job = widened(self._alone("float64").job)
            self._widened = (None if job is None else Triangle(Local(job)),)
        return self._widened[0]

    def _told(self, triangle: Triangle) -> str:
        """Return what is said of ``params`` that are not float64."""
        few = narrow(triangle.job) if is_own(triangle.job) else []
        if not few:
            return ""
        wide = self._wide(triangle) is not None
        how = "numbers are made with float64 copies" if wide else "the code takes no others"
        return f"params are float32 ({', '.join(few)}): {how}"

    def _indices(self, triangle: Triangle) -> Array:
        spans = [np.arange(t.start, t.stop) for t in triangle.tensors]
        everything = np.concatenate(spans)
        affordable = triangle.affordable()
        if len(everything) <= affordable:
            return everything
        random = np.random.default_rng(self._subject.seed)
        most = max(1, affordable // len(spans))
        chosen = [random.choice(own, min(len(own), most), replace=False) for own in spans]
        return np.sort(np.concatenate(chosen))


def first_step(point: str) -> int:
    """Return the step of the run at which weights are checked: those trained go on from there."""
    return BURNT_IN if point == TRAINED else 0


def own_failure(comparison: Comparison, known: Callable[[], Evidence]) -> Failure:
    """Return what a wrong gradient of a network of the user's own is put down to."""
    evidence = known()
    return Failure(
        comparison,
        diagnose(
            evidence,
            own.hypotheses(evidence, comparison.tensors),
            more_first=True,
            exact=OWN_EXACT,
        ),
        (),
        evidence.found,
        evidence.right,
        evidence.tensors,
    )
