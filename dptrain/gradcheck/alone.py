"""The gradients of this process alone, against formulas and numbers."""

from collections.abc import Iterable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.numerical import with_formulas
from dptrain.gradcheck.own_code import OwnCode, narrow, widened
from dptrain.gradcheck.own_numbers import OwnNumbers
from dptrain.gradcheck.report import Failure, Found, known
from dptrain.gradcheck.subject import STEPS, Dtype, Subject, first_step, is_own

Array = NDArray[Any]

# So many elements the complex step compares one by one, where formulas compare all of them.
ELEMENTS = 400


class Alone:
    """What of a check needs no other process."""

    def __init__(self, subject: Subject, points: Mapping[str, Array], workers: int) -> None:
        """Bind.

        Args:
            subject: what is checked.
            points: weights at which to check, flat float64, by name.
            workers: among which a diagnosis would spread the shards.
        """
        self._subject = subject
        self._points = points
        self._workers = workers
        self._triangle = cache(lambda dtype: Triangle(Local(subject.job(dtype))))

    def checked(self, dtype: Dtype, point: str) -> Found:
        """This process's gradients, against formulas and numbers."""
        triangle = self._triangle(dtype)
        parameters = self._points[point].astype(dtype)
        first, turns = first_step(point), list(self._points).index(point)
        about = self._of_own if is_own(triangle.job) else self._of_layers
        for step in range(first, first + STEPS):
            where = f"{dtype}, {point} weights, minibatch {step}"
            # numbers need float64, and take longer: a full minibatch and the last are enough
            turn, rest = divmod(step - first, 2)
            part = None if rest or dtype != "float64" else turns * STEPS // 2 + turn
            yield from about(triangle, parameters, step, where, part)

    def _of_layers(
        self, triangle: Triangle, parameters: Array, step: int, where: str, part: int | None
    ) -> Found:
        """Compare a network of layers; ``part`` counts the minibatches of numbers, if these are."""

        def failure(comparison: Comparison) -> Failure:
            found = triangle.local.analytic(parameters, step).gradient
            return triangle.failure(comparison, found, parameters, step, self._workers)

        def explained(comparisons: Iterable[Comparison]) -> Found:
            return ((each, partial(failure, each)) for each in comparisons)

        yield from explained(triangle.against_formulas(parameters, step, where))
        if part is not None:
            chosen = self._indices(triangle)
            yield from explained(triangle.against_complex_step(parameters, step, where, chosen))
            numbers = with_formulas(triangle, parameters, step, where, self._subject.seed)
            yield from explained(numbers.all())

    def _of_own(
        self, triangle: Triangle, parameters: Array, step: int, where: str, part: int | None
    ) -> Found:
        """Compare a network of the user's own; ``part`` as of `_of_layers`."""
        seed = self._subject.seed
        few = narrow(triangle.job)
        wide = self._wide() if few else None
        exact = wide or self._triangle("float64")
        code = OwnCode(triangle.local, parameters, step, where)
        yield from known(code.all())
        if triangle is not exact:
            yield from known([code.in_float32(exact.local, seed)])
        if part is None:
            return
        how = "the code takes no others" if wide is None else "numbers are made with float64 copies"
        told = f"params are float32 ({', '.join(few)}): {how}" if few else ""
        numbers = OwnNumbers(wide or triangle, parameters, step, where, seed, part, told)
        for comparison in numbers.all():
            yield comparison, partial(numbers.failure, comparison)

    @cache  # noqa: B019 - lives as long as the check
    def _wide(self) -> Triangle | None:
        """Return the float64 job with float64 arrays, where ``params`` has others."""
        job = widened(self._triangle("float64").job)
        return None if job is None else Triangle(Local(job))

    def _indices(self, triangle: Triangle) -> Array:
        """Return which elements the complex step compares: of each tensor some, drawn at random."""
        spans = [np.arange(t.start, t.stop) for t in triangle.tensors]
        random = np.random.default_rng(self._subject.seed)
        most = max(1, min(ELEMENTS, triangle.affordable()) // len(spans))
        chosen = [random.choice(own, min(len(own), most), replace=False) for own in spans]
        return np.sort(np.concatenate(chosen))
