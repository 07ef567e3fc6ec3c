"""ONNX models: what other programs compute with them is what the network computes."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnx
import pytest
from msgspec import structs
from onnx.reference import ReferenceEvaluator

from dptrain.arithmetic.digest import digest
from dptrain.data.scale import Scale
from dptrain.errors import UsageError
from dptrain.experiment.defaults import settle
from dptrain.experiment.files import parse_toml
from dptrain.experiment.schema import Experiment
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.composite import Chain, Residual
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.dropout import Dropout
from dptrain.nn.initializers import Normal
from dptrain.nn.layer import Layer
from dptrain.nn.layernorm import LayerNorm
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.normalise import Normalise
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from dptrain.nn.rectifiers import LeakyReLU, Softplus
from dptrain.onnx_export.check import OnnxComparison, compared, run_model
from dptrain.onnx_export.layers import WRITERS
from dptrain.onnx_export.model import onnx_model
from dptrain.trained import TrainedNetwork, load_run
from tests.commands import dptrain, result
from tests.nn.reference import ACTIVATIONS
from tests.sessions import run, write_dataset

CLASSIFY, REGRESS = "softmax-cross-entropy", "sum-of-squares"


def trained(
    layers: Sequence[AnyLayer], shape: Any, *, dtype: Any = "float32", loss: Any = CLASSIFY
) -> TrainedNetwork:
    """Return a network with random weights and biases."""
    network = Network(shape, layers)
    parameters = np.random.default_rng(0).standard_normal(network.size).astype(dtype)
    names = ("cat", "dog", "emu") if loss == CLASSIFY else ()
    settled = settle(Experiment(dtype=dtype, loss=loss, layers=[]), 1, len(names), 100, "")
    return TrainedNetwork(network, parameters, settled, names)


def by_reference(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """Return a model's outputs as ONNX's own, slow, implementation computes them."""
    return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, {"input": x})]


IMAGES: list[AnyLayer] = [
    Normalise(),
    Conv2D(4, (3, 2), (1, 2), (2, 1)),
    BatchNorm(epsilon=0.01),
    MaxPool2D(2, 1),
    Residual([Conv2D(4, 1), LeakyReLU(0.1)]),
    LayerNorm(),
    AvgPool2D((2, 1)),
    Chain([Flatten(), Dropout(0.5)]),
    Residual([Dense(3), Softplus()], [Dense(3)]),
]


@pytest.mark.parametrize("shape", [(7, 8), (7, 8, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_of_images(shape: tuple[int, ...], dtype: str) -> None:
    network = trained(IMAGES, shape, dtype=dtype)
    network.weights["batchnorm1.variance"][...] = [0.5, 1, 2, 3]
    network.weights["normalise1.scale"][...] = 2.5
    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]
    model = onnx_model(network)
    for rows in (1, 5):
        x = np.random.default_rng(rows).standard_normal((rows, *shape)).astype(dtype)
        expected = network.outputs(x)
        np.testing.assert_allclose(by_reference(model, x)[0], expected, atol=tolerance)
        if dtype == "float64":  # of which onnxruntime has no convolution
            with pytest.raises(UsageError, match=r"Conv\(11\).*train with --dtype float32"):
                run_model(model.SerializeToString(), x)
        else:
            found = run_model(model.SerializeToString(), x)
            np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_activations(layer: AnyLayer) -> None:
    network = trained([Dense(7, Normal(1)), layer, Dense(3)], 4)
    x = np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32)
    expected = network.outputs(x)
    model = onnx_model(network)
    np.testing.assert_allclose(by_reference(model, x)[0], expected, atol=2e-5)
    np.testing.assert_allclose(run_model(model.SerializeToString(), x), expected, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [Sigmoid(), ReLU(), Tanh(), Identity()])
def test_every_layer_computes_the_same(activation: AnyLayer, dtype: str) -> None:
    layers: list[AnyLayer] = [
        Flatten(),
        Dense(7, Normal(1)),
        activation,
        Dense(3),
        activation,
        activation,
    ]
    network = trained(layers, (4, 5), dtype=dtype)
    model = onnx_model(network)
    tolerance = {"float32": 2e-5, "float64": 1e-13}[dtype]
    for rows in (1, 13):
        x = np.random.default_rng(rows).standard_normal((rows, 4, 5)).astype(dtype)
        expected, probabilities = network.outputs(x), network.predict(x)
        found = by_reference(model, x)
        assert [y.dtype for y in found] == [np.dtype(dtype)] * 2
        np.testing.assert_allclose(found[0], expected, atol=tolerance)
        np.testing.assert_allclose(found[1], probabilities, atol=tolerance)
        data = model.SerializeToString()
        np.testing.assert_allclose(run_model(data, x), expected, atol=tolerance)
        found_there = run_model(data, x, "probabilities")
        np.testing.assert_allclose(found_there, probabilities, atol=tolerance)


def test_layers_that_do_nothing_alone() -> None:
    network = trained([Identity(), Dense(2), Identity()], 3, loss=REGRESS)
    x = np.ones((2, 3), np.float32)
    (found,) = by_reference(onnx_model(network), x)
    np.testing.assert_allclose(found, network.outputs(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "columns", "words"),
    [
        (Scale(0, 255, whole=True, grey=True), None, ": grey values from 0 to 255 divided by 255."),
        (Scale(0, 255, whole=True), None, ": numbers from 0 to 255, not divided by anything."),
        (Scale(-1, 2.5), list("abcd"), "from -1 to 2.5, not divided by anything. Columns: a, b, c"),
        (Scale(0, 1), [f"p{i}" for i in range(30)], "Columns: those of the experiment below."),
        (None, None, "; where those were of dtype uint8, divided by 255."),
    ],
)
def test_the_unit_of_the_input_is_that_of_training(
    scale: Scale | None, columns: list[str] | None, words: str
) -> None:
    network = trained([Flatten(), Dense(3)], (4, 5))
    experiment = msgspec.structs.replace(network.experiment, input_scale=scale, columns=columns)
    model = onnx_model(replace(network, experiment=experiment))
    assert words in model.doc_string
    assert words in model.graph.input[0].doc_string


def test_what_the_model_says_of_itself() -> None:
    network = trained([Flatten(), Dense(3)], (4, 5))
    model = onnx.load_from_string(onnx_model(network).SerializeToString())
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert model.producer_name == "dptrain"
    (entry,) = model.graph.input
    assert entry.name == "input"
    assert "divided by 255" in entry.doc_string
    dims = entry.type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["rows", 4, 5]
    assert [y.name for y in model.graph.output] == ["outputs", "probabilities"]
    assert {w.name for w in model.graph.initializer} == {"dense1.W", "dense1.b"}
    about = {each.key: each.value for each in model.metadata_props}
    assert about["digest"] == digest(network.parameters)
    assert json.loads(about["class_names"]) == ["cat", "dog", "emu"]
    assert parse_toml(about["experiment"], "")["experiment"]["loss"] == CLASSIFY


def test_a_regression_has_no_probabilities() -> None:
    model = onnx_model(trained([Dense(3)], 4, loss=REGRESS))
    assert [y.name for y in model.graph.output] == ["outputs"]


def test_equal_networks_give_equal_files() -> None:
    files = {
        onnx_model(trained([Dense(3)], 4)).SerializeToString(deterministic=True) for _ in range(3)
    }
    assert len(files) == 1


def test_layers_without_a_writer_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained([Dense(4), Tanh(), Dense(3)], 4)
    others = {kind: writer for kind, writer in WRITERS.items() if kind is not Tanh}
    monkeypatch.setattr("dptrain.onnx_export.layers.WRITERS", others)
    message = "tanh1: layers of kind 'tanh' cannot be written as ONNX; .* dense, dropout, flatten"
    with pytest.raises(UsageError, match=message):
        onnx_model(network)


def test_every_layer_has_a_writer() -> None:
    assert set(WRITERS) == set(get_args(AnyLayer)) - {Chain}  # whose own layers stand in its place
    assert all(issubclass(kind, Layer) for kind in WRITERS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    run({"dataset": str(data)}, path, workers=1)
    return path


def test_a_model_of_other_weights_is_told(folder: Path) -> None:
    network, _ = load_run(folder, "last")
    model = onnx_model(network).SerializeToString()
    same = compared(model, network)
    assert same.agrees
    assert same.difference <= 1e-5
    assert (same.rows, same.data) == (41, "test rows of small")
    assert "as rounding allows" in str(same)
    other = compared(model, replace(network, parameters=network.parameters * np.float32(1.01)))
    assert not other.agrees
    assert "MORE than rounding" in str(other)
    assert not OnnxComparison(math.nan, 1.0, 1, "").agrees


def test_without_the_data_random_numbers_are_compared(folder: Path) -> None:
    network, _ = load_run(folder, "last")
    experiment = structs.replace(network.experiment, dataset="memory")
    found = compared(
        onnx_model(network).SerializeToString(), replace(network, experiment=experiment)
    )
    assert found.agrees
    assert (found.rows, found.data) == (1000, "rows of random numbers")


def test_mnist_through_onnxruntime(tmp_path: Path) -> None:
    run({"model": "mlp:784-20-10", "dataset": "mnist", "steps": 20}, tmp_path / "run", workers=1)
    target = tmp_path / "model.onnx"
    found = result("convert", tmp_path / "run", target)
    assert (found["rows"], found["data"]) == (1000, "test rows of mnist")
    assert found["difference"] <= 1e-5
    grey = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)
    network, _ = load_run(tmp_path / "run", "last")
    scaled = grey.astype(np.float32) / np.float32(255)
    probabilities = run_model(target.read_bytes(), scaled, "probabilities")
    np.testing.assert_allclose(network.predict(grey), probabilities, atol=1e-5)


def test_a_compressed_model_and_the_table(folder: Path, tmp_path: Path) -> None:
    small, target = tmp_path / "small.npz", tmp_path / "small.onnx"
    result("compress", folder, "--bits", 8, "--out", small)
    done = dptrain("convert", small, target)
    assert done.returncode == 0, done.stderr
    assert "onnxruntime differs by" in done.stdout
    about = {each.key: each.value for each in onnx.load(target).metadata_props}
    assert about["digest"] == result("evaluate", small)["digest"]


def test_without_the_extra(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('none', name='onnx')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = dptrain("convert", folder, tmp_path / "a.onnx", env=environment)
    assert done.returncode == 2
    assert "the package onnx is needed" in done.stderr
    assert "dptrain[onnx]" in done.stderr
    assert dptrain("convert", folder, tmp_path / "a.npz", env=environment).returncode == 0
