"""The book's names for the parameters of dense networks: W1, b1, W2, b2 and so on.

"Deep Learning from Scratch" numbers the layers that have parameters. Its weights have the shape
``(inputs, units)``, its biases ``(units,)``, as those of `Dense`. The filters of its convolutions
are ``(filters, channels, height, width)``, and what follows them is flattened in that order; such
files can be loaded, but not made into networks here, since strides, paddings and pooling are not in
them.
"""

import re
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from dptrain.errors import DataError, UsageError
from dptrain.nn.dense import Dense
from dptrain.nn.network import Network


def book_names(network: Network) -> dict[str, str]:
    """Return the book's names of a network's tensors: ``{"W1": "dense1.W", "b1": "dense1.b", …}``.

    Raises:
        UsageError: a layer other than `Dense` has parameters, for which the book has no such names.
    """
    names: dict[str, str] = {}
    for placed, own in zip(network.row, network.tensors, strict=True):
        if own and not isinstance(placed.layer, Dense):
            raise UsageError(
                f"{placed.name} has parameters that the book's files have no names for; only "
                "networks whose layers with parameters are dense can be written so: use .npz"
            )
        number = len(names) // 2 + 1
        names |= {f"{tensor.name.rpartition('.')[2]}{number}": tensor.name for tensor in own}
    return names


def layer_sizes(params: Mapping[str, NDArray[Any]]) -> list[int]:
    """Return the layer sizes of parameters W1, b1, …, inputs first.

    Raises:
        DataError: other arrays, gaps in the numbers, or shapes that do not follow one another.
    """
    for name in params:
        if not re.fullmatch("[Wb][1-9][0-9]*", name):
            raise DataError(f"{name!r} is no parameter of a dense network; those are W1, b1, W2, …")
    count = sum(name.startswith("W") for name in params)
    sizes: list[int] = []
    for number in range(1, count + 1):
        W, b = (_present(params, f"{letter}{number}") for letter in "Wb")
        if W.ndim != 2:
            raise DataError(
                f"W{number} has shape {W.shape}, not (inputs, units): convolutions cannot be "
                "converted, only loaded with dptrain.load_params"
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


def _present(params: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in params:
        raise DataError(f"{name} is missing among {', '.join(params)}")
    return params[name]
