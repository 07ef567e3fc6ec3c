"""Arrays with a bound of their rounding error beside every element.

Running error analysis (Higham, "Accuracy and stability of numerical algorithms", 2nd ed., section
3.3): every operation bounds the error of its result by those of its operands and by its own
rounding. ``u`` is the unit roundoff of the arithmetic that is judged, and ``γ_n = n u / (1 - n u)``
bounds what n roundings in a row do, in whatever order the terms of a sum are added.

Without a bound (``error=None``) the same operations work on complex numbers: nothing here takes an
absolute value, compares or conjugates but by the real part.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Unit roundoffs.
UNITS = {"float32": 2.0**-24, "float64": 2.0**-53}

# Roundings of one call of NumPy's exp, log, tanh and their kin, in units of u: their documented
# and measured errors are at most 4 ulp, and an ulp is at most 2 u.
FUNCTION = 8.0


def gamma(n: int, unit: float) -> float:
    """Return ``n u / (1 - n u)``: what n roundings in a row can do, relatively."""
    return n * unit / (1 - n * unit)


@dataclass(frozen=True, eq=False)
class Bounded:
    """An array, and how far each element may be from what exact arithmetic gives.

    Attributes:
        value: any shape; float64, or complex128 without a bound.
        error: of the same shape, at least 0; None where no bound is wanted.
        unit: the unit roundoff of the arithmetic that is judged.
    """

    value: Array
    error: Array | None
    unit: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.value.shape

    def like(self, value: Array, error: Array | None) -> "Bounded":
        """Return another array of the same arithmetic."""
        return Bounded(value, error if self.error is not None else None, self.unit)

    def exactly(self, value: Any) -> "Bounded":
        """Return numbers that have no error."""
        found = np.asarray(value)
        return self.like(found, np.zeros(found.shape))

    def moved(self, move: Callable[[Array], Array]) -> "Bounded":
        """Return an array made of the same elements; ``move`` makes it, of values and of errors."""
        return self.like(move(self.value), None if self.error is None else move(self.error))

    def reshape(self, *shape: int) -> "Bounded":
        """Return the array in another shape."""
        return self.moved(lambda a: a.reshape(shape))

    def __getitem__(self, index: Any) -> "Bounded":
        return self.moved(lambda a: a[index])

    @property
    def transposed(self) -> "Bounded":
        """The last two axes swapped."""
        return self.moved(lambda a: a.swapaxes(-1, -2))

    def _rounded(self, value: Array, carried: Array, roundings: float = 1.0) -> "Bounded":
        """Return a result with the error that its operands carried into it, and its own."""
        own = roundings * self.unit * (np.abs(value) + carried)
        return self.like(value, carried + own)

    def __neg__(self) -> "Bounded":
        return self.like(-self.value, self.error)

    def __add__(self, other: "Bounded") -> "Bounded":
        value = self.value + other.value
        if self.error is None or other.error is None:
            return self.like(value, None)
        return self._rounded(value, self.error + other.error)

    def __sub__(self, other: "Bounded") -> "Bounded":
        return self + (-other)

    def __mul__(self, other: "Bounded") -> "Bounded":
        value = self.value * other.value
        if self.error is None or other.error is None:
            return self.like(value, None)
        a, b = np.abs(self.value), np.abs(other.value)
        return self._rounded(value, self.error * b + a * other.error + self.error * other.error)

    def __truediv__(self, other: "Bounded") -> "Bounded":
        value = self.value / other.value
        if self.error is None or other.error is None:
            return self.like(value, None)
        size = np.abs(other.value) - other.error
        with np.errstate(divide="ignore", invalid="ignore"):
            carried = (self.error + np.abs(value) * other.error) / size
        return self._rounded(value, np.where(size > 0, carried, np.inf))

    def __matmul__(self, other: "Bounded") -> "Bounded":
        value = self.value @ other.value
        if self.error is None or other.error is None:
            return self.like(value, None)
        a, b = np.abs(self.value), np.abs(other.value)
        g = gamma(self.value.shape[-1], self.unit)
        carried = self.error @ (b + other.error) + a @ other.error
        return self.like(value, carried + g * (a @ b + carried))

    def sum(self, axis: int | Sequence[int], *, keepdims: bool = False) -> "Bounded":
        """Return the sum over axes, whatever the order of its terms."""
        axes = (axis,) if isinstance(axis, int) else tuple(axis)
        value = self.value.sum(axis=axes, keepdims=keepdims)
        if self.error is None:
            return self.like(value, None)
        terms = math.prod(self.value.shape[i] for i in axes)
        carried = self.error.sum(axis=axes, keepdims=keepdims)
        size = np.abs(self.value).sum(axis=axes, keepdims=keepdims) + carried
        return self.like(value, carried + gamma(max(terms - 1, 0), self.unit) * size)

    def sqrt(self) -> "Bounded":
        """Return the square root; the real part is positive."""
        value = np.sqrt(self.value)
        if self.error is None:
            return self.like(value, None)
        low = np.sqrt(np.maximum(self.value - self.error, 0))
        high = np.sqrt(self.value + self.error)
        carried = np.where(self.error > 0, np.maximum(value - low, high - value), 0.0)
        return self._rounded(value, carried, 2)

    def exp(self) -> "Bounded":
        """Return e to the power of the elements."""
        value = np.exp(self.value)
        if self.error is None:
            return self.like(value, None)
        return self._rounded(value, value * np.expm1(self.error), FUNCTION)

    def log(self) -> "Bounded":
        """Return the natural logarithm; the real part is positive."""
        value = np.log(self.value)
        if self.error is None:
            return self.like(value, None)
        with np.errstate(divide="ignore", invalid="ignore"):
            carried = -np.log1p(-self.error / self.value)
        return self._rounded(value, np.where(self.error < self.value, carried, np.inf), FUNCTION)

    def summed_to(self, shape: tuple[int, ...]) -> "Bounded":
        """Return the sum over the axes along which an array of this shape was repeated."""
        extra = len(self.shape) - len(shape)
        found = self.sum(tuple(range(extra))) if extra else self
        repeated = tuple(i for i, n in enumerate(shape) if n == 1 and found.shape[i] != 1)
        return found.sum(repeated, keepdims=True) if repeated else found


def narrowed(values: Array, dtype: Any) -> Array:
    """Return numbers rounded to a dtype, as float64."""
    with np.errstate(over="ignore"):
        found: Array = values.astype(dtype).astype(float)
    return found
