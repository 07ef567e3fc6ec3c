"""Weights as small integers: symmetric quantisation with a scale for each output channel."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.nn.network import Network

BITS = range(2, 9)
# A scale has no more significant bits than this, so that its product with a whole number of up to
# 8 bits is exact in float32, which has 24: what is restored is q · s itself, and quantising it
# again changes nothing. It makes scales larger by at most one part in 32,768.
SCALE_BITS = 16


class Quantised(NamedTuple):
    """A tensor ``W ≈ q · s``.

    Attributes:
        values: q, int8, in the shape of W.
        scales: s, in the dtype of W, one for each index of its last axis.
    """

    values: NDArray[np.int8]
    scales: NDArray[Any]

    def restored(self) -> NDArray[Any]:
        """Return ``q · s``, exact, in the dtype of the scales."""
        restored: NDArray[Any] = self.values * self.scales
        return restored


def quantise(W: NDArray[Any], bits: int = 8) -> Quantised:
    """Return ``q = round(W / s)`` with ``s = max |W| / (2^(bits-1) - 1)`` of each output channel.

    Symmetric: zero stays zero, so pruned weights stay pruned. ``|W - q s| ≤ s / 2``.
    Jacob et al. 2018, section 3, with a scale for each channel (Krishnamoorthi 2018, section 3.1.3)
    and rounded up to `SCALE_BITS` bits.

    Args:
        W: float32 or float64, output channels on its last axis.
        bits: 2 to 8, sign included.

    Raises:
        UsageError: another number of bits.
    """
    if bits not in BITS:
        raise UsageError(f"bits={bits} must be {BITS[0]} to {BITS[-1]}")
    largest = 2 ** (bits - 1) - 1
    exact = W.astype(np.float64)
    peaks = np.abs(exact).max(axis=tuple(range(W.ndim - 1)), initial=0)
    scales = _rounded_up(peaks / largest).astype(W.dtype)
    # A channel of zeros has the scale 0, and so has one too small for a scale in this dtype.
    whole = np.rint(exact / np.where(scales == 0, np.inf, scales))
    return Quantised(np.clip(whole, -largest, largest).astype(np.int8), scales)


def quantise_weights(
    network: Network, parameters: NDArray[Any], bits: int = 8
) -> tuple[NDArray[Any], dict[str, Quantised]]:
    """Quantise the weights in a flat vector; biases stay as they are.

    Returns:
        The flat vector with the weights restored, and the quantised tensors by name.
    """
    restored = parameters.copy()
    found = {}
    for tensor in network.all_tensors():
        if tensor.decays:
            span = slice(tensor.start, tensor.stop)
            found[tensor.name] = quantise(parameters[span].reshape(tensor.shape), bits)
            restored[span] = found[tensor.name].restored().reshape(-1)
    return restored, found


def _rounded_up(values: NDArray[np.float64]) -> NDArray[np.float64]:
    mantissas, exponents = np.frexp(values)
    whole = np.ceil(np.ldexp(mantissas, SCALE_BITS))
    rounded: NDArray[np.float64] = np.ldexp(whole, exponents - SCALE_BITS)
    return rounded
