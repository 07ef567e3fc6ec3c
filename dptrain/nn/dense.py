"""The fully connected layer, and the flattening before it."""

import math
from typing import Annotated

import numpy as np
from msgspec import Meta
from msgspec.structs import force_setattr

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.calls import Call, call, product
from dptrain.nn.initializers import Initializer, Normal, Zeros, initializer
from dptrain.nn.layer import Blocks, Layer, Operation, Parameter, Shape, Site


class Dense(Layer, frozen=True, tag="dense"):
    """``y = x W + b`` with ``x`` of shape ``(…, fan_in)`` and ``y`` of shape ``(…, units)``.

    Parameters: ``W`` of shape ``(fan_in, units)`` and ``b`` of shape ``(units,)``.
    """

    units: Annotated[int, Meta(ge=1)]
    init: Initializer | str = Normal()

    def __post_init__(self) -> None:
        """Refuse a layer without units; find the initializer that is given by name."""
        if isinstance(self.units, bool) or not isinstance(self.units, int) or self.units < 1:
            raise UsageError(f"a dense layer needs at least 1 unit, not {self.units!r}")
        force_setattr(self, "init", initializer(self.init))

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
            Parameter("W", fans, initializer(self.init), fans, decays=True),
            Parameter("b", (self.units,), Zeros(), fans, decays=False),
        )

    def bind(self, site: Site) -> Operation:
        """Return the matrix products of this layer."""
        return DenseOperation(site, self.units)


class DenseOperation(Operation):
    """One BLAS call per shard for each of the three matrix products."""

    def __init__(self, site: Site, units: int) -> None:
        self.inputs = site.inputs
        empty = site.workspace.empty
        self.outputs = [empty((*x.shape[:2], units), x.dtype) for x in site.inputs]
        self.W, b = site.weights
        self.weight_gradients, self.bias_gradients = site.gradients
        self.input_gradients: Blocks = site.like(site.inputs) if site.passes_back else []
        self.forward_calls = [
            each
            for x, y in zip(self.inputs, self.outputs, strict=True)
            for each in (product(x, self.W, y), call(np.add, y, b, y))
        ]

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """``dW = xᵀ dy``, ``db = Σ_rows dy``, ``dx = dy Wᵀ``."""
        calls: list[Call] = []
        for x, dy, dW, db in zip(
            self.inputs, gradients, self.weight_gradients, self.bias_gradients, strict=True
        ):
            calls.append(product(x.transpose(0, 2, 1), dy, dW))
            calls.append(call(np.add.reduce, dy, 1, None, db))
        for dy, dx in zip(gradients, self.input_gradients, strict=False):
            calls.append(product(dy, self.W.T, dx))
        return calls, self.input_gradients


class Flatten(Layer, frozen=True, tag="flatten"):
    """Reshapes each sample to a vector."""

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

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Return the gradients in the shape of the input."""
        return [], [dy.reshape(s) for dy, s in zip(gradients, self.shapes, strict=True)]
