"""Random smooth functions with their derivatives and honest bounds of their rounding errors.

``f(x) = Σ_k a_k φ_k(b_k · x + c_k)``, with arguments and amplitudes of very different sizes.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

UNIT = 2.0**-53
# φ, φ'
KINDS: tuple[tuple[Any, Any], ...] = (
    (np.sin, np.cos),
    (lambda z: np.exp(-z * z), lambda z: -2 * z * np.exp(-z * z)),
    (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    (lambda z: np.logaddexp(0, z), lambda z: 1 / (1 + np.exp(-z))),
    (lambda z: 1 / (1 + z * z), lambda z: -2 * z / (1 + z * z) ** 2),
    (lambda z: z**3, lambda z: 3 * z**2),
    (lambda z: z**2, lambda z: 2 * z),
    (lambda z: z, lambda z: np.ones_like(z)),
)


class Function:
    """One of them, and a point ``x`` of ``size`` elements."""

    def __init__(self, seed: int, size: int = 3) -> None:
        rng = np.random.default_rng(seed)
        terms = 5
        self.kinds = rng.integers(len(KINDS), size=terms)
        self.a = rng.standard_normal(terms) * 10 ** rng.uniform(-6, 6)
        self.b = rng.standard_normal((terms, size)) * 10 ** rng.uniform(-2, 1.5)
        self.c = rng.standard_normal(terms)
        self.x = rng.standard_normal(size) * 10 ** rng.uniform(-8, 1, size)

    def _arguments(self, x: Array) -> Array:
        return np.asarray(self.b @ x + self.c)

    def value(self, x: Array) -> float:
        z = self._arguments(x)
        phi = np.array([KINDS[k][0](each) for k, each in zip(self.kinds, z, strict=True)])
        return float(self.a @ phi)

    def gradient(self, x: Array) -> Array:
        z = self._arguments(x)
        slopes = np.array([KINDS[k][1](each) for k, each in zip(self.kinds, z, strict=True)])
        return np.asarray((self.a * slopes) @ self.b)

    @property
    def noise(self) -> float:
        """At the point: what rounding the arguments, the functions and the sums can do."""
        z, size, terms = self._arguments(self.x), len(self.x), len(self.a)
        inside = (size + 1) * UNIT * (np.abs(self.b) @ np.abs(self.x) + np.abs(self.c))
        total = 0.0
        for k, each, err, a in zip(self.kinds, z, inside, self.a, strict=True):
            phi, slope = (KINDS[k][i](each) for i in (0, 1))
            total += abs(a) * (abs(slope) * err + 6 * UNIT * abs(phi))
            total += terms * UNIT * abs(a * phi)
        return total


class Far:
    """A function whose value is exact to its last bit, far from 0, where steps are rounded.

    ``Σ (x - c)_i + Σ (x - c)²_i / 2`` near ``c``, with elements up to 1e6.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.uniform(1e5, 1e6, 10)

    def value(self, x: Array) -> float:
        moved = x - self.x
        return math.fsum([*moved, *(moved * moved / 2)])

    def noise(self, value: float) -> float:
        return 4 * UNIT * abs(value) + 1e-30
