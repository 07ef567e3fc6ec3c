"""Activation functions whose backward pass needs only the output, not the input."""

import numpy as np

from dptrain.nn.calls import Call, call
from dptrain.nn.layer import Activation, Array, Blocks, Elementwise, Operation, Site


class KnownByOutput(Activation, frozen=True):
    """An elementwise function whose derivative follows from its value."""

    @property
    def keeps_output(self) -> bool:
        """The derivative is computed from the output."""
        return True


class Sigmoid(KnownByOutput, frozen=True, tag="sigmoid"):
    """``y = 1 / (1 + exp(-x))``; ``dx = dy · y (1 - y)``."""

    init = "xavier"

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return SigmoidOperation(site)


class SigmoidOperation(Elementwise):
    """exp overflows to infinity for very negative inputs; the quotient is then 0, as it should."""

    def calls(self, x: Array, y: Array) -> list[Call]:
        """Compute the output."""
        one = y.dtype.type(1)
        return [
            call(np.negative, x, y),
            call(np.exp, y, y),
            call(np.add, y, one, y),
            call(np.reciprocal, y, y),
        ]

    def slope_calls(self, dy: Array, y: Array, scratch: Array) -> list[Call]:
        """Multiply by ``y (1 - y)``."""
        one = y.dtype.type(1)
        return [
            call(np.subtract, one, y, scratch),
            call(np.multiply, scratch, y, scratch),
            call(np.multiply, dy, scratch, dy),
        ]


class Tanh(KnownByOutput, frozen=True, tag="tanh"):
    """``y = tanh(x)``; ``dx = dy · (1 - y²)``."""

    init = "xavier"

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return TanhOperation(site)


class TanhOperation(Elementwise):
    """The hyperbolic tangent."""

    def calls(self, x: Array, y: Array) -> list[Call]:
        """Compute the output."""
        return [call(np.tanh, x, y)]

    def slope_calls(self, dy: Array, y: Array, scratch: Array) -> list[Call]:
        """Multiply by ``1 - y²``."""
        one = y.dtype.type(1)
        return [
            call(np.multiply, y, y, scratch),
            call(np.subtract, one, scratch, scratch),
            call(np.multiply, dy, scratch, dy),
        ]


class ReLU(KnownByOutput, frozen=True, tag="relu"):
    """``y = max(x, 0)``; ``dx = dy`` where ``x > 0``, otherwise 0 (also at 0 itself)."""

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return ReLUOperation(site)


class ReLUOperation(Elementwise):
    """The number 0 takes longer than an array of zeros, a choice longer than a masked product."""

    scratch_dtype = np.bool_

    def calls(self, x: Array, y: Array) -> list[Call]:
        """Compute the output."""
        zeros = self.site.workspace.empty(x.shape[1:], x.dtype)  # those of one shard
        zeros.fill(0)
        return [call(np.maximum, x, zeros, out=y)]

    def slope_calls(self, dy: Array, y: Array, scratch: Array) -> list[Call]:
        """Let the gradient through where the output is positive."""
        zero = y.dtype.type(0)
        return [call(np.greater, y, zero, scratch), call(np.multiply, dy, scratch, dy)]


class Identity(Activation, frozen=True, tag="identity"):
    """``y = x``."""

    init = "xavier"

    def bind(self, site: Site) -> Operation:
        """Return the operation that passes everything on."""
        return IdentityOperation(site)


class IdentityOperation(Operation):
    """Passes its input on, and its gradient back."""

    def __init__(self, site: Site) -> None:
        self.outputs = site.inputs

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Return the gradients as they are."""
        return [], gradients
