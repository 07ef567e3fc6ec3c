"""Realistic slips, each planted into one network of the generator's.

A bug changes the object alone: `plant` returns False where the network has no place for it. None
touches the loss.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np

from tests.gradcheck.own.images import Convolution, LoopConvolution, MaxPool
from tests.gradcheck.own.layers import (
    Abs,
    Affine,
    Array,
    BatchNorm,
    Clip,
    Dropout,
    LeakyRelu,
    Masked,
    Relu,
    Sigmoid,
    Softplus,
    Tanh,
    TopK,
)
from tests.gradcheck.own.losses import BinaryCrossEntropy, Hinge, SoftmaxCrossEntropy, SquaredError
from tests.gradcheck.own.networks import TwoLayers

Plant = Callable[[Any, np.random.Generator], bool]
BUGS: dict[str, Plant] = {}


def planted(network: Any, random: np.random.Generator, name: str = "") -> str | None:
    """Plant a bug, the named one or one of those that there is a place for; return its name."""
    names = [name] if name else random.permutation(list(BUGS)).tolist()
    return next((each for each in names if BUGS[each](network, random)), None)


def bug(plant: Plant) -> Plant:
    BUGS[plant.__name__.replace("_", " ")] = plant
    return plant


def one(network: Any, random: np.random.Generator, *kinds: type) -> Any:
    """Return one of the layers of some kinds, or None."""
    found = [each for each in getattr(network, "layers", []) if isinstance(each, kinds)]
    return found[random.integers(len(found))] if found else None


def method(owner: Any, name: str, change: Callable[..., Any]) -> bool:
    """Give an object, if there is one, another method; copies of the object have it as well."""
    if owner is not None:
        setattr(owner, name, MethodType(change, owner))
    return owner is not None


def backward(layer: Any, change: Callable[[Any, Array], Array]) -> bool:
    """Let a layer change gradients in another way: of the layer and ``dy``."""
    return method(layer, "backward", change)


def behind(layer: Any, change: Callable[[Any, Array], None]) -> bool:
    """Let something be done behind a layer's own ``backward``."""

    def wrong(self: Any, dy: Array) -> Array:
        found = type(self).backward(self, dy)
        change(self, dy)
        return found

    return backward(layer, wrong)


def gradients(network: Any, change: Callable[[Any, dict[str, Array], int], Any]) -> bool:
    """Let a network return other gradients: of itself, the right ones and the number of rows."""

    def wrong(self: Any, x: Array, t: Array, training: bool) -> Any:
        return change(self, type(self).gradients(self, x, t, training), len(x))

    return method(network, "gradients", wrong)


def last(network: Any, kinds: Any, change: Callable[[Array, Any], Array]) -> bool:
    """Let a loss of some kinds return another gradient: of the right one and the loss."""
    if not isinstance(network.last, kinds):
        return False
    return method(network.last, "backward", lambda self: change(type(self).backward(self), self))


def by_hand(network: Any, slope: Callable[[Array], Any]) -> bool:
    """Let a network written by hand have another derivative of its activation."""
    return method(network, "slope", lambda _, h: slope(h))


def unchanged(layer: Any, dy: Array) -> Array:
    return dy


def sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


# ------------------------------------------------------------------------------- activations


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


# ----------------------------------------------------------------------------- dense layers


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


# -------------------------------------------------------------------------------------- losses


@bug
def mean_forgotten(network: Any, random: np.random.Generator) -> bool:
    return last(network, object, lambda dy, _: dy * len(dy))


@bug
def mean_taken_twice(network: Any, random: np.random.Generator) -> bool:
    return last(network, object, lambda dy, _: dy / len(dy))


@bug
def targets_not_subtracted(network: Any, random: np.random.Generator) -> bool:
    kinds = (SoftmaxCrossEntropy, BinaryCrossEntropy)
    return last(network, kinds, lambda dy, loss: loss.p / len(dy))


@bug
def sigmoid_counted_twice(network: Any, random: np.random.Generator) -> bool:
    return last(network, BinaryCrossEntropy, lambda dy, loss: dy * loss.p * (1 - loss.p))


@bug
def factor_of_two(network: Any, random: np.random.Generator) -> bool:
    return last(network, SquaredError, lambda dy, _: 2 * dy)


@bug
def margins_not_counted(network: Any, random: np.random.Generator) -> bool:
    def wrong(dy: Array, loss: Any) -> Array:
        any_over = loss.over.max(axis=1, keepdims=True)
        return (loss.over - any_over * loss.t) / len(dy)

    return last(network, Hinge, wrong)


@bug
def right_class_forgotten(network: Any, random: np.random.Generator) -> bool:
    return last(network, Hinge, lambda dy, loss: loss.over / len(dy))


# ----------------------------------------------------------------------------------- penalties


def of_penalty(network: Any, change: Callable[[Any, Array], Array]) -> bool:
    penalty = getattr(network, "penalty", None)
    if penalty is None:
        return False
    key = penalty.names[0]
    return gradients(
        network,
        lambda net, found, _: found | {key: found[key] + change(penalty, net.params[key])},
    )


@bug
def penalty_missing(network: Any, random: np.random.Generator) -> bool:
    return of_penalty(network, lambda penalty, W: -penalty.slope(W))


@bug
def penalty_halved(network: Any, random: np.random.Generator) -> bool:
    return of_penalty(network, lambda penalty, W: -penalty.slope(W) / 2)


@bug
def penalty_doubled(network: Any, random: np.random.Generator) -> bool:
    return of_penalty(network, lambda penalty, W: penalty.slope(W))


@bug
def penalty_of_what_has_none(network: Any, random: np.random.Generator) -> bool:
    penalty: Any = getattr(network, "penalty", None)
    free = [each for each in network.params if penalty and each not in penalty.names]
    if not free:
        return False
    key = free[0]
    return gradients(
        network,
        lambda net, found, _: found | {key: found[key] + penalty.slope(net.params[key])},
    )


# -------------------------------------------------------------------------------------- images


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


# ------------------------------------------------------------------ dropout and normalisation


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


# ------------------------------------------------------------------------------- all gradients


@bug
def sign_of_all(network: Any, random: np.random.Generator) -> bool:
    return gradients(network, lambda _, found, __: {key: -each for key, each in found.items()})


@bug
def sign_of_one(network: Any, random: np.random.Generator) -> bool:
    key = random.choice(list(network.params))
    return gradients(network, lambda _, found, __: found | {key: -found[key]})


@bug
def one_element_by_one_percent(network: Any, random: np.random.Generator) -> bool:
    key = random.choice(list(network.params))
    place = random.integers(network.params[key].size)

    def wrong(net: Any, found: dict[str, Array], _: int) -> dict[str, Array]:
        each = np.array(found[key])
        each.flat[place] *= 1.01
        return found | {key: each}

    return gradients(network, wrong)


@bug
def last_column_forgotten(network: Any, random: np.random.Generator) -> bool:
    key = random.choice([key for key in network.params if key[0] == "W"])

    def wrong(net: Any, found: dict[str, Array], _: int) -> dict[str, Array]:
        each = np.array(found[key])
        each[..., -1] = 0
        return found | {key: each}

    return gradients(network, wrong)


@bug
def rounded_to_float16(network: Any, random: np.random.Generator) -> bool:
    def wrong(net: Any, found: dict[str, Array], _: int) -> dict[str, Array]:
        with np.errstate(all="ignore"):
            return {key: each.astype(np.float16).astype(float) for key, each in found.items()}

    return gradients(network, wrong)


@bug
def added_up_over_calls(network: Any, random: np.random.Generator) -> bool:
    network.sums = {}

    def wrong(net: Any, found: dict[str, Array], _: int) -> dict[str, Array]:
        for key, each in found.items():
            net.sums[key] = net.sums.get(key, 0) + each
        return dict(net.sums)

    return gradients(network, wrong)


@bug
def two_exchanged(network: Any, random: np.random.Generator) -> bool:
    keys = list(network.params)
    pairs = [
        (a, b)
        for i, a in enumerate(keys)
        for b in keys[:i]
        if network.params[a].shape == network.params[b].shape
    ]
    if not pairs:
        return False
    a, b = pairs[random.integers(len(pairs))]
    return gradients(network, lambda _, found, __: found | {a: found[b], b: found[a]})
