"""The complex step through a network of the user's own, if its code can do that.

Nobody asked the code to be made for complex numbers. It is where the imaginary part of the loss is
the derivative along a random direction, as differences have it: an absolute value, a conjugation
or a cast to real numbers in it, or weights that it has kept elsewhere too, give another.
"""

import warnings
from collections.abc import Sequence
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

    def agrees(self, slope: Slope) -> bool:
        """Return whether the derivative is that which differences have found."""
        found = self.slopes(slope.direction)
        if found is None:
            return False
        return bool(abs(found.sum() - slope.value) <= slope.error + AGREE * abs(slope.value))

    def oracle(self) -> Oracle:
        """Return what finds derivatives along directions, with no error but rounding."""

        def slope(direction: Array) -> Slope:
            found = self.slopes(direction)
            return Slope(np.nan if found is None else float(found.sum()), 0.0, direction)

        return slope

    def gradients(self, indices: Sequence[int]) -> Array | None:
        """Return every shard's part of the gradient at some elements, ``(shards, size)``, else 0.

        None where the code fails on the way.
        """
        found = spread(self._elements, indices, usable_cores())
        if found is None:
            return None
        gradients = np.zeros((found.shape[1], len(self._parameters)))
        gradients[:, list(indices)] = found.T
        return gradients

    def _elements(self, indices: Sequence[int]) -> Array | None:
        """Return every shard's part of the derivatives by some elements, ``(elements, shards)``."""
        found = []
        moved = self._parameters.astype(complex)
        for index in indices:
            moved.imag[index] = STEP
            one = self._moved(moved)
            if one is None:
                return None
            found.append(one)
            moved.imag[index] = 0
        return np.array(found)
