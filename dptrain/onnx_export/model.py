"""A trained network as an ONNX model, to be run by other programs."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper

import dptrain
from dptrain.arithmetic.digest import digest
from dptrain.data.target_scale import TargetScale
from dptrain.experiment.files import to_toml
from dptrain.onnx_export.layers import Graph
from dptrain.trained import TrainedNetwork

# Of 2022: what runs models today reads it, and it has all operators that layers here need.
OPSET, IR_VERSION = 17, 8

INPUT = "input"
OUTPUTS = "outputs"
PROBABILITIES = "probabilities"

_MOST = 20  # columns in a sentence
_ROWS = "rows"  # the axis that has any length


def onnx_model(trained: TrainedNetwork) -> ModelProto:
    """Return the model of a network.

    It has one input, ``input`` of shape ``(rows, *input_shape)`` in the dtype of the weights, or in
    float64 where offsets are taken off before rounding, and
    the output ``outputs`` ``(rows, *output_shape)``, what `TrainedNetwork.outputs` returns: in the
    dtype of the weights, or in float64 where targets were standardised. A network trained with
    softmax-cross-entropy has a second output, ``probabilities``, what `TrainedNetwork.predict`
    returns. The metadata hold the digest of the weights, the experiment and the names of the
    classes.

    Raises:
        UsageError: a layer has no form in ONNX yet.
    """
    network = trained.layered("an ONNX model")
    graph = Graph(trained.weights)
    offsets = trained.experiment.input_offsets
    x = INPUT if offsets is None else _take_in(graph, trained, np.array(offsets))
    for placed in network.row:
        x = graph.layer(placed, x)
    _put_out(graph, x, trained.experiment.target_scale)
    results = [OUTPUTS]
    if trained.experiment.loss == "softmax-cross-entropy":
        results.append(graph.node("Softmax", [OUTPUTS], PROBABILITIES, axis=-1))
    element = helper.np_dtype_to_tensor_dtype(trained.parameters.dtype)
    restored = trained.experiment.target_scale is not None
    put_out = TensorProto.DOUBLE if restored else element
    made = helper.make_graph(
        graph.nodes,
        "dptrain",
        [
            _value(
                INPUT,
                element if offsets is None else TensorProto.DOUBLE,
                network.input_shape,
                input_text(trained),
            )
        ],
        [_value(name, put_out, network.output_shape, "") for name in results],
        graph.constants,
    )
    model = helper.make_model(
        made,
        producer_name="dptrain",
        producer_version=dptrain.__version__,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        doc_string=input_text(trained),
    )
    helper.set_model_props(model, _metadata(trained))
    checker.check_model(model, full_check=True)
    return model


def input_text(trained: TrainedNetwork) -> str:
    """Return what the model's input is: its unit, and its columns where they have names."""
    scale, columns = trained.experiment.input_scale, trained.experiment.columns
    text = "Samples as the network was trained on them, any number of rows"
    if scale is None:
        text += "; where those were of dtype uint8, divided by 255."
    elif scale.grey:
        text += ": grey values from 0 to 255 divided by 255."
    else:
        text += f": numbers from {scale.low:g} to {scale.high:g}, not divided by anything."
    if columns:
        listed = ", ".join(columns) if len(columns) <= _MOST else "those of the experiment below"
        text += f" Columns: {listed}."
    return text


def _take_in(graph: Graph, trained: TrainedNetwork, offsets: NDArray[np.float64]) -> str:
    """Add what is taken off the inputs before they are rounded; return what comes of it."""
    shape = trained.network.input_shape
    name = graph.constant("input.offsets", offsets.reshape(shape))
    centred = graph.node("Sub", [INPUT, name], "input.centred")
    element = helper.np_dtype_to_tensor_dtype(trained.parameters.dtype)
    return graph.node("Cast", [centred], "input.rounded", to=element)


def _put_out(graph: Graph, x: str, scale: TargetScale | None) -> None:
    """Add the outputs, in the targets' own units, which float32 may not hold."""
    if scale is None:
        graph.node("Identity", [x], OUTPUTS)
        return
    double = graph.node("Cast", [x], "targets.standardised", to=TensorProto.DOUBLE)
    deviation = graph.constant("targets.deviation", np.array(scale.deviation, np.float64))
    scaled = graph.node("Mul", [double, deviation], "targets.scaled")
    graph.node("Add", [scaled, graph.constant("targets.mean", np.array(scale.mean))], OUTPUTS)


def _value(name: str, element: int, shape: tuple[int, ...], text: str) -> Any:
    return helper.make_tensor_value_info(name, element, [_ROWS, *shape], doc_string=text)


def _metadata(trained: TrainedNetwork) -> dict[str, str]:
    return {
        "digest": digest(trained.parameters),
        "experiment": to_toml(trained.experiment),
        "class_names": json.dumps(trained.class_names),
        "dtype": str(np.dtype(trained.experiment.dtype)),
    }
