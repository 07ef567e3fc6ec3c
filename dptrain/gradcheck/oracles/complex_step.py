"""The complex step: ``g = Im L(θ + i h e) / h`` with h = 1e-200, exact to rounding.

Nothing cancels, because the imaginary parts are so small that no product of two of them exists,
and the real parts never move, so that no kink is crossed (Squire and Trapp 1998; Martins, Sturdza
and Alonso 2003, "The complex-step derivative approximation"). The value at a kink itself is not
tested: there the formula takes the side that the real part is on.

It is computed on the reference's formulas, or through code of the user's own.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.oracles.projections import Oracle, Slope
from dptrain.gradcheck.reference.network import Reference

Array = NDArray[Any]

STEP = 1e-200
# How far the derivatives by both ways may be apart, beside what the differences themselves err.
AGREE = 1e-6
# Differences that err by more than this part of the derivative know nothing.
UNSURE = 1e-2


def complex_step(reference: Reference, parameters: Array, indices: Array) -> Array:
    """Return the derivative by each of some elements, ``(len(indices),)``.

    Args:
        reference: the formulas, of one minibatch.
        parameters: flat ``(size,)`` float64.
        indices: places in the flat vector.
    """
    moved, found = parameters.astype(complex), np.empty(len(indices))
    for i, index in enumerate(indices):
        moved.imag[index] = STEP
        found[i] = _derivative(reference, moved)
        moved.imag[index] = 0
    return found


def by_complex_step(reference: Reference, parameters: Array) -> Oracle:
    """Return an oracle of derivatives along directions, with no error but rounding."""

    def slope(direction: Array) -> Slope:
        return Slope(_derivative(reference, parameters + 1j * STEP * direction), 0.0, direction)

    return slope


def _derivative(reference: Reference, moved: Array) -> float:
    value, _ = reference.value(moved)
    return float(value.imag / STEP)


class OwnComplexStep:
    """Derivatives of a network of the user's own at some weights, for the rows of a step.

    Nobody asked its code to be made for complex numbers. It is where the imaginary part of the loss
    is the derivative along random directions, as differences have it: an absolute value, a
    conjugation or a cast to real numbers in it, or weights that it has kept elsewhere too, give
    another.
    """

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
        found, sure = [], False
        for directions in tries:
            wrong = 0
            for i, direction in enumerate(directions):
                exact = self.slope(direction)
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

    def slope(self, direction: Array) -> Slope:
        """Return the derivative along a direction, with no error but rounding; see `Oracle`.

        Where a comparison is tied, such as that of a ReLU at 0, it is that of one side. The
        opposite direction then has another, and nothing is known.
        """
        ahead, back = (self.slopes(sign * direction) for sign in (1, -1))
        if ahead is None or back is None:
            return Slope(np.nan, 0.0, direction)
        a, b = float(ahead.sum()), -float(back.sum())
        return Slope(a, np.inf if _tied(a, b) else 0.0, direction)

    def tied(self, indices: Array, gradient: Array) -> Array:
        """Return of which elements the derivative is another on the other side, as of `slope`."""
        other = self.gradients(indices, -1.0) if len(indices) else None
        if other is None:
            return indices[:0]
        tied: Array = indices[_tied(gradient[indices], other.sum(axis=0)[indices])]
        return tied

    def gradients(self, indices: Array, side: float = 1.0) -> Array | None:
        """Return every shard's part of the gradient at some elements, ``(shards, size)``, else 0.

        None where the code fails on the way. Where a comparison is tied, it is that of one side,
        and with ``side=-1`` that of the other.
        """
        found: Array | None = None
        moved = self._parameters.astype(complex)
        for index in indices:
            moved.imag[index] = side * STEP
            one = self._moved(moved)
            if one is None:
                return None
            found = np.zeros((len(one), len(moved))) if found is None else found
            found[:, index] = side * one
            moved.imag[index] = 0
        return found


def _tied(a: Any, b: Any) -> Any:
    """Return whether derivatives of both sides are not the same."""
    return np.abs(a - b) > AGREE * np.maximum(np.abs(a), np.abs(b))


def _agree(exact: float, slope: Slope) -> bool | None:
    """Return whether a derivative is that of differences; None where they do not know."""
    if not slope.error <= UNSURE * max(abs(exact), abs(slope.value)):
        return None
    return abs(exact - slope.value) <= slope.error + AGREE * abs(slope.value)
