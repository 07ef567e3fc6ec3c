"""Initial weights: their distribution, and what they do and do not depend on."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.nn.activations import ReLU
from dptrain.nn.dense import Dense
from dptrain.nn.initializers import He, Initializer, Normal, Xavier, Zeros, draw, initializer
from dptrain.nn.network import AnyLayer, Network

FAN_IN, FAN_OUT = 400, 300
DOUBLE, SINGLE = np.dtype("float64"), np.dtype("float32")
INITIALIZERS: dict[str, tuple[Initializer, float]] = {
    "normal": (Normal(), 0.01),
    "normal 0.3": (Normal(0.3), 0.3),
    "xavier": (Xavier(), math.sqrt(2 / (FAN_IN + FAN_OUT))),
    "he": (He(), math.sqrt(2 / FAN_IN)),
}


def initial(layers: list[AnyLayer], fan_in: int, seed: int = 1) -> dict[str, NDArray[Any]]:
    network = Network(fan_in, layers)
    return network.views(network.initial_parameters(seed, DOUBLE))


@pytest.mark.parametrize("name", list(INITIALIZERS))
def test_weights_are_normal_with_the_papers_deviation(name: str) -> None:
    init, std = INITIALIZERS[name]
    weights = initial([Dense(FAN_OUT, init)], FAN_IN)["dense1.W"] / std
    # 120,000 draws: each bound is five standard errors of what it bounds
    error = 5 / math.sqrt(weights.size)
    assert abs(weights.mean()) < error
    assert weights.std() == pytest.approx(1, abs=error / math.sqrt(2))
    for limit, share in ((1, 0.682689), (2, 0.954500), (3, 0.997300)):
        assert (np.abs(weights) < limit).mean() == pytest.approx(share, abs=0.5 * error)
    assert np.unique(weights).size == weights.size


@pytest.mark.parametrize("name", list(INITIALIZERS))
def test_biases_begin_at_zero(name: str) -> None:
    assert not initial([Dense(5, INITIALIZERS[name][0])], 3)["dense1.b"].any()


def test_zeros() -> None:
    assert not initial([Dense(5, Zeros())], 3)["dense1.W"].any()


def test_fans_are_inputs_and_outputs_not_the_other_way_round() -> None:
    wide = initial([Dense(900, He())], 100)["dense1.W"]
    assert wide.std() == pytest.approx(math.sqrt(2 / 100), rel=0.02)


@pytest.mark.parametrize("name", list(INITIALIZERS))
def test_the_dtype_changes_only_the_rounding(name: str) -> None:
    network = Network(20, [Dense(30, INITIALIZERS[name][0]), ReLU(), Dense(4)])
    double = network.initial_parameters(7, DOUBLE)
    single = network.initial_parameters(7, SINGLE)
    assert single.dtype == SINGLE
    np.testing.assert_array_equal(double.astype(np.float32), single)


def test_a_seed_gives_the_same_weights_each_time_and_another_seed_others() -> None:
    layers: list[AnyLayer] = [Dense(4), Dense(4)]
    first, again, other = (initial(layers, 4, seed) for seed in (7, 7, 8))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
        assert name.endswith(".b") or not np.isin(values, other[name]).any()


def test_layers_of_one_shape_differ() -> None:
    found = initial([Dense(4), Dense(4), Dense(4)], 4)
    weights = np.concatenate([found[f"dense{i}.W"].ravel() for i in (1, 2, 3)])
    assert np.unique(weights).size == weights.size


def test_a_layer_does_not_depend_on_those_after_it() -> None:
    short = initial([Dense(4), Dense(5)], 3)
    long = initial([Dense(4), Dense(5), ReLU(), Dense(6)], 3)
    for name, values in short.items():
        np.testing.assert_array_equal(values, long[name])


def test_draws_have_the_shape_asked_for() -> None:
    found = draw(Normal(2.0), (2, 3, 5), (6, 5), np.random.default_rng(0))
    np.testing.assert_array_equal(
        found, 2 * np.random.default_rng(0).standard_normal(30).reshape(2, 3, 5)
    )


def test_initializers_by_name() -> None:
    assert initializer("normal") == Normal(0.01)
    assert initializer("normal", 0.2) == Normal(0.2)
    assert initializer("glorot") == initializer("xavier") == Xavier()
    assert initializer("he") == He()
    assert initializer("zeros") == Zeros()
    assert initializer(Normal(0.5), 0.2) == Normal(0.5)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    known = "known are: normal, xavier, glorot, he, zeros"
    with pytest.raises(
        UsageError, match=rf"^unknown init 'xavir'; did you mean 'xavier'\? {known}$"
    ):
        initializer("xavir")
    with pytest.raises(UsageError, match=rf"^unknown init 'qqq'; {known}$"):
        initializer("qqq")


@pytest.mark.parametrize("std", [-0.1, math.nan, math.inf])
def test_a_deviation_is_not_negative_and_finite(std: float) -> None:
    with pytest.raises(
        UsageError, match=r"init_std=.* is not a standard deviation; give 0 or more"
    ):
        Normal(std)


@pytest.mark.parametrize("init", [Normal(0.5), Xavier(), He(), Zeros()])
def test_initializers_travel_as_plain_data(init: Initializer) -> None:
    assert msgspec.json.decode(msgspec.json.encode(init), type=Initializer) == init
