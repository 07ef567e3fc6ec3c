"""Slips in dense layers and their biases."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gradcheck.own.bugs.planting import backward, behind, bug, gradients, one
from tests.gradcheck.own.layers import Affine, Array


@bug
def weights_transposed(network: Any, random: np.random.Generator) -> bool:
    square = [k for k, p in network.params.items() if p.ndim == 2 and p.shape[0] == p.shape[1]]
    if not square:
        return False
    key = square[random.integers(len(square))]
    return gradients(network, lambda _, found, __: found | {key: found[key].T})


@bug
def product_transposed(network: Any, random: np.random.Generator) -> bool:
    layers = getattr(network, "layers", [])[1:]
    square = [e for e in layers if isinstance(e, Affine) and len(set(e.W.shape)) == 1]
    if not square:
        return False
    layer = square[random.integers(len(square))]

    def wrong(layer: Any, dy: Array) -> Array:
        Affine.backward(layer, dy)
        return np.dot(dy, layer.W).reshape(layer.shape)

    return backward(layer, wrong)


def of_bias(network: Any, random: np.random.Generator, change: Callable[..., Array]) -> bool:
    keys = [key for key in network.params if key[0] == "b" and key[:4] != "beta"]
    key = keys[random.integers(len(keys))]
    return gradients(network, lambda _, found, n: found | {key: change(found[key], n)})


@bug
def bias_missing(network: Any, random: np.random.Generator) -> bool:
    return of_bias(network, random, lambda db, _: 0 * db)


@bug
def bias_is_a_mean(network: Any, random: np.random.Generator) -> bool:
    return of_bias(network, random, lambda db, n: db / n)


@bug
def bias_of_the_first_row(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> None:
        layer.db = dy[0]

    return behind(one(network, random, Affine), wrong)


@bug
def rows_in_another_order(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> None:
        layer.dW = np.dot(layer.x[::-1].T, dy)

    return behind(one(network, random, Affine), wrong)


@bug
def last_row_forgotten(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> None:
        layer.dW = np.dot(layer.x[:-1].T, dy[:-1])

    return behind(one(network, random, Affine), wrong)


@bug
def earlier_layers_forgotten(network: Any, random: np.random.Generator) -> bool:
    later = [e for e in getattr(network, "layers", [])[1:] if isinstance(e, Affine)]
    if not later:
        return False
    layer = later[random.integers(len(later))]
    return backward(layer, lambda layer, dy: 0 * Affine.backward(layer, dy))


@bug
def input_of_the_call_before(network: Any, random: np.random.Generator) -> bool:
    def wrong(layer: Any, dy: Array) -> None:
        kept = getattr(layer, "kept", layer.x)
        if kept.shape == layer.x.shape:
            layer.dW = np.dot(kept.T, dy)
        layer.kept = layer.x.copy()

    return behind(one(network, random, Affine), wrong)


@bug
def weights_of_the_beginning(network: Any, random: np.random.Generator) -> bool:
    layers = getattr(network, "layers", [])[1:]
    later = [e for e in layers if isinstance(e, Affine)]
    if not later:
        return False
    layer: Any = later[random.integers(len(later))]
    layer.first = layer.W.copy()

    def wrong(layer: Any, dy: Array) -> Array:
        Affine.backward(layer, dy)
        return np.dot(dy, layer.first.T).reshape(layer.shape)

    return backward(layer, wrong)
