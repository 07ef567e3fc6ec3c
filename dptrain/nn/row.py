"""Layers one after the other: their names, their tensors, and their binding to one pass."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.calls import Call
from dptrain.nn.layer import Blocks, Layer, Operation, Parameter, Shape, Site

# So many take a quarter of a minute before the first step; more are a slip.
MOST_LAYERS = 5000


@runtime_checkable
class Holder(Protocol):
    """A layer that stands for the row of layers it holds."""

    def held(self) -> Sequence[Layer]:
        """Return the layers."""
        ...


class Placed(NamedTuple):
    """A layer in a row.

    Attributes:
        name: such as ``"dense1"``, or ``"chain1.dense1"`` in a chain.
        layer: the description.
        input_shape: of one sample.
        parameters: of the layer.
    """

    name: str
    layer: Layer
    input_shape: Shape
    parameters: tuple[Parameter, ...]


def place(layers: Sequence[Layer], input_shape: Shape) -> list[Placed]:
    """Return the layers of a row, those that stand in chains among them, with what they need.

    Raises:
        ShapeError: a layer does not fit what comes before it.
        UsageError: there are too many.
    """
    found: list[Placed] = []
    for name, layer in _leaves(layers):
        if len(found) == MOST_LAYERS:
            raise UsageError(f"a network has at most {MOST_LAYERS:,} layers, and this has more")
        try:
            found.append(Placed(name, layer, input_shape, layer.parameters(input_shape)))
            input_shape = layer.output_shape(input_shape)
        except ShapeError as error:
            raise ShapeError(f"{name}: {error}") from None
    return found


def shape_after(row: Sequence[Placed], input_shape: Shape) -> Shape:
    """Return the shape of one sample behind a row."""
    return row[-1].layer.output_shape(row[-1].input_shape) if row else input_shape


def elements(parameters: Sequence[Parameter]) -> int:
    """Return how many elements tensors have together."""
    return sum(math.prod(each.shape) for each in parameters)


def parameters_of(row: Sequence[Placed]) -> tuple[Parameter, ...]:
    """Return the tensors of a row as those of one layer, such as ``"dense1.W"``."""
    return tuple(p._replace(name=f"{each.name}.{p.name}") for each in row for p in each.parameters)


def _leaves(layers: Sequence[Layer]) -> Iterator[tuple[str, Layer]]:
    counts: Counter[str] = Counter()
    for layer in layers:
        counts[layer.kind] += 1
        name = f"{layer.kind}{counts[layer.kind]}"
        if isinstance(layer, Holder):
            yield from ((f"{name}.{inner}", leaf) for inner, leaf in _leaves(layer.held()))
        else:
            yield name, layer


class Bound(NamedTuple):
    """A bound layer of a row.

    Attributes:
        operation: the layer, bound.
        learns: whether it or a layer before it is trained, so that its backward pass is wanted.
    """

    operation: Operation
    learns: bool

    @property
    def forward_calls(self) -> Sequence[Call]:
        """Those of the operation."""
        return self.operation.forward_calls


def bind_row(row: Sequence[Placed], site: Site) -> tuple[list[Bound], Site]:
    """Return a row bound to the buffers of a pass, and where a layer behind it would stand."""
    found = []
    taken = begun = 0
    for i, (_, layer, input_shape, parameters) in enumerate(row):
        own = slice(taken, taken + len(parameters))
        span = slice(begun, begun + elements(parameters))
        taken, begun = own.stop, span.stop
        frozen = site.frozen[own]
        operation = layer.bind(
            replace(
                site,
                input_shape=input_shape,
                weights=site.weights[own],
                gradients=site.gradients[own],
                frozen=frozen,
                span=site.span[span],
                span_gradients=[each[:, span] for each in site.span_gradients],
                place=(*site.place, i),
            )
        )
        learns = site.passes_back or not all(frozen)
        found.append(Bound(operation, learns))
        passed_on = any(map(np.may_share_memory, operation.outputs, site.inputs))
        site = replace(
            site,
            inputs=operation.outputs,
            overwrites=not layer.keeps_output and (site.overwrites or not passed_on),
            passes_back=learns,
        )
    return found, site


def backward_calls(row: Sequence[Bound], gradients: Blocks) -> tuple[list[Call], Blocks]:
    """Return the calls of all backward passes of a row, the last first; see `Operation`."""
    calls: list[Call] = []
    for operation, learns in reversed(row):
        if not learns:
            break
        own, gradients = operation.backward_calls(gradients)
        calls += own
    return calls, gradients
