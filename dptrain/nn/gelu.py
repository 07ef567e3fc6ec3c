"""The Gaussian error linear unit, exact and in its tanh form (Hendrycks and Gimpel 2016)."""

import math
from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np

from dptrain.errors import UsageError
from dptrain.nn.calls import Call, call
from dptrain.nn.layer import Activation, Array, Operation, Site
from dptrain.nn.rectifiers import KeptSlope


class GELU(Activation, frozen=True, tag="gelu"):
    """``y = x Φ(x)``, with ``Φ`` the distribution function of the standard normal distribution.

    ``dx = dy · (Φ(x) + x φ(x))``, with ``φ`` its density. With ``approximate="tanh"``, ``Φ(x)`` is
    ``½ (1 + tanh(√(2/π) (x + 0.044715 x³)))`` instead, which takes a fifth to a third less time and
    differs by up to 5e-4. Both as `torch.nn.GELU`.

    Raises:
        UsageError: ``approximate`` is neither ``"none"`` nor ``"tanh"``.
    """

    approximate: Literal["none", "tanh"] = "none"

    def __post_init__(self) -> None:
        """Refuse unknown forms."""
        if self.approximate not in ("none", "tanh"):
            raise UsageError(f"approximate={self.approximate!r} is unknown; give 'none' or 'tanh'")

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return ExactGELUOperation(site) if self.approximate == "none" else TanhGELUOperation(site)


# Beyond it a tail is below 1e-22, and stays at what it is here, so that nothing overflows.
LIMIT = 10


class GatedOperation(KeptSlope):
    """``x Φ(x)`` with ``Φ(-x) = 1 - Φ(x)``, so all is said by the tail ``Q(a) = Φ(-a)``, ``a ≥ 0``.

    With ``a = |x|`` the value is ``max(x, 0) - a Q``, and the slope ``1 + a q - Q`` for positive
    ``x``, otherwise ``Q - a q``, where ``q = -Q'(a)``. Nothing cancels where ``x`` is negative.

    Attributes:
        limit: an ``a`` beyond which ``a Q`` is next to nothing.
    """

    limit: ClassVar[int] = LIMIT

    def calls(self, x: Array, y: Array, slope: Array) -> list[Call]:
        """Compute value and slope."""
        number = x.dtype.type
        a, q = (self.site.workspace.empty(x.shape, x.dtype) for _ in range(2))
        sign, tail = slope, slope
        return [
            call(np.abs, x, a),
            call(np.minimum, a, number(self.limit), out=a),
            *self.tail_calls(a, tail, q),
            call(np.multiply, q, a, q),
            call(np.subtract, q, tail, q),
            call(np.multiply, tail, a, a),
            call(np.copysign, number(1), x, sign),
            call(np.multiply, q, sign, q),
            call(np.maximum, sign, number(0), out=slope),
            call(np.add, slope, q, slope),
            call(np.maximum, x, number(0), out=y),
            call(np.subtract, y, a, y),
        ]

    @abstractmethod
    def tail_calls(self, a: Array, tail: Array, q: Array) -> list[Call]:
        """Return the calls that compute ``Q(a)`` into ``tail`` and ``-Q'(a)`` into ``q``."""


# Q(a) / exp(-a²/2) for 0 ≤ a ≤ LIMIT: a polynomial in t = 2 - 15 / (a + 5), which lies between -1
# and 1, its highest power first. The form is that of Shepherd and Laframboise (Math. Comp. 36,
# 1981) for exp(x²) erfc(x); the numbers interpolate the function at Chebyshev nodes, computed with
# 50 digits. Relative errors: 6e-9 and 3e-18, below the rounding of either dtype.
RATIO: dict[str, tuple[float, ...]] = {
    "float32": (
        -1.395351523e-07, 6.614069976e-06, -1.751844174e-05, -0.0001267524327,
        0.001286865322, -0.006207139042, 0.02075079331, -0.0528670527,
        0.106402015, -0.1710523226, 0.1413313314,
    ),
    "float64": (
        -1.877202526956254e-12, -1.5718598806859055e-12, 3.932146776180645e-11,
        6.435857335626219e-11, -6.738545770561938e-10, -1.5395516035949205e-09,
        1.2803738653975043e-08, 2.760428651556017e-08, -2.92092224832186e-07,
        -2.084665349768192e-07, 7.360013214781381e-06, -1.745168943157136e-05,
        -0.00012748058890847222, 0.0012868365499976644, -0.0062068239879061364,
        0.020750798406129714, -0.05286710864833167, 0.10640201474243524,
        -0.171052319812479, 0.1413313313805753,
    ),
}  # fmt: skip


class ExactGELUOperation(GatedOperation):
    """NumPy has no error function, and SciPy is a heavy import for one in every worker."""

    def tail_calls(self, a: Array, tail: Array, q: Array) -> list[Call]:
        """``Q(a) = exp(-a²/2) · polynomial``; ``q`` is the density ``exp(-a²/2) / √(2π)``."""
        number = a.dtype.type
        t = q
        first, *others = (number(c) for c in RATIO[a.dtype.name])
        calls = [
            call(np.add, a, number(5), t),
            call(np.divide, number(-15), t, t),
            call(np.add, t, number(2), t),
            call(tail.fill, first),
        ]
        for coefficient in others:
            calls += [call(np.multiply, tail, t, tail), call(np.add, tail, coefficient, tail)]
        return [
            *calls,
            call(np.multiply, a, a, q),
            call(np.multiply, q, number(-0.5), q),
            call(np.exp, q, q),
            call(np.multiply, tail, q, tail),
            call(np.multiply, q, number(1 / math.sqrt(2 * math.pi)), q),
        ]


class TanhGELUOperation(GatedOperation):
    """``½ (1 - tanh(u))`` is ``1 / (1 + exp(2u))``; ``exp(2u)`` at `LIMIT` is below 1e38."""

    def tail_calls(self, a: Array, tail: Array, q: Array) -> list[Call]:
        """``Q = 1 / (1 + exp(2u))``; ``q = 2u' Q (1 - Q)``."""
        number = a.dtype.type
        factor = 2 * math.sqrt(2 / math.pi)
        rest = self.site.workspace.empty(a.shape, a.dtype)
        return [
            call(np.multiply, a, a, q),
            call(np.multiply, q, number(0.044715 * factor), tail),
            call(np.add, tail, number(factor), tail),
            call(np.multiply, tail, a, tail),
            call(np.exp, tail, tail),
            call(np.add, tail, number(1), tail),
            call(np.reciprocal, tail, tail),
            call(np.multiply, q, number(3 * 0.044715 * factor), q),
            call(np.add, q, number(factor), q),
            call(np.multiply, q, tail, q),
            call(np.subtract, number(1), tail, rest),
            call(np.multiply, q, rest, q),
        ]
