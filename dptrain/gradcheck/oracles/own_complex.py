"""The complex step through a network of the user's own, if its code can do that.

Nobody asked the code to be made for complex numbers. It is where the imaginary part of the loss is
the derivative along random directions, as differences have it: an absolute value, a conjugation
or a cast to real numbers in it, or weights that it has kept elsewhere too, give another.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.oracles.complex_step import STEP
from dptrain.gradcheck.oracles.projections import Oracle, Slope
from dptrain.gradcheck.oracles.spread import spread
from dptrain.machine.cores import usable_cores

Array = NDArray[Any]

# How far the derivatives by both ways may be apart, beside what the differences themselves err.
AGREE = 1e-6
# Differences that err by more than this part of the derivative know nothing.
UNSURE = 1e-2


class OwnComplexStep:
    """Derivatives of a network of the user's own at some weights, for the rows of a step."""

    def __init__(self, local: Local, parameters: Array, step: int) -> None:
        self._local = local
        self._parameters = parameters
        self._step = step

    def slopes(self, direction: Array) -> Array | None:
        """Return every shard's part of the derivative along a direction.

        None where the code cannot do that.
        """
        return self._moved(self._parameters + 1j * STEP * direction)

    def _moved(self, parameters: Array) -> Array | None:
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                found = self._local.complex_losses(parameters, self._step)
        except Exception:  # noqa: BLE001 - somebody's code, which was written for real numbers
            return None
        slopes: Array = found.imag / STEP
        return slopes

    def agreeing(self, tries: Sequence[Iterable[Array]], differences: Oracle) -> list[Slope] | None:
        """Return derivatives along directions, if they are those that differences find.

        Args:
            tries: directions, for each tensor those that are tried one after the other: where
                kinks are so near that differences tell nothing, or have not found one.
            differences: the oracle.

        Returns:
            Along the first direction of each; None where two of a tensor disagree, where
            differences tell nothing of any, or where the code cannot do that.
        """
        oracle, found, sure = self.oracle(), [], False
        for directions in tries:
            wrong = 0
            for i, direction in enumerate(directions):
                exact = oracle(direction)
                if not np.isfinite(exact.value):
                    return None
                if i == 0:
                    found.append(exact)
                agrees = _agree(exact.value, differences(direction))
                wrong += agrees is False
                sure |= agrees is True
                if agrees or wrong > 1:
                    break
            if wrong > 1:
                return None
        return found if sure else None

    def oracle(self) -> Oracle:
        """Return what finds derivatives along directions, with no error but rounding.

        Where a comparison is tied, such as that of a ReLU at 0, it is that of one side. The
        opposite direction then has another, and nothing is known.
        """

        def slope(direction: Array) -> Slope:
            ahead, back = (self.slopes(sign * direction) for sign in (1, -1))
            if ahead is None or back is None:
                return Slope(np.nan, 0.0, direction)
            a, b = float(ahead.sum()), -float(back.sum())
            tied = abs(a - b) > AGREE * max(abs(a), abs(b))
            return Slope(a, np.inf if tied else 0.0, direction)

        return slope

    def tied(self, indices: Sequence[int], gradient: Array) -> Array:
        """Return of which elements the derivative is another on the other side, as of `oracle`."""
        chosen = np.array(indices, int)
        other = None if not len(chosen) else self.gradients(indices, -1.0)
        if other is None:
            return chosen[:0]
        a, b = gradient[chosen], other.sum(axis=0)[chosen]
        tied: Array = chosen[np.abs(a - b) > AGREE * np.maximum(np.abs(a), np.abs(b))]
        return tied

    def gradients(self, indices: Sequence[int], side: float = 1.0) -> Array | None:
        """Return every shard's part of the gradient at some elements, ``(shards, size)``, else 0.

        None where the code fails on the way. Where a comparison is tied, it is that of one side,
        and with ``side=-1`` that of the other.
        """
        found = spread(lambda some: self._elements(some, side), indices, usable_cores())
        if found is None:
            return None
        gradients = np.zeros((found.shape[1], len(self._parameters)))
        gradients[:, list(indices)] = found.T
        return gradients

    def _elements(self, indices: Sequence[int], side: float) -> Array | None:
        """Return every shard's part of the derivatives by some elements, ``(elements, shards)``."""
        found = []
        moved = self._parameters.astype(complex)
        for index in indices:
            moved.imag[index] = side * STEP
            one = self._moved(moved)
            if one is None:
                return None
            found.append(side * one)
            moved.imag[index] = 0
        return np.array(found)


def _agree(exact: float, slope: Slope) -> bool | None:
    """Return whether a derivative is that of differences; None where they do not know."""
    if not slope.error <= UNSURE * max(abs(exact), abs(slope.value)):
        return None
    return abs(exact - slope.value) <= slope.error + AGREE * abs(slope.value)
