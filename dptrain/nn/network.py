"""A network: layers in a row over samples of one shape, with all parameters in one flat vector."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.errors import ShapeError, UsageError, suggestion
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.initializers import Initializer, draw
from dptrain.nn.layer import Layer, Shape
from dptrain.nn.pooling import AvgPool2D, MaxPool2D

AnyLayer = Dense | Conv2D | MaxPool2D | AvgPool2D | Flatten | Sigmoid | ReLU | Tanh | Identity


class Tensor(NamedTuple):
    """One trainable tensor and its place in the flat vector.

    Attributes:
        name: such as ``"dense1.W"``.
        shape: of the tensor.
        start: offset of its first element.
        stop: offset behind its last element.
        decays: whether weight decay applies.
    """

    name: str
    shape: Shape
    start: int
    stop: int
    decays: bool
    init: Initializer
    fans: tuple[int, int]


class Network:
    """A description only: immutable, the same for all workers, without a single weight.

    Attributes:
        layers: in forward order.
        names: of the layers, such as ``("dense1", "sigmoid1", "dense2")``.
        shapes: of one sample before the first layer, between the layers and after the last.
        tensors: per layer, its trainable tensors in the flat vector.
        size: length of the flat parameter vector.

    Raises:
        UsageError: ``input_shape`` is no shape, there are no layers, or none has parameters.
        ShapeError: a layer does not fit what comes before it.
    """

    def __init__(self, input_shape: int | Sequence[int], layers: Sequence[AnyLayer]) -> None:
        shape = tuple(input_shape) if isinstance(input_shape, Sequence) else (input_shape,)
        if not shape or any(type(n) is not int or n < 1 for n in shape):
            raise UsageError(f"input_shape={input_shape!r} needs axes of at least 1, each an int")
        if not layers:
            raise UsageError("a network needs at least one layer")
        for layer in layers:
            if not isinstance(layer, Layer):
                raise UsageError(f"{layer!r} is not a layer; give objects such as Dense(10)")
        self.layers = tuple(layers)
        self.names = _names(self.layers)
        self.shapes = [shape]
        tensors: list[tuple[Tensor, ...]] = []
        offset = 0
        for name, layer in zip(self.names, self.layers, strict=True):
            own, offset = _place(name, layer, self.shapes[-1], offset)
            tensors.append(own)
            self.shapes.append(layer.output_shape(self.shapes[-1]))
        self.tensors = tuple(tensors)
        self.size = offset
        if not self.size:
            raise UsageError("a network needs at least one layer with parameters, such as Dense")

    @property
    def input_shape(self) -> Shape:
        """The shape of one sample."""
        return self.shapes[0]

    @property
    def output_shape(self) -> Shape:
        """The shape of one sample's output."""
        return self.shapes[-1]

    def all_tensors(self) -> list[Tensor]:
        """Return the trainable tensors in the order of the flat vector."""
        return [tensor for own in self.tensors for tensor in own]

    def check_input(self, sample_shape: Shape) -> None:
        """Raise `ShapeError` where the samples of a data set do not fit."""
        if sample_shape != self.input_shape:
            raise ShapeError(
                f"the network takes samples of shape {self.input_shape}, but the data set has "
                f"samples of shape {sample_shape}"
            )

    def initial_parameters(self, seed: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the flat vector ``(size,)`` a run begins with, drawn in float64 and rounded."""
        flat = np.empty(self.size, dtype)
        for i, own in enumerate(self.tensors):
            for j, tensor in enumerate(own):
                random = generator(seed, Purpose.INITIAL_WEIGHTS, i, j)
                values = draw(tensor.init, tensor.shape, tensor.fans, random)
                flat[tensor.start : tensor.stop] = values.reshape(-1)
        return flat

    def views(self, flat: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the named tensors as views of a flat vector ``(size,)``."""
        return {t.name: flat[t.start : t.stop].reshape(t.shape) for t in self.all_tensors()}

    def description(self) -> list[dict[str, Any]]:
        """Return the layers as plain data, from which `layers_from` makes them again."""
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


def _names(layers: Sequence[Layer]) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    names = []
    for layer in layers:
        counts[layer.kind] += 1
        names.append(f"{layer.kind}{counts[layer.kind]}")
    return tuple(names)


def _place(
    name: str, layer: Layer, input_shape: Shape, offset: int
) -> tuple[tuple[Tensor, ...], int]:
    own = []
    try:
        parameters = layer.parameters(input_shape)
        layer.output_shape(input_shape)
    except ShapeError as error:
        raise ShapeError(f"{name}: {error}") from None
    for parameter in parameters:
        stop = offset + int(np.prod(parameter.shape))
        own.append(
            Tensor(
                f"{name}.{parameter.name}",
                parameter.shape,
                offset,
                stop,
                parameter.decays,
                parameter.init,
                parameter.fans,
            )
        )
        offset = stop
    return tuple(own), offset
