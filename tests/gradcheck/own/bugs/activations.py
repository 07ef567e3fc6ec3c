"""Slips in the derivatives of activations."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gradcheck.own.bugs.planting import backward, bug, method, one, unchanged
from tests.gradcheck.own.layers import (
    Abs,
    Array,
    Clip,
    LeakyRelu,
    Masked,
    Relu,
    Sigmoid,
    Softplus,
    Tanh,
    TopK,
)
from tests.gradcheck.own.networks import TwoLayers


def by_hand(network: Any, slope: Callable[[Array], Any]) -> bool:
    """Let a network written by hand have another derivative of its activation."""
    return method(network, "slope", lambda _, h: slope(h))


def sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


@bug
def derivative_missing(network: Any, random: np.random.Generator) -> bool:
    if isinstance(network, TwoLayers):
        return by_hand(network, np.ones_like)
    return backward(one(network, random, Masked, Sigmoid, Tanh, Softplus), unchanged)


@bug
def mask_inverted(network: Any, random: np.random.Generator) -> bool:
    if isinstance(network, TwoLayers):
        return network.activation == "relu" and by_hand(network, lambda h: h <= 0)

    def wrong(layer: Any, dy: Array) -> Array:
        if isinstance(layer, LeakyRelu):
            return dy * np.where(layer.slope == 1, layer.leak, 1)
        return dy * (-layer.slope if isinstance(layer, Abs) else 1 - layer.slope)

    return backward(one(network, random, Relu, LeakyRelu, Abs, Clip, TopK), wrong)


@bug
def mask_of_another_layer(network: Any, random: np.random.Generator) -> bool:
    masked = [each for each in getattr(network, "layers", []) if isinstance(each, Masked)]
    if len(masked) < 2:
        return False
    first: Any = masked[0]
    first.other = masked[1]

    def wrong(layer: Any, dy: Array) -> Array:
        fits = layer.slope.shape == layer.other.slope.shape
        return dy * (layer.other.slope if fits else layer.slope)

    return backward(first, wrong)


@bug
def derivative_of_another_activation(network: Any, random: np.random.Generator) -> bool:
    if isinstance(network, TwoLayers):
        tanh = network.activation == "tanh"
        return by_hand(network, lambda h: h * (1 - h) if tanh else 1 - h**2)

    def wrong(layer: Any, dy: Array) -> Array:
        if isinstance(layer, Softplus):
            return dy * (1 - sigmoid(layer.x))
        out = layer.out
        return dy * (1 - out**2 if isinstance(layer, Sigmoid) else out * (1 - out))

    return backward(one(network, random, Sigmoid, Tanh, Softplus), wrong)


@bug
def derivative_at_the_output(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> Array:
        if isinstance(layer, Sigmoid):
            return dy * sigmoid(layer.out) * (1 - sigmoid(layer.out))
        return dy * (1 - np.tanh(layer.out) ** 2)

    return backward(one(network, random, Sigmoid, Tanh), wrong)


@bug
def leak_forgotten(network: Any, random: np.random.Generator) -> bool:
    return backward(one(network, random, LeakyRelu), lambda layer, dy: dy * (layer.slope == 1))


@bug
def sign_of_abs_forgotten(network: Any, random: np.random.Generator) -> bool:
    return backward(one(network, random, Abs), unchanged)


@bug
def passes_outside_the_clip(network: Any, random: np.random.Generator) -> bool:
    return backward(one(network, random, Clip), unchanged)


@bug
def not_only_the_largest(network: Any, random: np.random.Generator) -> bool:
    return backward(one(network, random, TopK), unchanged)
