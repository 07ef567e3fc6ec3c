"""Slips in dropout and batch normalisation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gradcheck.own.bugs.planting import backward, behind, bug, one, unchanged
from tests.gradcheck.own.layers import Array, BatchNorm, Dropout


@bug
def dropout_not_backward(network: Any, random: np.random.Generator) -> bool:
    return backward(one(network, random, Dropout), unchanged)


@bug
def dropout_drawn_anew(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> Array:
        return dy * (np.random.rand(*dy.shape) > layer.ratio) * layer.scale

    return backward(one(network, random, Dropout), wrong)


@bug
def dropout_scaled_otherwise(network: Any, random: np.random.Generator) -> bool:
    return backward(
        one(network, random, Dropout), lambda layer, dy: dy * layer.mask / (1 - layer.ratio)
    )


@bug
def mean_taken_for_constant(network: Any, random: np.random.Generator) -> bool:
    def change(layer: Any, dy: Array) -> Array:
        dxn = layer.gamma * dy
        return (dxn - layer.xn * (dxn * layer.xn).mean(axis=0)) / layer.std

    return normalised(one(network, random, BatchNorm), change)


@bug
def variance_taken_for_constant(network: Any, random: np.random.Generator) -> bool:
    def change(layer: Any, dy: Array) -> Array:
        dxn = layer.gamma * dy
        return (dxn - dxn.mean(axis=0)) / layer.std

    return normalised(one(network, random, BatchNorm), change)


def normalised(layer: Any, change: Callable[[Any, Array], Array]) -> bool:
    """Let a batch norm return another gradient of its input, while it trains."""

    def wrong(self: Any, dy: Array) -> Array:
        found = BatchNorm.backward(self, dy)
        return change(self, dy) if self.training else found

    return backward(layer, wrong)


@bug
def gamma_of_what_is_not_normalised(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> None:
        layer.dgamma = (dy * layer.x).sum(axis=0)

    return behind(one(network, random, BatchNorm), wrong)
