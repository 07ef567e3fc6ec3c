"""Activation functions. The backward passes read the output, never the input."""

import numpy as np

from dptrain.nn.layer import Blocks, Elementwise, Layer, Operation, Site


class Activation(Layer, frozen=True):
    """A function of each element, whose derivative is known from its value."""

    @property
    def keeps_output(self) -> bool:
        """The derivative is computed from the output."""
        return True


class Sigmoid(Activation, frozen=True, tag="sigmoid"):
    """``y = 1 / (1 + exp(-x))``; ``dx = dy · y (1 - y)``."""

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return SigmoidOperation(site)


class SigmoidOperation(Elementwise):
    """exp overflows to infinity for very negative inputs; the quotient is then 0, as it should."""

    def forward(self) -> None:
        """Compute the output."""
        for x, y in zip(self.inputs, self.outputs, strict=True):
            np.negative(x, out=y)
            np.exp(y, out=y)
            np.add(y, 1, out=y)
            np.reciprocal(y, out=y)

    def backward(self, gradients: Blocks) -> Blocks:
        """Multiply by ``y (1 - y)``."""
        for dy, y, slope in zip(gradients, self.outputs, self.scratch, strict=True):
            np.subtract(1, y, out=slope)
            np.multiply(slope, y, out=slope)
            np.multiply(dy, slope, out=dy)
        return gradients


class Tanh(Activation, frozen=True, tag="tanh"):
    """``y = tanh(x)``; ``dx = dy · (1 - y²)``."""

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return TanhOperation(site)


class TanhOperation(Elementwise):
    """The hyperbolic tangent."""

    def forward(self) -> None:
        """Compute the output."""
        for x, y in zip(self.inputs, self.outputs, strict=True):
            np.tanh(x, out=y)

    def backward(self, gradients: Blocks) -> Blocks:
        """Multiply by ``1 - y²``."""
        for dy, y, slope in zip(gradients, self.outputs, self.scratch, strict=True):
            np.multiply(y, y, out=slope)
            np.subtract(1, slope, out=slope)
            np.multiply(dy, slope, out=dy)
        return gradients


class ReLU(Activation, frozen=True, tag="relu"):
    """``y = max(x, 0)``; ``dx = dy`` where ``x > 0``, otherwise 0 (also at 0 itself)."""

    def bind(self, site: Site) -> Operation:
        """Return the operation on the buffers of one pass."""
        return ReLUOperation(site)


class ReLUOperation(Elementwise):
    """Measured: the number 0 takes longer than an array of zeros, a choice than a masked product.

    The zeros are those of one shard.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.zeros = [site.workspace.empty(x.shape[1:], x.dtype) for x in site.inputs]
        for each in self.zeros:
            each.fill(0)

    def make_scratch(self, site: Site) -> Blocks:
        """Return the masks."""
        return site.like(self.outputs, np.bool_)

    def forward(self) -> None:
        """Compute the output."""
        for x, y, zeros in zip(self.inputs, self.outputs, self.zeros, strict=True):
            np.maximum(x, zeros, out=y)

    def backward(self, gradients: Blocks) -> Blocks:
        """Let the gradient through where the output is positive."""
        for dy, y, mask in zip(gradients, self.outputs, self.scratch, strict=True):
            np.greater(y, 0, out=mask)
            np.multiply(dy, mask, out=dy)
        return gradients


class Identity(Layer, frozen=True, tag="identity"):
    """``y = x``."""

    @property
    def aliases_input(self) -> bool:
        """The output is the input."""
        return True

    def bind(self, site: Site) -> Operation:
        """Return the operation that passes everything on."""
        return IdentityOperation(site)


class IdentityOperation(Operation):
    """Passes its input on, and its gradient back."""

    def __init__(self, site: Site) -> None:
        self.outputs = site.inputs

    def forward(self) -> None:
        """Nothing to do: the output is the input."""

    def backward(self, gradients: Blocks) -> Blocks:
        """Return the gradients as they are."""
        return gradients
