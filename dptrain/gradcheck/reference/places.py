"""Where each layer stands in a network, and which tensors are its own."""

from collections.abc import Iterator, Sequence

from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Residual
from dptrain.nn.layer import Layer
from dptrain.nn.network import Tensor
from dptrain.nn.row import Placed, place

Place = tuple[int, ...]


def with_tensors(
    row: Sequence[Placed], at: Place = (), prefix: str = "", first: int = 0
) -> Iterator[tuple[Place, str, Layer, slice]]:
    """Yield every layer without layers of its own: place, name, description, and its tensors.

    Args:
        row: layers in a row.
        at: where the row itself stands.
        prefix: of the names.
        first: number of tensors before it.
    """
    for i, (name, layer, shape, parameters) in enumerate(row):
        if isinstance(layer, Residual):
            begun = first
            for way, (held, part) in enumerate(((layer.layers, ""), (layer.shortcut, "shortcut."))):
                inner = place(held, shape)
                yield from with_tensors(inner, (*at, i, way), f"{prefix}{name}.{part}", begun)
                begun += sum(len(each.parameters) for each in inner)
        else:
            yield (*at, i), f"{prefix}{name}", layer, slice(first, first + len(parameters))
        first += len(parameters)


def leaves(row: Sequence[Placed]) -> Iterator[tuple[Place, str, Layer]]:
    """Yield place, name and description of every layer without layers of its own."""
    return ((at, name, layer) for at, name, layer, _ in with_tensors(row))


def layer_of(row: Sequence[Placed], tensor: Tensor) -> Layer:
    """Return the description of the layer that a tensor belongs to."""
    own = tensor.name.rpartition(".")[0]
    return next(layer for _, name, layer in leaves(row) if name == own)


def couples_rows(row: Sequence[Placed]) -> bool:
    """Return whether what a layer makes of a row depends on other rows of the minibatch."""
    return any(isinstance(layer, BatchNorm) for _, _, layer in leaves(row))
