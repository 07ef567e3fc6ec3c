"""The book's names and forms for the parameters of networks: W1, b1, W2, b2 and so on.

"Deep Learning from Scratch" numbers the layers that have parameters. Its weights have the shape
``(inputs, units)``, its biases ``(units,)``, as those of `Dense`. The filters of its convolutions
are ``(filters, channels, height, width)``, and what follows them is flattened in that order; here
both are channels-last. Its dropout multiplies by what is kept when it predicts, and not in
training; here it is the other way round, so that the factor goes into the weights behind it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import DataError, UsageError
from dptrain.invocation import program, word
from dptrain.nn.activations import Identity, ReLU
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.dropout import Dropout
from dptrain.nn.layer import Shape
from dptrain.nn.network import Network
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU
from dptrain.nn.row import Placed

# Layers with f(c x) = c f(x) for every c > 0: a factor before them is one behind them.
_SCALED = (Identity, ReLU, LeakyReLU, MaxPool2D, AvgPool2D, Flatten)


@dataclass(frozen=True)
class BookTensor:
    """One tensor of a network, as the book's files have it.

    Attributes:
        name: in the book's files, such as ``"W1"``.
        own: here, such as ``"conv2d1.W"``.
        shape: in the book's files.
        here: the shape here.
        spread: the same with an axis of its own for each thing that is counted.
        axes: the order in which those axes stand here.
        factor: what the book's values are multiplied by, to be used here.
    """

    name: str
    own: str
    shape: Shape
    here: Shape
    spread: Shape
    axes: Shape
    factor: float = 1.0

    def to_own(self, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the book's array as the network here has it, in a dtype."""
        spread = array.astype(dtype).reshape(self.spread)
        found: NDArray[Any] = spread.transpose(self.axes).reshape(self.here) * dtype.type(
            self.factor
        )
        return found

    def to_book(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array of the network here as the book's files have it."""
        here = array.reshape([self.spread[axis] for axis in self.axes])
        found = here.transpose(np.argsort(self.axes)).reshape(self.shape)
        return found if self.factor == 1 else found / array.dtype.type(self.factor)

    def difference(self) -> str:
        """Return how the one differs from the other, or ``""``."""
        found = []
        if self.axes == (2, 3, 1, 0):
            found.append(f"(filters, channels, height, width) {self.shape} is {self.here} here")
        elif len(self.axes) > 2:
            c, h, w, _ = self.spread
            found.append(f"its rows, (channels, height, width) {(c, h, w)}, are {(h, w, c)} here")
        if self.factor != 1:
            found.append(
                f"{self.factor:g} times the book's, whose dropout has that factor in predictions"
            )
        return f"{self.name}, {self.own}: {'; '.join(found)}" if found else ""


def book_tensors(network: Network) -> list[BookTensor]:
    """Return a network's tensors in their order, as the book's files have them.

    Raises:
        UsageError: a layer other than `Dense` and `Conv2D` has parameters, for which the book has
            no such names, or the factor of a dropout layer cannot go into the weights behind it.
    """
    found: list[BookTensor] = []
    flattened: Shape | None = None  # (H, W, C) of what a convolution has made, once it is flat
    kept, convolved = 1.0, False
    for placed, own in zip(network.row, network.tensors, strict=True):
        layer = placed.layer
        if isinstance(layer, Dropout):
            kept *= 1 - layer.rate
        elif isinstance(layer, Flatten) and convolved:
            flattened = placed.input_shape
        elif isinstance(layer, Dense | Conv2D):
            number = len(found) // 2 + 1
            spread, axes = _spread(placed, flattened)
            shape = spread if isinstance(layer, Conv2D) else (math.prod(spread[:-1]), spread[-1])
            W, b = own
            found += [
                BookTensor(f"W{number}", W.name, shape, W.shape, spread, axes, kept),
                BookTensor(f"b{number}", b.name, b.shape, b.shape, b.shape, (0,)),
            ]
            kept, flattened, convolved = 1.0, None, isinstance(layer, Conv2D)
        elif own:
            raise UsageError(
                f"{placed.name} has parameters that the book's files have no names for; only "
                "networks whose layers with parameters are dense or conv2d can be written so, or "
                "read"
            )
        elif kept != 1 and not isinstance(layer, _SCALED):
            raise UsageError(
                f"{placed.name} stands between a dropout layer and the weights behind it, so that "
                "the factor of the book's dropout cannot go into these; leave the dropout layer out"
            )
    last = [replace(each, factor=each.factor * kept) for each in found[-2:]]
    return [*found[:-2], *last]


def _spread(placed: Placed, flattened: Shape | None) -> tuple[Shape, Shape]:
    """Return the axes of a layer's weights in the book's order, and their order here."""
    layer, (W, _) = placed.layer, placed.parameters
    if isinstance(layer, Conv2D):
        height, width, channels, filters = W.shape
        return (filters, channels, height, width), (2, 3, 1, 0)
    if flattened is None:
        return W.shape, (0, 1)
    height, width, channels = flattened
    return (channels, height, width, W.shape[1]), (1, 2, 0, 3)


def check_params(params: Mapping[str, NDArray[Any]], tensors: Sequence[BookTensor]) -> None:
    """Raise `DataError` unless parameters are those of a network with these tensors."""
    for each in tensors:
        array = _present(params, each.name)
        if array.shape != each.shape:
            raise DataError(
                f"{each.name} has shape {array.shape}, but {each.own} of the network wants "
                f"{each.shape}"
            )
    names = [each.name for each in tensors]
    for name in params:
        if name not in names:
            raise DataError(f"{name!r} has no place in the network, which has {', '.join(names)}")


def layer_sizes(params: Mapping[str, NDArray[Any]]) -> list[int]:
    """Return the layer sizes of parameters W1, b1, … of a dense network, inputs first.

    Raises:
        DataError: other arrays, gaps in the numbers, or shapes that do not follow one another.
    """
    for name in params:
        if not re.fullmatch("[Wb][1-9][0-9]*", name):
            raise DataError(
                f"{name!r} is not a parameter of a dense network; those are W1, b1, W2, …"
            )
    count = sum(name.startswith("W") for name in params)
    sizes: list[int] = []
    for number in range(1, count + 1):
        W, b = (_present(params, f"{letter}{number}") for letter in "Wb")
        if W.ndim != 2:
            raise DataError(
                f"W{number} has shape {W.shape}, not (inputs, units), and strides, paddings and "
                "pooling are not in such a file; name an experiment with the layers: --model "
                "FILE.toml, such as examples/conv.toml"
            )
        if sizes and W.shape[0] != sizes[-1]:
            raise DataError(
                f"W{number} has shape {W.shape}, but the layer before it has {sizes[-1]} units"
            )
        if b.shape != W.shape[1:]:
            raise DataError(f"b{number} has shape {b.shape}, but W{number} has shape {W.shape}")
        sizes = [*(sizes or W.shape[:1]), W.shape[1]]
    if len(params) != 2 * count or not count:
        raise DataError(f"{', '.join(params)}: each layer needs its W and its b")
    return sizes


def command_for(path: Path, params: Mapping[str, NDArray[Any]]) -> str:
    """Return the command that makes a model of a file of parameters."""
    convolutions = sum(array.ndim == 4 for array in params.values())
    example = "examples/deep-conv.toml" if convolutions > 1 else "examples/conv.toml"
    option = f"--model {example}" if convolutions else "--activation …"
    return f"`{program()} convert {word(path)} {word(path.with_suffix('.npz').name)} {option}`"


def _present(params: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in params:
        raise DataError(f"{name} is missing among {', '.join(params)}")
    return params[name]
