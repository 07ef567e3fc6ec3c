"""The layer that normalises inputs: its definition, and what it does not compute."""

from typing import Any

import msgspec
import numpy as np
import pytest

from dptrain.nn.dense import Dense, DenseOperation, Flatten
from dptrain.nn.network import Network, layers_from
from dptrain.nn.normalise import Normalise
from tests.nn.build import problem


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [12, 13])
def test_the_definition(rows: int, dtype: str) -> None:
    task = problem([Normalise(), Flatten(), Dense(3)], (4, 5), rows, labels=True, dtype=dtype)
    views = task.network.views(task.parameters)
    views["normalise1.scale"][...] = np.linspace(0.1, 3, 20).reshape(4, 5)
    found = task.filled(4)
    found.infer()
    y = np.concatenate([y.reshape(-1, 4, 5) for y in found.operations[0].operation.outputs])
    expected = (task.x - views["normalise1.shift"]) / views["normalise1.scale"]
    np.testing.assert_array_equal(y, expected, strict=True)
    inputs = np.concatenate([x.reshape(-1, 4, 5) for x in found.inputs])
    np.testing.assert_array_equal(inputs, task.x, strict=True)


def test_constants_are_not_trained_and_nothing_is_computed_for_them() -> None:
    task = problem([Normalise("minmax"), Dense(3)], 5, 8, labels=True)
    tensors = task.network.tensors[0]
    assert [t.name for t in tensors] == ["normalise1.shift", "normalise1.scale"]
    assert all(t.frozen and not t.trained and not t.decays for t in tensors)
    found = task.filled(2)
    assert [bound.learns for bound in found.operations] == [False, True]
    dense = found.operations[1].operation
    assert isinstance(dense, DenseOperation)
    assert dense.input_gradients == []
    gradient = task.gradient(2)
    assert not gradient[:10].any()
    np.testing.assert_allclose(gradient[10:], task.differences(2)[10:], rtol=1e-6, atol=1e-9)


def test_the_way_back() -> None:
    # below it a layer that learns, which a trained network never has
    task = problem([Dense(4), Normalise(), Dense(3)], 5, 8, labels=True)
    task.network.views(task.parameters)["normalise1.scale"][...] = [0.5, 1, 2, 3]
    dense = task.network.tensors[0]
    part = slice(dense[0].start, dense[-1].stop)
    np.testing.assert_allclose(task.gradient(2)[part], task.differences(2)[part], rtol=1e-6)


def test_it_is_described_as_plain_data() -> None:
    described: list[dict[str, Any]] = [{"layer": "normalise", "method": "minmax"}]
    network = Network(3, [*layers_from(described), Dense(1)])
    assert network.layers[0] == Normalise("minmax")
    assert msgspec.to_builtins(network.layers[0]) == described[0]
    flat = network.initial_parameters(0, np.dtype("float64"))
    assert flat[:6].tolist() == [0, 0, 0, 1, 1, 1]
