"""Rectifiers: activation functions that pass positive inputs and suppress negative ones.

ReLU itself stands in `dptrain.nn.activations`. These here work out the slope along with the value,
where it costs next to nothing, and keep it: what is left for the backward pass is one product,
which needs neither the input nor the output.
"""

from abc import abstractmethod

import numpy as np

from dptrain.errors import UsageError
from dptrain.nn.calls import Call, call
from dptrain.nn.layer import Activation, Array, Blocks, Operation, Site


class KeptSlope(Operation):
    """A function of each element: forward where the input stands if it may, backward in place."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.outputs = site.inputs if site.overwrites else site.like(site.inputs)
        self.slopes = site.like(self.outputs)
        self.forward_calls = [
            each
            for block in zip(site.inputs, self.outputs, self.slopes, strict=True)
            for each in self.calls(*block)
        ]

    @abstractmethod
    def calls(self, x: Array, y: Array, slope: Array) -> list[Call]:
        """Return the calls that compute value and slope of one block.

        ``x``, ``y`` and ``slope`` have one shape and dtype; ``y`` may be ``x``.
        """

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Multiply by the slope."""
        blocks = zip(gradients, self.slopes, strict=True)
        return [call(np.multiply, dy, slope, dy) for dy, slope in blocks], gradients


class LeakyReLU(Activation, frozen=True, tag="leaky-relu"):
    """``y = x`` where ``x > 0``, otherwise ``a x``; ``dx = dy`` or ``a dy`` (at 0 itself ``a dy``).

    Maas, Hannun and Ng 2013. ``negative_slope`` is ``a``, from 0 to 1.

    Raises:
        UsageError: another ``negative_slope``.
    """

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        """Refuse slopes for which this is not a rectifier."""
        if not 0 <= self.negative_slope <= 1:
            raise UsageError(f"negative_slope={self.negative_slope!r} must be from 0 to 1")

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return LeakyReLUOperation(site, self.negative_slope)


class LeakyReLUOperation(KeptSlope):
    """The slope is written first, as the larger of ``x > 0`` and the negative slope."""

    def __init__(self, site: Site, negative_slope: float) -> None:
        self.negative_slope = negative_slope
        super().__init__(site)

    def calls(self, x: Array, y: Array, slope: Array) -> list[Call]:
        """Compute slope and value."""
        number = x.dtype.type
        return [
            call(np.greater, x, number(0), slope),
            call(np.maximum, slope, number(self.negative_slope), out=slope),
            call(np.multiply, x, slope, y),
        ]


class Softplus(Activation, frozen=True, tag="softplus"):
    """``y = log(1 + exp(x))``; ``dx = dy / (1 + exp(-x))``."""

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return SoftplusOperation(site)


class SoftplusOperation(KeptSlope):
    """``max(x, 0) + log1p(u)`` with ``u = exp(-|x|)``, which neither overflows nor cancels.

    With ``w = 1 + u`` rounded, ``log1p(u)`` is ``log(w) + (u - (w - 1)) / w``: the second term
    makes up for the rounding, to first order. NumPy's own log1p takes up to four times as long.
    """

    def calls(self, x: Array, y: Array, slope: Array) -> list[Call]:
        """The slope is ``1 / w`` where ``x`` is positive, otherwise ``u / w``."""
        number = x.dtype.type
        u, w, rounded = (self.site.workspace.empty(x.shape, x.dtype) for _ in range(3))
        return [
            call(np.abs, x, u),
            call(np.negative, u, u),
            call(np.exp, u, u),
            call(np.add, u, number(1), w),
            call(np.greater, x, number(0), slope),
            call(np.maximum, slope, u, out=slope),
            call(np.divide, slope, w, slope),
            call(np.subtract, w, number(1), rounded),
            call(np.subtract, u, rounded, u),
            call(np.divide, u, w, u),
            call(np.log, w, w),
            call(np.add, w, u, w),
            call(np.maximum, x, number(0), out=y),
            call(np.add, y, w, y),
        ]
