"""Each kind of layer as nodes of an ONNX graph: one small function a kind, and a table of them.

To export another layer, write its function and name it in `WRITERS`. It gets the graph, the layer
with its name and the shape of one sample, and the name of what it reads, and returns the name of
what it yields. Weights are found under the names of the flat vector, such as ``dense1.W``.

Samples are channels-last here, ``(rows, height, width, channels)``, and ONNX's Conv, MaxPool and
AveragePool take them channels-first: around those stands a Transpose each way (between two such
layers the pair cancels out, and runtimes remove it), and filters ``(height, width, channels,
filters)`` become ``(filters, channels, height, width)``. Flatten then needs nothing, since it lays
out what stands in our own order.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dptrain.errors import UsageError
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Residual
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.dropout import Dropout
from dptrain.nn.gelu import GELU
from dptrain.nn.layer import Layer
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.normalise import Normalise
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU, Softplus
from dptrain.nn.row import Placed, place
from dptrain.nn.silu import SiLU


class Graph:
    """The nodes written so far, in order, and the constants that they read.

    Attributes:
        nodes: in an order in which they can be computed.
        constants: weights and the like.
    """

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._weights = weights

    def weight(self, name: str) -> str:
        """Add a tensor of the network, such as ``dense1.W``; return its name in the graph."""
        return self.constant(name, self._weights[name])

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add an array under a name; return the name."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def number(self, name: str, value: float) -> str:
        """Add a number, in the dtype of the weights."""
        dtype = next(iter(self._weights.values())).dtype
        return self.constant(name, np.array(value, dtype))

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, which bears the node's name; return the name."""
        made = helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        self.nodes.append(made)
        return name

    def values(self, name: str) -> NDArray[Any]:
        """Return a tensor of the network, to compute a constant of it."""
        return self._weights[name]

    def layer(self, placed: Placed, x: str) -> str:
        """Add a layer that reads ``x``; return the name of its output.

        Raises:
            UsageError: there is no function for this kind of layer.
        """
        kind = type(placed.layer)
        if kind not in WRITERS:
            known = ", ".join(sorted(str(each.__struct_config__.tag) for each in WRITERS))
            raise UsageError(
                f"{placed.name}: layers of kind {placed.layer.kind!r} cannot be written as ONNX; "
                f"those that can are {known}"
            )
        return WRITERS[kind](self, placed, x)


Writer = Callable[[Graph, Placed, str], str]


def _dense(graph: Graph, placed: Placed, x: str) -> str:
    name = placed.name
    return graph.node("Gemm", [x, graph.weight(f"{name}.W"), graph.weight(f"{name}.b")], name)


def _flatten(graph: Graph, placed: Placed, x: str) -> str:
    return graph.node("Flatten", [x], placed.name, axis=1)


def _nothing(graph: Graph, placed: Placed, x: str) -> str:  # noqa: ARG001 - one signature for all
    return x


def _function(operator: str) -> Writer:
    """Return the writer of an activation that ONNX has as an operator without settings."""
    return lambda graph, placed, x: graph.node(operator, [x], placed.name)


def _leaky_relu(graph: Graph, placed: Placed, x: str) -> str:
    layer = placed.layer
    assert isinstance(layer, LeakyReLU)
    return graph.node("LeakyRelu", [x], placed.name, alpha=layer.negative_slope)


def _gelu(graph: Graph, placed: Placed, x: str) -> str:
    """``x (1 + erf(x / √2)) / 2``, or the form with tanh; ONNX has a Gelu from opset 20 only."""
    layer, name = placed.layer, placed.name
    assert isinstance(layer, GELU)
    if layer.approximate == "tanh":
        cube = graph.node("Mul", [graph.node("Mul", [x, x], f"{name}.square"), x], f"{name}.cube")
        cubic = graph.node("Mul", [cube, graph.number(f"{name}.a", 0.044715)], f"{name}.cubic")
        inner = graph.node("Add", [x, cubic], f"{name}.inner")
        scale = graph.number(f"{name}.scale", math.sqrt(2 / math.pi))
        inner = graph.node("Mul", [inner, scale], f"{name}.scaled")
        bent = graph.node("Tanh", [inner], f"{name}.tanh")
    else:
        scale = graph.number(f"{name}.scale", math.sqrt(0.5))
        bent = graph.node("Erf", [graph.node("Mul", [x, scale], f"{name}.scaled")], f"{name}.erf")
    above = graph.node("Add", [bent, graph.number(f"{name}.one", 1.0)], f"{name}.above")
    half = graph.node("Mul", [x, graph.number(f"{name}.half", 0.5)], f"{name}.halved")
    return graph.node("Mul", [half, above], name)


def _silu(graph: Graph, placed: Placed, x: str) -> str:
    """``x σ(x)``; ONNX has a Swish from opset 24 only."""
    share = graph.node("Sigmoid", [x], f"{placed.name}.sigmoid")
    return graph.node("Mul", [x, share], placed.name)


def _batch_norm(graph: Graph, placed: Placed, x: str) -> str:
    """A multiplication and an addition: the running averages are constants."""
    layer, name = placed.layer, placed.name
    assert isinstance(layer, BatchNorm)
    gamma, beta, mean, variance = (
        graph.values(f"{name}.{each}") for each in ("gamma", "beta", "mean", "variance")
    )
    scale = gamma / np.sqrt(variance + gamma.dtype.type(layer.epsilon))
    scaled = graph.node("Mul", [x, graph.constant(f"{name}.scale", scale)], f"{name}.scaled")
    shift = graph.constant(f"{name}.shift", beta - mean * scale)
    return graph.node("Add", [scaled, shift], name)


def _normalise(graph: Graph, placed: Placed, x: str) -> str:
    name = placed.name
    shifted = graph.node("Sub", [x, graph.weight(f"{name}.shift")], f"{name}.shifted")
    return graph.node("Div", [shifted, graph.weight(f"{name}.scale")], name)


def _layer_norm(graph: Graph, placed: Placed, x: str) -> str:
    layer, name = placed.layer, placed.name
    assert isinstance(layer, LayerNorm)
    inputs = [x, graph.weight(f"{name}.gamma"), graph.weight(f"{name}.beta")]
    return graph.node("LayerNormalization", inputs, name, axis=-1, epsilon=layer.epsilon)


def _convolution(graph: Graph, placed: Placed, x: str) -> str:
    layer, name = placed.layer, placed.name
    assert isinstance(layer, Conv2D)
    over = layer.windows(placed.input_shape)
    filters = np.ascontiguousarray(graph.values(f"{name}.W").transpose(3, 2, 0, 1))
    inputs = [
        _channels_first(graph, placed, x),
        graph.constant(f"{name}.W", filters),
        graph.weight(f"{name}.b"),
    ]
    y = graph.node(
        "Conv",
        inputs,
        f"{name}.conv",
        kernel_shape=over.size,
        strides=over.stride,
        pads=[*over.padding, *over.padding],
    )
    return graph.node("Transpose", [y], name, perm=[0, 2, 3, 1])


def _pooling(operator: str) -> Writer:
    def write(graph: Graph, placed: Placed, x: str) -> str:
        layer, name = placed.layer, placed.name
        assert isinstance(layer, MaxPool2D | AvgPool2D)
        over = layer.windows(placed.input_shape)
        y = graph.node(
            operator,
            [_channels_first(graph, placed, x)],
            f"{name}.pool",
            kernel_shape=over.size,
            strides=over.stride,
        )
        return graph.node("Transpose", [y], name, perm=[0, 2, 3, 1])

    return write


def _channels_first(graph: Graph, placed: Placed, x: str) -> str:
    name = f"{placed.name}.images"
    if len(placed.input_shape) == 3:
        return graph.node("Transpose", [x], name, perm=[0, 3, 1, 2])
    axis = graph.constant(f"{placed.name}.axis", np.array([1]))
    return graph.node("Unsqueeze", [x, axis], name)


def _residual(graph: Graph, placed: Placed, x: str) -> str:
    layer, name = placed.layer, placed.name
    assert isinstance(layer, Residual)
    ways = []
    for prefix, layers in ((name, layer.layers), (f"{name}.shortcut", layer.shortcut)):
        y = x
        for each in place(layers, placed.input_shape):
            y = graph.layer(each._replace(name=f"{prefix}.{each.name}"), y)
        ways.append(y)
    return graph.node("Add", ways, name)


WRITERS: dict[type[Layer], Writer] = {
    AvgPool2D: _pooling("AveragePool"),
    BatchNorm: _batch_norm,
    Conv2D: _convolution,
    Dense: _dense,
    Dropout: _nothing,
    Flatten: _flatten,
    GELU: _gelu,
    Identity: _nothing,
    LayerNorm: _layer_norm,
    LeakyReLU: _leaky_relu,
    MaxPool2D: _pooling("MaxPool"),
    Normalise: _normalise,
    ReLU: _function("Relu"),
    Residual: _residual,
    SiLU: _silu,
    Sigmoid: _function("Sigmoid"),
    Softplus: _function("Softplus"),
    Tanh: _function("Tanh"),
}
