"""The fully connected layer, and the flattening before it."""

import math
from typing import Annotated

import numpy as np
from msgspec import Meta

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.initializers import Initializer, Normal, Zeros
from dptrain.nn.layer import Blocks, Layer, Operation, Parameter, Shape, Site


class Dense(Layer, frozen=True, tag="dense"):
    """``y = x W + b`` with ``x`` of shape ``(…, fan_in)`` and ``y`` of shape ``(…, units)``.

    Parameters: ``W`` of shape ``(fan_in, units)`` and ``b`` of shape ``(units,)``.
    """

    units: Annotated[int, Meta(ge=1)]
    init: Initializer = Normal()

    def __post_init__(self) -> None:
        """Refuse a layer without units."""
        if isinstance(self.units, bool) or not isinstance(self.units, int) or self.units < 1:
            raise UsageError(f"a dense layer needs at least 1 unit, not {self.units!r}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return ``(units,)``."""
        if len(input_shape) != 1:
            raise ShapeError(
                f"a dense layer takes flat samples, not samples of shape {input_shape}; "
                "put a Flatten layer before it"
            )
        return (self.units,)

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:
        """Return ``W`` and ``b``."""
        fans = (input_shape[0], self.units)
        return (
            Parameter("W", fans, self.init, fans, decays=True),
            Parameter("b", (self.units,), Zeros(), fans, decays=False),
        )

    def bind(self, site: Site) -> Operation:
        """Return the matrix products of this layer."""
        return DenseOperation(site, self.units)


class DenseOperation(Operation):
    """One BLAS call per shard for each of the three matrix products."""

    def __init__(self, site: Site, units: int) -> None:
        self.inputs = site.inputs
        self.transposed = [x.transpose(0, 2, 1) for x in site.inputs]
        empty = site.workspace.empty
        self.outputs = [empty((*x.shape[:2], units), x.dtype) for x in site.inputs]
        self.W, self.b = site.weights
        self.W_transposed = self.W.T
        self.weight_gradients, self.bias_gradients = site.gradients
        self.input_gradients: Blocks = site.like(site.inputs) if site.passes_back else []

    def forward(self) -> None:
        """``y = x W + b``."""
        for x, y in zip(self.inputs, self.outputs, strict=True):
            np.matmul(x, self.W, out=y)
            np.add(y, self.b, out=y)

    def backward(self, gradients: Blocks) -> Blocks:
        """``dW = xᵀ dy``, ``db = Σ_rows dy``, ``dx = dy Wᵀ``."""
        for i, dy in enumerate(gradients):
            np.matmul(self.transposed[i], dy, out=self.weight_gradients[i])
            np.add.reduce(dy, axis=1, out=self.bias_gradients[i])
        for dy, dx in zip(gradients, self.input_gradients, strict=False):
            np.matmul(dy, self.W_transposed, out=dx)
        return self.input_gradients


class Flatten(Layer, frozen=True, tag="flatten"):
    """Lays out each sample as a vector."""

    @property
    def aliases_input(self) -> bool:
        """The output is a view."""
        return True

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return one axis with as many elements as the sample has."""
        return (math.prod(input_shape),)

    def bind(self, site: Site) -> Operation:
        """Return a view of the input."""
        return FlattenOperation(site)


class FlattenOperation(Operation):
    """Moves nothing: its output is a view of its input."""

    def __init__(self, site: Site) -> None:
        self.shapes = [x.shape for x in site.inputs]
        self.outputs = [x.reshape(*x.shape[:2], -1) for x in site.inputs]

    def forward(self) -> None:
        """Nothing to do: the view is of the same memory."""

    def backward(self, gradients: Blocks) -> Blocks:
        """Return the gradients in the shape of the input."""
        return [dy.reshape(s) for dy, s in zip(gradients, self.shapes, strict=True)]
