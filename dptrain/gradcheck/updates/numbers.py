"""Numbers as an optimizer of a dtype computes with them, with bounds of their rounding."""

from typing import Any

import numpy as np

from dptrain.gradcheck.reference.bounded import UNITS, Bounded

DOUBLE = UNITS["float64"]


class Numbers:
    """The arithmetic of a dtype.

    Attributes:
        unit: its unit roundoff.
        tiny: its smallest number, which is what underflow can take away.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.unit = UNITS[dtype.name]
        self.tiny = float(np.finfo(dtype).smallest_subnormal)

    def exact(self, value: Any) -> Bounded:
        """Return numbers that have no error."""
        found = np.asarray(value, float)
        return Bounded(found, np.zeros(found.shape), self.unit)

    def constant(self, value: Bounded | float) -> Bounded:
        """Return a number of double precision, rounded to the dtype."""
        if not isinstance(value, Bounded):
            value = Bounded(np.array(float(value)), np.zeros(()), DOUBLE)
        assert value.error is not None
        error = value.error + self.unit * (np.abs(value.value) + value.error)
        return Bounded(value.value, error, self.unit)

    def floored(self, found: Bounded) -> Bounded:
        """Return the same with what underflow can add to the error."""
        assert found.error is not None
        return found.like(found.value, found.error + self.tiny)

    def mixed(self, old: Bounded, new: Bounded, kept: float) -> Bounded:
        """Return ``kept old + (1 - kept) new``."""
        return self.floored(self.constant(kept) * old + self.constant(1 - kept) * new)


def complement(beta: float, t: int) -> Bounded:
    """Return ``1 - βᵗ``, in double precision."""
    power = beta**t
    found = 1 - power
    drawn = 2 * power if t > 1 else 0.0
    return Bounded(np.array(found), np.array(DOUBLE * (drawn + abs(found))), DOUBLE)


def sign(c: Bounded) -> Bounded:
    """Return the sign; where rounding could turn it, it may be any."""
    assert c.error is not None
    sure = (np.abs(c.value) > c.error) | (c.error == 0)
    return c.like(np.sign(c.value), np.where(sure, 0.0, 2.0))


def root(h: Bounded) -> Bounded:
    """Return the square root; what it is of may be 0 within its error."""
    assert h.error is not None
    value = np.sqrt(np.maximum(h.value, 0))
    with np.errstate(invalid="ignore"):
        low, high = np.sqrt(np.maximum(h.value - h.error, 0)), np.sqrt(h.value + h.error)
    carried = np.maximum(value - low, high - value)
    return h.like(value, carried + 2 * h.unit * value)
