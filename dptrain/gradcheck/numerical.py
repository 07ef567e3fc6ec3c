"""The analytic gradient against numbers that are made of the loss alone."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.oracles.kinks import Finding, white_box
from dptrain.gradcheck.oracles.projections import by_complex_step
from dptrain.gradcheck.oracles.taylor import Taylor
from dptrain.gradcheck.own_numbers import OwnNumbers
from dptrain.gradcheck.pointwise import Number, Numbers
from dptrain.gradcheck.reference.network import Reference

Array = NDArray[Any]


def numbers(
    triangle: Triangle, parameters: Array, step: int, where: str, seed: int, part: int
) -> Iterator[Number]:
    """Yield all numerical comparisons of a point and a minibatch, the ``part``-th of a check."""
    reference = triangle.reference(step)
    if reference is None:
        own: Numbers = OwnNumbers(triangle, parameters, step, where, seed, part)
    else:
        own = WithFormulas(triangle, parameters, step, where, seed, reference)
    yield from own.all()


class WithFormulas(Numbers):
    """Those of a network whose formulas are known: they tell its kinks, and bound its rounding."""

    edge = "analytic"

    def __init__(
        self,
        triangle: Triangle,
        parameters: Array,
        step: int,
        where: str,
        seed: int,
        reference: Reference,
    ) -> None:
        """Begin."""
        super().__init__(triangle, parameters, step, where, seed)
        self._reference = reference
        expected = triangle.expected(parameters, step)
        assert expected is not None
        self.bounds = expected.bound + triangle.coarse(expected)
        self.noise = expected.loss_bound
        self.oracle = by_complex_step(reference, self.parameters)

    def all(self) -> Iterator[Number]:
        """Yield all of them, those that say most first."""
        yield Number(self.differences())
        yield Number(self.projections())
        yield Number(*self.taylor())

    def findings(self, indices: Array) -> list[Finding]:
        """Return what the loss is like along some elements."""

        def branched(x: Array) -> tuple[float, list[bytes]]:
            return self.loss(x), self._reference.value(x)[1]

        return white_box(branched, self.parameters, indices, self.noise)

    def kinked(self, found: Taylor, direction: Array) -> bool:
        """Return whether the points from which a slope comes lie beyond a kink."""
        h = min((point.h for point in found.points if point.fitted), default=0.0)
        x, moved = self.parameters, h * direction
        here = self._reference.value(x)[1]
        return any(self._reference.value(y)[1] != here for y in (x + moved, x - moved))
