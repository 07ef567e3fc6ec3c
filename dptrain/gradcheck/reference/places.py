"""Where each layer stands in a network, and which tensors are its own."""

from collections.abc import Iterator, Sequence

from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Residual
from dptrain.nn.layer import Layer
from dptrain.nn.network import Tensor
from dptrain.nn.row import Placed, place


def places(
    row: Sequence[Placed], at: tuple[int, ...] = (), first: int = 0
) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Yield the place of every layer without layers of its own, its first tensor and their number.

    Args:
        row: layers in a row.
        at: where the row itself stands.
        first: number of tensors before it.
    """
    for i, (_, layer, shape, parameters) in enumerate(row):
        if isinstance(layer, Residual):
            begun = first
            for way, held in enumerate((layer.layers, layer.shortcut)):
                inner = place(held, shape)
                yield from places(inner, (*at, i, way), begun)
                begun += sum(len(each.parameters) for each in inner)
        else:
            yield (*at, i), first, len(parameters)
        first += len(parameters)


def leaves(
    row: Sequence[Placed], at: tuple[int, ...] = (), prefix: str = ""
) -> Iterator[tuple[tuple[int, ...], str, Layer]]:
    """Yield place, name and description of every layer without layers of its own."""
    for i, (name, layer, shape, _) in enumerate(row):
        if isinstance(layer, Residual):
            for way, (held, part) in enumerate(((layer.layers, ""), (layer.shortcut, "shortcut."))):
                inner = place(held, shape)
                yield from leaves(inner, (*at, i, way), f"{prefix}{name}.{part}")
        else:
            yield (*at, i), f"{prefix}{name}", layer


def layer_of(row: Sequence[Placed], tensor: Tensor) -> Layer:
    """Return the description of the layer that a tensor belongs to."""
    own = tensor.name.rpartition(".")[0]
    return next(layer for _, name, layer in leaves(row) if name == own)


def couples_rows(row: Sequence[Placed]) -> bool:
    """Return whether what a layer makes of a row depends on other rows of the minibatch."""
    for _, layer, shape, _ in row:
        if isinstance(layer, BatchNorm):
            return True
        if isinstance(layer, Residual):
            held = (place(layer.layers, shape), place(layer.shortcut, shape))
            if any(map(couples_rows, held)):
                return True
    return False
