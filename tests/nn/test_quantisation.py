"""Quantisation: errors of at most half a step, exact values back, nothing lost by repeating it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dptrain.errors import UsageError
from dptrain.nn.activations import ReLU
from dptrain.nn.dense import Dense
from dptrain.nn.network import Network
from dptrain.nn.quantisation import quantise, quantise_weights

BITS = st.integers(2, 8)


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """Draw weights of 1 to 4 axes, of very different sizes, many of them zero."""
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    magnitude = st.floats(2.0**-60, 2.0**60, width=32)
    value = st.one_of(st.just(0.0), magnitude, magnitude.map(lambda v: -v))
    return draw(
        hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5), elements=value)
    )


def test_a_worked_example() -> None:
    W = np.array([[1.0, -0.25], [-127.0, 0.5], [63.4, 0.0]], np.float32)
    found = quantise(W)
    assert found.values.dtype == np.int8
    np.testing.assert_array_equal(found.values[:, 0], [1, -127, 63])
    np.testing.assert_array_equal(found.values[:, 1], [-63, 127, 0])  # -63.5 of a scale rounded up
    np.testing.assert_allclose(found.scales, [1, 0.5 / 127], rtol=2**-15)
    assert found.scales.dtype == np.float32


@given(weights(), BITS)
def test_the_error_is_at_most_half_a_step(W: np.ndarray, bits: int) -> None:
    found = quantise(W, bits)
    restored = found.restored()
    assert restored.dtype == W.dtype
    steps = found.scales.astype(np.float64)
    exact = found.values * steps
    np.testing.assert_array_equal(restored, exact)
    error = np.abs(W.astype(np.float64) - exact)
    assert np.all(error <= steps / 2 * (1 + 1e-12))
    limit = 2 ** (bits - 1) - 1
    assert np.abs(found.values.astype(int)).max() <= limit
    peaks = np.abs(W).max(axis=tuple(range(W.ndim - 1)))
    assert np.all(steps >= peaks / limit * (1 - 1e-6))
    assert np.all(steps <= peaks / limit * (1 + 2**-14))


@given(weights(), BITS)
def test_quantising_again_changes_nothing(W: np.ndarray, bits: int) -> None:
    once = quantise(W, bits)
    twice = quantise(once.restored(), bits)
    np.testing.assert_array_equal(twice.values, once.values, strict=True)
    np.testing.assert_array_equal(twice.scales, once.scales, strict=True)


@pytest.mark.parametrize("tiny", [0.0, 1e-45, 1e-40])
def test_channels_too_small_for_a_scale(tiny: float) -> None:
    W = np.array([[tiny, 1.0], [-tiny, 2.0]], np.float32)
    found = quantise(W)
    assert np.all(np.abs(found.restored()[:, 0]) <= abs(tiny) * 1.01)
    np.testing.assert_array_equal(found.values[:, 1], [63, 127])


def test_biases_stay_and_pruned_weights_stay_pruned() -> None:
    network = Network(4, [Dense(6), ReLU(), Dense(2)])
    flat: Any = np.random.default_rng(0).standard_normal(network.size).astype(np.float32)
    network.views(flat)["dense1.W"][1] = 0
    restored, found = quantise_weights(network, flat)
    before, after = network.views(flat), network.views(restored)
    assert list(found) == ["dense1.W", "dense2.W"]
    for name, tensor in after.items():
        expected = found[name].restored() if name in found else before[name]
        np.testing.assert_array_equal(tensor, expected, strict=True)
    assert not after["dense1.W"][1].any()
    assert not np.array_equal(after["dense1.W"], before["dense1.W"])


@pytest.mark.parametrize("bits", [1, 9, 0, -8])
def test_other_numbers_of_bits(bits: int) -> None:
    with pytest.raises(UsageError, match=f"bits={bits} must be 2 to 8"):
        quantise(np.ones((2, 2)), bits)
