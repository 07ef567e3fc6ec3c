"""Slips in convolution and pooling."""

from typing import Any

import numpy as np

from tests.gradcheck.own.bugs.planting import backward, behind, bug, one
from tests.gradcheck.own.images import Convolution, LoopConvolution, MaxPool
from tests.gradcheck.own.layers import Array


@bug
def all_ties_of_a_pool(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> Array:
        ties = layer.windows == layer.windows.max(axis=-1, keepdims=True)
        return layer.spread(ties * dy[..., None])

    return backward(one(network, random, MaxPool), wrong)


@bug
def first_place_of_a_pool(network: Any, random: np.random.Generator) -> bool:
    return backward(
        one(network, random, MaxPool),
        lambda layer, dy: layer.spread(np.array([1.0, 0, 0, 0]) * dy[..., None]),
    )


@bug
def mean_of_a_pool(network: Any, random: np.random.Generator) -> bool:
    return backward(
        one(network, random, MaxPool),
        lambda layer, dy: layer.spread(np.full(4, 0.25) * dy[..., None]),
    )


@bug
def kernels_turned(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> None:
        layer.dW = layer.dW[..., ::-1, ::-1]

    return behind(one(network, random, Convolution, LoopConvolution), wrong)


@bug
def kernels_with_axes_exchanged(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> None:
        layer.dW = np.swapaxes(layer.dW, 2, 3)

    return behind(one(network, random, Convolution, LoopConvolution), wrong)
