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
from typing import Any, NamedTuple

from msgspec import Struct
from numpy.typing import DTypeLike, NDArray

from dptrain.nn.initializers import Initializer
from dptrain.nn.workspace import Workspace

Shape = tuple[int, ...]
Array = NDArray[Any]
Blocks = list[Array]


class Parameter(NamedTuple):
    """One trainable tensor of a layer.

    Attributes:
        name: within the layer, such as ``"W"``.
        shape: of the tensor.
        init: how it begins.
        fans: ``(fan_in, fan_out)``, for initializers that scale by them.
        decays: whether weight decay applies (weights yes, biases no).
    """

    name: str
    shape: Shape
    init: Initializer
    fans: tuple[int, int]
    decays: bool


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
    """

    inputs: Blocks
    weights: Sequence[Array]
    gradients: Sequence[Blocks]
    overwrites: bool
    passes_back: bool
    workspace: Workspace = field(default_factory=Workspace)

    def like(self, arrays: Blocks, dtype: DTypeLike | None = None) -> Blocks:
        """Return uninitialised arrays of these shapes, and of these dtypes unless one is given."""
        return [self.workspace.empty(x.shape, x.dtype if dtype is None else dtype) for x in arrays]


class Operation(ABC):
    """A layer bound to the buffers of one pass."""

    outputs: Blocks

    @abstractmethod
    def forward(self) -> None:
        """Compute ``outputs`` from the inputs, in place."""

    @abstractmethod
    def backward(self, gradients: Blocks) -> Blocks:
        """Write the parameters' gradients and return those of the input.

        Args:
            gradients: of ``outputs``; they may be overwritten.
        """


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

    @property
    def aliases_input(self) -> bool:
        """Whether the output is the very memory of the input."""
        return False

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one sample's output; raise `ShapeError` where there is none."""
        return input_shape

    def parameters(self, input_shape: Shape) -> tuple[Parameter, ...]:  # noqa: ARG002
        """Return the trainable tensors for inputs of this shape."""
        return ()

    @abstractmethod
    def bind(self, site: Site) -> Operation:
        """Return the layer bound to the buffers of one pass."""


class Elementwise(Operation):
    """An activation function: forward where the input stands if it may, backward in place."""

    def __init__(self, site: Site) -> None:
        self.inputs = site.inputs
        self.outputs = site.inputs if site.overwrites else site.like(site.inputs)
        self.scratch = self.make_scratch(site)

    def make_scratch(self, site: Site) -> Blocks:
        """Return what the backward pass needs beside the output."""
        return site.like(self.outputs)
