"""Each kind of layer as nodes of an ONNX graph: one small function a kind, and a table of them.

To export another layer, write its function and name it in `WRITERS`. It gets the graph, the layer,
the layer's name and the name of what it reads, and returns the name of what it yields. Weights are
found under the names of the flat vector, such as ``dense1.W``.

Samples are channels-last here, ``(rows, height, width, channels)``, and ONNX's Conv, MaxPool and
AveragePool take them channels-first: around those belong a Transpose with ``perm=[0, 3, 1, 2]`` and
one back with ``perm=[0, 2, 3, 1]`` (between two such layers the pair cancels out, and runtimes
remove it), and filters ``(height, width, channels, filters)`` become ``(filters, channels, height,
width)``. Flatten then needs nothing, since it lays out what stands in our own order.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from dptrain.errors import UsageError
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.layer import Layer


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

    def node(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, which bears the node's name; return the name."""
        made = helper.make_node(operator, list(inputs), [name], name=name, **attributes)
        self.nodes.append(made)
        return name

    def layer(self, layer: Layer, name: str, x: str) -> str:
        """Add a layer that reads ``x``; return the name of its output.

        Raises:
            UsageError: there is no function for this kind of layer.
        """
        if type(layer) not in WRITERS:
            known = ", ".join(sorted(str(kind.__struct_config__.tag) for kind in WRITERS))
            raise UsageError(
                f"{name}: layers of kind {layer.kind!r} cannot be written as ONNX yet; those that "
                f"can are {known}"
            )
        return WRITERS[type(layer)](self, layer, name, x)


Writer = Callable[[Graph, Any, str, str], str]


def _dense(graph: Graph, layer: Dense, name: str, x: str) -> str:  # noqa: ARG001 - one signature
    return graph.node("Gemm", [x, graph.weight(f"{name}.W"), graph.weight(f"{name}.b")], name)


def _flatten(graph: Graph, layer: Flatten, name: str, x: str) -> str:  # noqa: ARG001
    return graph.node("Flatten", [x], name, axis=1)


def _identity(graph: Graph, layer: Identity, name: str, x: str) -> str:  # noqa: ARG001
    return x


def _function(operator: str) -> Writer:
    """Return the writer of an activation that ONNX has as an operator without settings."""
    return lambda graph, layer, name, x: graph.node(operator, [x], name)  # noqa: ARG005


WRITERS: dict[type[Layer], Writer] = {
    Dense: _dense,
    Flatten: _flatten,
    Identity: _identity,
    ReLU: _function("Relu"),
    Sigmoid: _function("Sigmoid"),
    Tanh: _function("Tanh"),
}
