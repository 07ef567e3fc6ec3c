"""Networks as descriptions: layout, names, plain data, initial weights, and where NaN is found."""

import numpy as np
import pytest

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.activations import ReLU, Sigmoid
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.initializers import He, Normal, Xavier, Zeros, initializer
from dptrain.nn.network import AnyLayer, Network, layers_from
from tests.nn.build import problem

LAYERS: list[AnyLayer] = [Flatten(), Dense(5, He()), ReLU(), Dense(3, Normal(0.5)), Sigmoid()]


def test_tensors_follow_each_other_in_the_flat_vector() -> None:
    network = Network((2, 3), LAYERS)
    assert network.names == ("flatten1", "dense1", "relu1", "dense2", "sigmoid1")
    assert [(t.name, t.shape, t.start, t.stop, t.decays) for t in network.all_tensors()] == [
        ("dense1.W", (6, 5), 0, 30, True),
        ("dense1.b", (5,), 30, 35, False),
        ("dense2.W", (5, 3), 35, 50, True),
        ("dense2.b", (3,), 50, 53, False),
    ]
    assert network.size == 53
    assert network.output_shape == (3,)


def test_a_description_makes_the_same_layers() -> None:
    network = Network((2, 3), LAYERS)
    assert layers_from(network.description()) == network.layers


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ([{"layer": "dnse", "units": 3}], "dnse"),
        ([{"layer": "dense", "units": 0}], "units"),
        ([{"layer": "dense", "units": 3, "size": 1}], "size"),
        ([{"layer": "dense"}], "units"),
    ],
)
def test_bad_descriptions_name_what_is_wrong(description: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        layers_from(description)


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one layer"):
        Network(3, [])
    with pytest.raises(UsageError, match="with parameters"):
        Network(3, [Sigmoid()])
    with pytest.raises(ShapeError, match=r"dense1: .*\(2, 2\).*Flatten"):
        Network((2, 2), [Dense(3)])
    with pytest.raises(UsageError, match="at least 1 unit"):
        Dense(0)
    with pytest.raises(UsageError, match="input_shape"):
        Network(0, [Dense(3)])


@pytest.mark.parametrize(
    ("init", "std"),
    [(Normal(0.3), 0.3), (Xavier(), np.sqrt(2 / 700)), (He(), np.sqrt(2 / 400)), (Zeros(), 0.0)],
)
def test_initial_weights_have_the_stated_deviation(init: object, std: float) -> None:
    network = Network(400, [Dense(300, init)])  # type: ignore[arg-type]
    weights = network.views(network.initial_parameters(1, np.dtype("float64")))
    assert weights["dense1.W"].std() == pytest.approx(std, rel=0.02)
    assert not weights["dense1.b"].any()


def test_initial_weights_depend_on_seed_and_layer_alone() -> None:
    network = Network(4, [Dense(4, Normal(1.0)), Dense(4, Normal(1.0))])
    double = network.initial_parameters(7, np.dtype("float64"))
    single = network.initial_parameters(7, np.dtype("float32"))
    np.testing.assert_array_equal(double.astype(np.float32), single)
    first, second = (network.views(double)[f"dense{i}.W"] for i in (1, 2))
    assert not np.array_equal(first, second)
    assert not np.array_equal(double, network.initial_parameters(8, np.dtype("float64")))


def test_initializers_by_name() -> None:
    assert initializer("glorot") == initializer("xavier") == Xavier()
    assert initializer("normal", 0.2) == Normal(0.2)
    with pytest.raises(UsageError, match="did you mean 'xavier'"):
        initializer("xavir")


def test_the_first_bad_number_is_found() -> None:
    task = problem([Dense(4), ReLU(), Dense(3)], 5, 8, labels=True)
    found = task.filled(4)
    assert found.trouble() is None
    found.inputs[0][5, 2] = np.nan
    assert found.trouble() == (2, "input", "value")
    found = task.filled(4)
    task.parameters[24] = np.inf
    assert found.trouble() == (0, "dense2", "weights")
    task.parameters[24] = 1.0
    task.parameters[:20] = 1e200
    task.parameters[24:36] = 1e200
    found.inputs[0][...] = 1.0
    with np.errstate(all="ignore"):
        assert found.trouble() == (0, "dense2", "output")
