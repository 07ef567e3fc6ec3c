"""Networks as descriptions: shapes, names, the layout of the flat vector, plain data, mistakes."""

import json
import math
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.initializers import He, Normal, Xavier, Zeros
from dptrain.nn.network import AnyLayer, Network, layers_from

LAYERS: list[AnyLayer] = [Flatten(), Dense(5, He()), ReLU(), Dense(3, Normal(0.5)), Sigmoid()]
EVERY_LAYER = [*LAYERS, Tanh(), Identity(), Dense(2, Xavier()), Dense(4, Zeros()), ReLU()]


def test_shapes_names_and_places() -> None:
    network = Network((2, 3), LAYERS)
    assert network.names == ("flatten1", "dense1", "relu1", "dense2", "sigmoid1")
    assert network.shapes == [(2, 3), (6,), (5,), (5,), (3,), (3,)]
    assert (network.input_shape, network.output_shape) == ((2, 3), (3,))
    assert [(t.name, t.shape, t.start, t.stop, t.decays) for t in network.all_tensors()] == [
        ("dense1.W", (6, 5), 0, 30, True),
        ("dense1.b", (5,), 30, 35, False),
        ("dense2.W", (5, 3), 35, 50, True),
        ("dense2.b", (3,), 50, 53, False),
    ]
    assert [len(own) for own in network.tensors] == [0, 2, 0, 2, 0]
    assert network.size == 53


def test_an_int_is_the_length_of_flat_samples() -> None:
    assert Network(6, [Dense(2)]).shapes == Network([6], [Dense(2)]).shapes == [(6,), (2,)]


def test_layers_of_one_kind_are_counted() -> None:
    names = Network(2, [Dense(1), Tanh(), Dense(1), ReLU(), Tanh(), Dense(1)]).names
    assert names == ("dense1", "tanh1", "dense2", "relu1", "tanh2", "dense3")


@given(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_tensors_follow_each_other_without_gap(fan_in: int, units: list[int]) -> None:
    network = Network(fan_in, [Dense(n) for n in units])
    tensors = network.all_tensors()
    assert tensors[0].start == 0
    assert all(before.stop == after.start for before, after in pairwise(tensors))
    assert tensors[-1].stop == network.size
    assert network.size == sum(i * n + n for i, n in pairwise([fan_in, *units]))
    assert all(t.stop - t.start == math.prod(t.shape) for t in tensors)
    assert len({t.name for t in tensors}) == 2 * len(units)


def test_views_are_the_flat_vector_by_name() -> None:
    network = Network((2, 3), LAYERS)
    flat = np.arange(53.0)
    views = network.views(flat)
    assert list(views) == ["dense1.W", "dense1.b", "dense2.W", "dense2.b"]
    assert views["dense1.W"][1].tolist() == [5, 6, 7, 8, 9]
    assert views["dense2.b"].tolist() == [50, 51, 52]
    views["dense2.W"][0, 1] = -1
    assert flat[36] == -1


def test_a_description_makes_the_same_layers() -> None:
    network = Network((2, 3), EVERY_LAYER)
    assert layers_from(network.description()) == network.layers == tuple(EVERY_LAYER)
    for packed in (
        json.loads(json.dumps(network.description())),
        msgspec.msgpack.decode(msgspec.msgpack.encode(network.description())),
    ):
        again = Network((2, 3), layers_from(packed))
        assert again.layers == network.layers
        assert again.tensors == network.tensors


def test_a_description_says_everything() -> None:
    assert Network((2, 3), LAYERS).description() == [
        {"layer": "flatten"},
        {"layer": "dense", "units": 5, "init": {"init": "he"}},
        {"layer": "relu"},
        {"layer": "dense", "units": 3, "init": {"init": "normal", "std": 0.5}},
        {"layer": "sigmoid"},
    ]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (
            [{"layer": "relu"}, {"layer": "dnse", "units": 3}],
            r"'dnse'; did you mean 'dense'.* - at `\$\[1\]\.layer`",
        ),
        ([{"units": 3}], r"required field `layer` - at `\$\[0\]`"),
        ([{"layer": "dense"}], r"required field `units` - at `\$\[0\]`"),
        ([{"layer": "dense", "units": 0}], r">= 1 - at `\$\[0\]\.units`"),
        ([{"layer": "dense", "units": "3"}], r"`int`, got `str` - at `\$\[0\]\.units`"),
        ([{"layer": "dense", "units": 2.5}], r"`int`, got `float` - at `\$\[0\]\.units`"),
        ([{"layer": "dense", "units": True}], r"`int`, got `bool` - at `\$\[0\]\.units`"),
        ([{"layer": "dense", "units": 3, "size": 1}], r"unknown field `size` - at `\$\[0\]`"),
        ([{"layer": "relu", "units": 3}], r"unknown field `units` - at `\$\[0\]`"),
        ([{"layer": "dense", "units": 3, "init": {"init": "hee"}}], r"'hee' - at .*\.init\.init`"),
        (
            [{"layer": "dense", "units": 3, "init": {"init": "normal", "std": -1}}],
            r">= 0.0 - at `\$\[0\]\.init\.std`",
        ),
        (
            [{"layer": "dense", "units": 3, "init": {"init": "normal", "std": math.inf}}],
            r"init_std=inf is not a standard deviation.* - at `\$\[0\]\.init`",
        ),
        ([{"layer": "dense", "units": 3, "init": {"init": "he", "std": 1}}], "unknown field `std`"),
        ([3], r"got `int` - at `\$\[0\]`"),
        ("dense", "`array`, got `str`"),
        (None, "`array`, got `null`"),
    ],
)
def test_bad_descriptions_name_what_is_wrong_and_where(description: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"^layers: .*{message}"):
        layers_from(description)


@pytest.mark.parametrize(
    "shape", [0, -1, (), (2, 0), (2, -3), True, (2, True), 2.5, (2.5,), "3", None]
)
def test_a_shape_has_axes_of_at_least_one(shape: Any) -> None:
    with pytest.raises(UsageError, match=r"^input_shape=.* needs axes of at least 1") as caught:
        Network(shape, [Dense(3)])
    assert repr(shape) in str(caught.value)


def test_a_network_has_layers_and_parameters() -> None:
    with pytest.raises(UsageError, match=r"at least one layer$"):
        Network(3, [])
    with pytest.raises(UsageError, match="with parameters, such as Dense"):
        Network(3, [Sigmoid(), Identity()])


@pytest.mark.parametrize("wrong", [Dense, "dense", None, {"layer": "relu"}])
def test_what_is_no_layer_is_named(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"is not a layer; give objects such as") as caught:
        Network(3, [Dense(3), wrong])
    assert repr(wrong) in str(caught.value)


def test_a_layer_that_does_not_fit_is_named_with_its_remedy() -> None:
    message = r"^dense1: .* not samples of shape \(2, 2\); put a Flatten layer before it$"
    with pytest.raises(ShapeError, match=message):
        Network((2, 2), [Sigmoid(), Dense(3), Dense(2)])


def test_samples_must_fit() -> None:
    network = Network((2, 3), LAYERS)
    network.check_input((2, 3))
    for shape in ((6,), (3, 2), (2, 3, 1), ()):
        with pytest.raises(ShapeError, match=r"takes samples of shape \(2, 3\), but .* has") as e:
            network.check_input(shape)
        assert str(shape) in str(e.value)
