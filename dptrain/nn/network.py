"""A network: a sequence of layers for samples of one shape, all parameters in one flat vector."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.errors import ShapeError, UsageError, suggestion
from dptrain.nn.composite import AnyLayer as AnyLayer
from dptrain.nn.initializers import Initializer, draw
from dptrain.nn.layer import Layer, Shape
from dptrain.nn.row import Placed, place, shape_after


class Tensor(NamedTuple):
    """One tensor and its place in the flat vector.

    Attributes:
        name: such as ``"dense1.W"``.
        shape: of the tensor.
        start: offset of its first element.
        stop: offset after its last element.
        decays: whether weight decay applies.
        average: None for what is trained; otherwise as in `Parameter`.
        frozen: whether it stays as it is, as the user or its layer demands.
    """

    name: str
    shape: Shape
    start: int
    stop: int
    decays: bool
    init: Initializer
    fans: tuple[int, int]
    average: float | None = None
    frozen: bool = False

    @property
    def trained(self) -> bool:
        """Whether the optimizer changes it."""
        return self.average is None and not self.frozen


class Layout:
    """Tensors in a flat vector.

    Attributes:
        tensors: in the order of the flat vector, in groups that a backward pass completes together,
            the last group first.
        size: length of the flat vector.
        tables: columns of the tables that the ranks exchange in a step; see `Meeting`.
    """

    tensors: Sequence[Sequence[Tensor]]
    size: int
    tables: tuple[int, ...] = ()

    def all_tensors(self) -> list[Tensor]:
        """Return the tensors in the order of the flat vector."""
        return [tensor for own in self.tensors for tensor in own]

    def views(self, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the named tensors as views of a flat vector ``(size,)``."""
        return {t.name: flat[t.start : t.stop].reshape(t.shape) for t in self.all_tensors()}


class Network(Layout):
    """The description of a network: immutable, the same for all workers, without weights.

    Attributes:
        layers: as given, in forward order.
        row: the same, each chain replaced by its layers, and what each needs.
        names: of the layers in ``row``, such as ``("dense1", "sigmoid1", "chain1.dense1")``.
        shapes: of one sample before, between and after the layers of ``row``.
        tensors: per layer of ``row``, its tensors in the flat vector.
        tables: columns of the tables that the ranks exchange in a step; see `Meeting`.
        size: length of the flat parameter vector.

    Raises:
        UsageError: ``input_shape`` is not a shape, there are no layers, none has parameters, or
            ``freeze`` names none or leaves nothing to train.
        ShapeError: a layer does not fit what comes before it.
    """

    def __init__(
        self,
        input_shape: int | Sequence[int],
        layers: Sequence[AnyLayer],
        freeze: Sequence[str] = (),
    ) -> None:
        """Check that the layers fit, and lay out their parameters.

        Args:
            input_shape: of one sample.
            layers: in forward order.
            freeze: names of layers or tensors that stay as they are, such as ``"dense1"`` or
                ``"dense2.W"``.
        """
        shape = tuple(input_shape) if isinstance(input_shape, Sequence) else (input_shape,)
        if not shape or any(type(n) is not int or n < 1 for n in shape):
            raise UsageError(f"input_shape={input_shape!r} needs axes of at least 1, each an int")
        if not layers:
            raise UsageError("a network needs at least one layer")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise UsageError(f"{layer!r} is not a layer; give objects such as Dense(10)")
        self.layers = tuple(layers)
        self.row = place(self.layers, shape)
        self.names = tuple(each.name for each in self.row)
        self.shapes = [*(each.input_shape for each in self.row), shape_after(self.row, shape)]
        self.tensors, self.size = _lay_out(self.row, tuple(freeze))
        self.tables = tuple(
            columns for each in self.row for columns in each.layer.tables(each.input_shape)
        )
        if not self.size:
            raise UsageError("a network needs at least one layer with parameters, such as Dense")
        _check_freeze(self.all_tensors(), freeze)

    @property
    def input_shape(self) -> Shape:
        """The shape of one sample."""
        return self.shapes[0]

    @property
    def output_shape(self) -> Shape:
        """The shape of one sample's output."""
        return self.shapes[-1]

    def check_input(self, sample_shape: Shape) -> None:
        """Raise `ShapeError` where the samples of a data set do not fit."""
        if sample_shape != self.input_shape:
            raise ShapeError(
                f"the network takes samples of shape {self.input_shape}, but the data set has "
                f"samples of shape {sample_shape}"
            )

    def initial_parameters(self, seed: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return initial parameters ``(size,)``, drawn in float64 and rounded."""
        flat = np.empty(self.size, dtype)
        for i, own in enumerate(self.tensors):
            for j, tensor in enumerate(own):
                random = generator(seed, Purpose.INITIAL_WEIGHTS, i, j)
                values = draw(tensor.init, tensor.shape, tensor.fans, random)
                flat[tensor.start : tensor.stop] = values.reshape(-1)
        return flat

    def description(self) -> list[dict[str, Any]]:
        """Return the layers as plain data, from which `layers_from` restores them."""
        # Through JSON, since `to_builtins` leaves tuples, which TOML and messages do not give back.
        found: list[dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(self.layers))
        return found


def layers_from(description: object) -> tuple[AnyLayer, ...]:
    """Return the layers of a `Network.description`.

    Raises:
        UsageError: an unknown layer or key, or a value out of range; the message names its path.
    """
    known = [str(kind.__struct_config__.tag) for kind in get_args(AnyLayer)]
    for i, each in enumerate(description if isinstance(description, list) else []):
        kind = each.get("layer") if isinstance(each, dict) else None
        if isinstance(kind, str) and kind not in known:
            near = suggestion(kind, known) or ";"
            raise UsageError(
                f"layers: unknown layer {kind!r}{near} known: {', '.join(known)}"
                f" - at `$[{i}].layer`"
            )
    try:
        return msgspec.convert(description, tuple[AnyLayer, ...])
    except msgspec.ValidationError as error:
        raise UsageError(f"layers: {error}") from None


def _lay_out(
    row: Sequence[Placed], freeze: tuple[str, ...]
) -> tuple[tuple[tuple[Tensor, ...], ...], int]:
    """Return every layer's tensors one behind the other, and the length of the flat vector."""
    found = []
    offset = 0
    for placed in row:
        own = []
        for parameter in placed.parameters:
            name = f"{placed.name}.{parameter.name}"
            start, offset = offset, offset + math.prod(parameter.shape)
            own.append(
                Tensor(
                    name,
                    parameter.shape,
                    start,
                    offset,
                    parameter.decays,
                    parameter.init,
                    parameter.fans,
                    parameter.average,
                    frozen=parameter.average == 0 or any(_names(each, name) for each in freeze),
                )
            )
        found.append(tuple(own))
    return tuple(found), offset


def _names(frozen: str, tensor: str) -> bool:
    """Return whether a name is that of a tensor, or of a layer that it belongs to."""
    return f"{tensor}.".startswith(f"{frozen}.")


def _check_freeze(tensors: Sequence[Tensor], freeze: Sequence[str]) -> None:
    known = [t.name for t in tensors]
    for name in freeze:
        if not any(_names(name, each) for each in known):
            layers = list(dict.fromkeys(each.rpartition(".")[0] for each in known))
            near = suggestion(name, layers) or ";"
            raise UsageError(
                f"freeze={name!r} is no layer with parameters{near} choose from: "
                f"{', '.join(layers)}"
            )
    if not any(t.trained for t in tensors):
        raise UsageError(f"freeze={list(freeze)!r} leaves nothing to train; freeze fewer layers")
