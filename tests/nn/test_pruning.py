"""Magnitude pruning: exactly the smallest weights become zero, and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.errors import UsageError
from dptrain.nn.activations import ReLU
from dptrain.nn.dense import Dense
from dptrain.nn.network import Network
from dptrain.nn.pruning import prune, weight_places

NETWORK = Network(5, [Dense(7), ReLU(), Dense(3)])
WEIGHTS = 5 * 7 + 7 * 3


def parameters(seed: int) -> np.ndarray:
    """Return a flat vector without zeros, with ties, the last layer's weights being larger."""
    random = np.random.default_rng(seed)
    flat = random.choice([-1, 1], NETWORK.size) * random.integers(1, 40, NETWORK.size) / 8
    NETWORK.views(flat)["dense2.W"][...] *= 4
    return np.asarray(flat, np.float32)


def test_a_worked_example() -> None:
    network = Network(2, [Dense(2)])
    flat = np.array([0.1, -0.4, -0.3, 0.2, 0.01, 0.02])
    np.testing.assert_array_equal(prune(network, flat, 0.5), [0, -0.4, -0.3, 0, 0.01, 0.02])


@given(st.integers(0, 1000), st.floats(0, 0.999))
def test_the_smallest_weights_of_all_layers_become_zero(seed: int, fraction: float) -> None:
    flat = parameters(seed)
    pruned = prune(NETWORK, flat, fraction)
    before, after = NETWORK.views(flat), NETWORK.views(pruned)
    gone = [np.abs(before[n])[after[n] == 0] for n in ("dense1.W", "dense2.W")]
    kept = [np.abs(before[n])[after[n] != 0] for n in ("dense1.W", "dense2.W")]
    assert sum(map(len, gone)) == round(fraction * WEIGHTS)
    assert np.concatenate([*gone, [0]]).max() <= np.concatenate([*kept, [np.inf]]).min()
    for name in ("dense1.b", "dense2.b"):
        np.testing.assert_array_equal(after[name], before[name])
    np.testing.assert_array_equal(pruned[pruned != 0], flat[pruned != 0])


@given(st.integers(0, 1000), st.floats(0, 0.999))
def test_pruning_again_changes_nothing(seed: int, fraction: float) -> None:
    once = prune(NETWORK, parameters(seed), fraction)
    np.testing.assert_array_equal(prune(NETWORK, once, fraction), once)


def test_the_given_vector_stays_and_nothing_is_pruned_by_zero() -> None:
    flat = parameters(0)
    before = flat.copy()
    prune(NETWORK, flat, 0.9)
    np.testing.assert_array_equal(flat, before)
    np.testing.assert_array_equal(prune(NETWORK, flat, 0), before)
    assert len(weight_places(NETWORK)) == WEIGHTS


@pytest.mark.parametrize("fraction", [-0.1, 1, 80, float("nan")])
def test_no_fraction(fraction: float) -> None:
    with pytest.raises(UsageError, match=f"prune={fraction} must be a fraction"):
        prune(NETWORK, parameters(0), fraction)
