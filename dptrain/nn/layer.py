"""What a layer is: a frozen description, which binds to fixed buffers and becomes operations.

A description (`Layer`) knows shapes and nothing else, travels as plain data, and is shared by all
workers. Bound to a `Site` (the buffers of one pass over given blocks of shards) it becomes an
`Operation`, which allocates everything it needs once and nothing in a step.

An activation is a list of blocks; a block is an array ``(shards, rows, …)`` of equal shards. There
is more than one block only where the shards are uneven.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import DTypeLike, NDArray

from dptrain.nn.calls import Call, run
from dptrain.nn.context import Context
from dptrain.nn.initializers import Initializer
from dptrain.nn.workspace import Workspace

Shape = tuple[int, ...]
Array = NDArray[Any]
Blocks = list[Array]


class Parameter(NamedTuple):
    """One tensor of a layer in the flat vector: trained, unless it is a running average.

    The "gradient" of a running average is what is averaged: each shard writes its share of the
    minibatch's value, and the shares are summed over the shards as all gradients are.

    Attributes:
        name: within the layer, such as ``"W"``.
        shape: of the tensor.
        init: how it begins.
        fans: ``(fan_in, fan_out)``, for initializers that scale by them.
        decays: whether weight decay applies (weights yes, biases no).
        average: None for what is trained; otherwise how far a running average moves towards the
            minibatch's value in a step, from 0 to 1. With 0 it is a constant: nobody computes what
            would be averaged.
    """

    name: str
    shape: Shape
    init: Initializer
    fans: tuple[int, int]
    decays: bool
    average: float | None = None


@dataclass(frozen=True)
class Site:
    """The buffers to which a layer is bound for one pass.

    Attributes:
        inputs: the blocks that the layer reads, always the same arrays.
        weights: the layer's parameters, views of the flat parameter vector.
        gradients: for each parameter, one array ``(shards, *shape)`` per block, to be written.
        overwrites: whether the layer may put its output where its input stands.
        passes_back: whether anybody needs the gradient of the input.
        workspace: where all buffers of the pass come from.
        context: of the pass.
        place: of the layer in the network: its index, then that within a layer that holds it.
        frozen: whether the layer's tensors stay as they are; one bool for each.
        input_shape: of one sample.
        span: ``weights`` in one piece, as they lie next to each other in the flat vector.
        span_gradients: ``gradients`` likewise, an array ``(shards, len(span))`` per block.
    """

    inputs: Blocks
    weights: Sequence[Array]
    gradients: Sequence[Blocks]
    overwrites: bool
    passes_back: bool
    workspace: Workspace = field(default_factory=Workspace)
    context: Context = field(default_factory=Context)
    place: tuple[int, ...] = (0,)
    frozen: Sequence[bool] = ()
    input_shape: Shape = ()
    span: Array = field(default_factory=lambda: np.empty(0))
    span_gradients: Sequence[Array] = ()

    def like(self, arrays: Blocks, dtype: DTypeLike | None = None) -> Blocks:
        """Return uninitialised arrays of these shapes, and of these dtypes unless one is given."""
        return [self.workspace.empty(x.shape, x.dtype if dtype is None else dtype) for x in arrays]


class Operation(ABC):
    """A layer bound to the buffers of one pass.

    Attributes:
        outputs: what it computes.
        forward_calls: compute ``outputs`` from the inputs.
    """

    outputs: Blocks
    forward_calls: Sequence[Call] = ()

    @abstractmethod
    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Return the calls that write the gradients of parameters and input, and the latter.

        Args:
            gradients: of ``outputs``, always these arrays; they may be overwritten.
        """

    def forward(self) -> None:
        """Compute ``outputs`` from the inputs."""
        run(self.forward_calls)

    def backward(self, gradients: Blocks) -> Blocks:
        """Write the parameters' gradients and return those of the input."""
        calls, found = self.backward_calls(gradients)
        run(calls)
        return found


class Layer(Struct, frozen=True, tag_field="layer", forbid_unknown_fields=True):
    """The description of a layer."""

    @property
    def kind(self) -> str:
        """The name of this kind of layer, such as ``"dense"``."""
        return str(self.__struct_config__.tag)

    @property
    def keeps_output(self) -> bool:
        """Whether the backward pass reads the output, so that nobody may overwrite it."""
        return False

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one sample's output; raise `ShapeError` where there is none."""
        return input_shape

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:  # noqa: ARG002
        """Return the trainable tensors for inputs of this shape."""
        return ()

    def tables(self, input_shape: Shape) -> tuple[int, ...]:  # noqa: ARG002
        """Return the columns of every table that the layer takes from the `Meeting`, in order."""
        return ()

    @abstractmethod
    def bind(self, site: Site) -> Operation:
        """Return the layer bound to the buffers of one pass."""


class Activation(Layer, frozen=True):
    """A function of each element.

    Attributes:
        init: by name, the initial weights that suit the dense layers around it.
    """

    init: ClassVar[str] = "he"


class Elementwise(Operation):
    """An activation function: forward where the input stands if it may, backward in place.

    Attributes:
        scratch_dtype: of what the backward pass needs beside the output; by default the output's.
    """

    scratch_dtype: DTypeLike | None = None

    def __init__(self, site: Site) -> None:
        self.site = site
        self.outputs = site.inputs if site.overwrites else site.like(site.inputs)
        self.scratch = site.like(self.outputs, self.scratch_dtype)
        self.forward_calls = [
            each
            for x, y in zip(site.inputs, self.outputs, strict=True)
            for each in self.calls(x, y)
        ]

    @abstractmethod
    def calls(self, x: Array, y: Array) -> list[Call]:
        """Return the calls that compute the function of one block ``x`` into ``y``."""

    @abstractmethod
    def slope_calls(self, dy: Array, y: Array, scratch: Array) -> list[Call]:
        """Return the calls that multiply ``dy`` by the function's slope where its value is ``y``.

        ``scratch`` has the shape of ``y`` and the dtype `scratch_dtype`.
        """

    def backward_calls(self, gradients: Blocks) -> tuple[list[Call], Blocks]:
        """Multiply by the slope."""
        blocks = zip(gradients, self.outputs, self.scratch, strict=True)
        return [each for block in blocks for each in self.slope_calls(*block)], gradients
