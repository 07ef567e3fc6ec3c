"""How people err in networks like those of `tests.gradcheck.own.draw`: a row each.

A slip changes the object alone: it returns False where the network has no place for it. None
touches the loss. What it puts in place is a method, which copies of the network have as well.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np

from tests.gradcheck.own.layers import (
    Abs,
    Affine,
    Array,
    BatchNorm,
    BinaryCrossEntropy,
    Clip,
    Convolution,
    Dropout,
    Hinge,
    LeakyRelu,
    Masked,
    MaxPool,
    Relu,
    Sigmoid,
    SoftmaxCrossEntropy,
    Softplus,
    SquaredError,
    Tanh,
    TopK,
)
from tests.gradcheck.own.networks import TwoLayers

Random = np.random.Generator
Plant = Callable[[Any, Random], bool]


def planted(network: Any, seed: int, name: str) -> str | None:
    """Plant a slip; return its name, or None if there is no place for it.

    It is the named one. Without a name it is the first that there is a place for, in an order that
    begins elsewhere for each seed, so that few seeds show most slips.
    """
    random, every = np.random.default_rng((seed, 1)), list(SLIPS)
    begin = seed % len(every)
    names = [name] if name else every[begin:] + every[:begin]
    return next((each for each in names if SLIPS[each](network, random)), None)


def put(owner: Any, name: str, change: Callable[..., Any]) -> bool:
    """Give an object, if there is one, another method."""
    if owner is not None:
        setattr(owner, name, MethodType(change, owner))
    return owner is not None


def one(found: list[Any], random: Random) -> Any:
    return found[random.integers(len(found))] if found else None


def layers(network: Any, kinds: Any, first: int = 0) -> list[Any]:
    return [e for e in getattr(network, "layers", [])[first:] if isinstance(e, kinds)]


def passes(
    kinds: Any, change: Callable[[Any, Array], Array], hand: dict[str, Any] | None = None
) -> Plant:
    """A layer passes something else back; ``hand``: slopes by activation, where there is none."""

    def plant(network: Any, random: Random) -> bool:
        if isinstance(network, TwoLayers) and hand is not None:
            slope = hand.get(network.activation, hand.get("any"))
            return slope is not None and put(network, "slope", lambda _, h: slope(h))
        return put(one(layers(network, kinds), random), "backward", change)

    return plant


def leaves(kinds: Any, change: Callable[[Any, Array], dict[str, Array]]) -> Plant:
    """A layer leaves other gradients of its own parameters."""

    def wrong(self: Any, dy: Array) -> Array:
        found = type(self).backward(self, dy)
        vars(self).update(change(self, dy))
        return found

    return lambda network, random: put(one(layers(network, kinds), random), "backward", wrong)


def later(which: Callable[[Any], bool], change: Callable[[Any, Array], Array]) -> Plant:
    """A dense layer, not the first, passes something else back."""

    def wrong(self: Any, dy: Array) -> Array:
        Affine.backward(self, dy)
        return change(self, dy).reshape(self.shape)

    def plant(network: Any, random: Random) -> bool:
        layer = one([e for e in layers(network, Affine, 1) if which(e)], random)
        if layer is not None:
            layer.first = layer.W.copy()
        return put(layer, "backward", wrong)

    return plant


def loses(kinds: Any, change: Callable[[Array, Any], Array]) -> Plant:
    """A loss of some kinds has another gradient: of the right one and itself."""

    def wrong(self: Any) -> Array:
        return change(type(self).backward(self), self)

    return lambda network, _: (
        isinstance(network.last, kinds) and put(network.last, "backward", wrong)
    )


def returns(pick: Callable[[Any, Random], Any], change: Callable[..., dict[str, Array]]) -> Plant:
    """A network returns other gradients: of itself, the right ones, rows, and what was picked."""

    def plant(network: Any, random: Random) -> bool:
        picked = pick(network, random)

        def wrong(self: Any, x: Array, t: Array, training: bool) -> Any:
            return change(self, type(self).gradients(self, x, t, training), len(x), picked)

        return picked is not None and put(network, "gradients", wrong)

    return plant


def anything(_network: Any, _random: Random) -> bool:
    return True


def bias(network: Any, random: Random) -> str:
    return str(one([k for k in network.params if k[0] == "b" and k[:4] != "beta"], random))


def square(network: Any, random: Random) -> Any:
    found = [k for k, p in network.params.items() if p.ndim == 2 and p.shape[0] == p.shape[1]]
    return one(found, random)


def any_key(network: Any, random: Random) -> Any:
    return random.choice(list(network.params))


def weight_key(network: Any, random: Random) -> Any:
    return random.choice([key for key in network.params if key[0] == "W"])


def element(network: Any, random: Random) -> Any:
    key = random.choice(list(network.params))
    return key, random.integers(network.params[key].size)


def twins(network: Any, random: Random) -> Any:
    keys, shape = list(network.params), {k: p.shape for k, p in network.params.items()}
    pairs = [(a, b) for i, a in enumerate(keys) for b in keys[:i] if shape[a] == shape[b]]
    return one(pairs, random)


def penalised(network: Any, _: Random) -> Any:
    penalty = getattr(network, "penalty", None)
    return penalty and penalty.names[0]


def unpenalised(network: Any, _: Random) -> Any:
    penalty = getattr(network, "penalty", None)
    return next((k for k in network.params if penalty and k not in penalty.names), None)


def of_penalty(factor: float, which: Any = penalised) -> Plant:
    return returns(
        which, lambda net, g, _, k: g | {k: g[k] + factor * net.penalty.slope(net.params[k])}
    )


def changed_at(g: dict[str, Array], key: str, place: Any, factor: float) -> dict[str, Array]:
    each = np.array(g[key])
    if isinstance(place, tuple):
        each[place] *= factor
    else:
        each.flat[place] *= factor
    return g | {key: each}


def added(net: Any, g: dict[str, Array], *_: Any) -> dict[str, Array]:
    sums = vars(net).setdefault("sums", {})
    sums.update({key: sums.get(key, 0) + each for key, each in g.items()})
    return dict(sums)


def to_float16(_net: Any, g: dict[str, Array], *_: Any) -> dict[str, Array]:
    with np.errstate(all="ignore"):
        return {key: each.astype(np.float16).astype(float) for key, each in g.items()}


def another_mask(network: Any, _: Random) -> bool:
    masked = layers(network, Masked)
    if len(masked) < 2:
        return False
    masked[0].other = masked[1]
    return put(
        masked[0],
        "backward",
        lambda e, dy: dy * (e.other if e.slope.shape == e.other.slope.shape else e).slope,
    )


def inverted(layer: Any, dy: Array) -> Array:
    if isinstance(layer, LeakyRelu):
        return dy * np.where(layer.slope == 1, layer.leak, 1)
    return dy * (-layer.slope if isinstance(layer, Abs) else 1 - layer.slope)


def sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


def of_another(layer: Any, dy: Array) -> Array:
    if isinstance(layer, Softplus):
        return dy * (1 - sigmoid(layer.x))
    y = layer.out
    return dy * (1 - y**2 if isinstance(layer, Sigmoid) else y * (1 - y))


def at_the_output(layer: Any, dy: Array) -> Array:
    y = sigmoid(layer.out) if isinstance(layer, Sigmoid) else np.tanh(layer.out)
    return dy * (y * (1 - y) if isinstance(layer, Sigmoid) else 1 - y**2)


def kept_input(layer: Any, dy: Array) -> dict[str, Array]:
    kept, same = getattr(layer, "kept", layer.x), {"kept": layer.x.copy()}
    return same | ({"dW": np.dot(kept.T, dy)} if kept.shape == layer.x.shape else {})


def normalised(change: Callable[[Any, Array], Array]) -> Plant:
    def wrong(layer: Any, dy: Array) -> Array:
        found = BatchNorm.backward(layer, dy)
        return change(layer, layer.gamma * dy) / layer.std if layer.training else found

    return passes(BatchNorm, wrong)


def unchanged(_layer: Any, dy: Array) -> Array:
    return dy


CROSS, CURVED = (SoftmaxCrossEntropy, BinaryCrossEntropy), (Sigmoid, Tanh, Softplus)
ONES, OTHER = {"any": np.ones_like}, {"tanh": lambda h: h * (1 - h), "any": lambda h: 1 - h**2}
SLIPS: dict[str, Plant] = {
    "derivative missing": passes((Masked, *CURVED), unchanged, ONES),
    "mask inverted": passes(
        (Relu, LeakyRelu, Abs, Clip, TopK), inverted, {"relu": lambda h: h <= 0}
    ),
    "mask of another layer": another_mask,
    "derivative of another activation": passes(CURVED, of_another, OTHER),
    "derivative at the output": passes((Sigmoid, Tanh), at_the_output),
    "leak forgotten": passes(LeakyRelu, lambda e, dy: dy * (e.slope == 1)),
    "sign of abs forgotten": passes(Abs, unchanged),
    "passes outside the clip": passes(Clip, unchanged),
    "not only the largest": passes(TopK, unchanged),
    "weights transposed": returns(square, lambda _, g, __, k: g | {k: g[k].T}),
    "product transposed": later(
        lambda e: e.W.shape[0] == e.W.shape[1], lambda e, dy: np.dot(dy, e.W)
    ),
    "bias missing": returns(bias, lambda _, g, __, k: g | {k: 0 * g[k]}),
    "bias is a mean": returns(bias, lambda _, g, n, k: g | {k: g[k] / n}),
    "bias of the first row": leaves(Affine, lambda _, dy: {"db": dy[0]}),
    "rows in another order": leaves(Affine, lambda e, dy: {"dW": np.dot(e.x[::-1].T, dy)}),
    "last row forgotten": leaves(Affine, lambda e, dy: {"dW": np.dot(e.x[:-1].T, dy[:-1])}),
    "earlier layers forgotten": later(lambda _: True, lambda e, _: np.zeros(e.shape)),
    "input of the call before": leaves(Affine, kept_input),
    "weights of the beginning": later(lambda _: True, lambda e, dy: np.dot(dy, e.first.T)),
    "all ties of a pool": passes(
        MaxPool,
        lambda e, dy: e.spread((e.windows == e.windows.max(-1, keepdims=True)) * dy[..., None]),
    ),
    "first place of a pool": passes(
        MaxPool, lambda e, dy: e.spread(np.array([1.0, 0, 0, 0]) * dy[..., None])
    ),
    "mean of a pool": passes(MaxPool, lambda e, dy: e.spread(np.full(4, 0.25) * dy[..., None])),
    "kernels turned": leaves(Convolution, lambda e, _: {"dW": e.dW[..., ::-1, ::-1]}),
    "kernels with axes exchanged": leaves(Convolution, lambda e, _: {"dW": e.dW.swapaxes(2, 3)}),
    "mean forgotten": loses(object, lambda dy, _: dy * len(dy)),
    "mean taken twice": loses(object, lambda dy, _: dy / len(dy)),
    "targets not subtracted": loses(CROSS, lambda dy, e: e.p / len(dy)),
    "sigmoid counted twice": loses(BinaryCrossEntropy, lambda dy, e: dy * e.p * (1 - e.p)),
    "factor of two": loses(SquaredError, lambda dy, _: 2 * dy),
    "margins not counted": loses(
        Hinge, lambda dy, e: (e.over - e.over.max(axis=1, keepdims=True) * e.t) / len(dy)
    ),
    "right class forgotten": loses(Hinge, lambda dy, e: e.over / len(dy)),
    "penalty missing": of_penalty(-1),
    "penalty halved": of_penalty(-0.5),
    "penalty doubled": of_penalty(1),
    "penalty of what has none": of_penalty(1, unpenalised),
    "dropout not backward": passes(Dropout, unchanged),
    "dropout drawn anew": passes(
        Dropout, lambda e, dy: dy * (np.random.rand(*dy.shape) > e.ratio) * e.scale
    ),
    "dropout scaled otherwise": passes(Dropout, lambda e, dy: dy * e.mask / (1 - e.ratio)),
    "mean taken for constant": normalised(lambda e, d: d - e.xn * (d * e.xn).mean(axis=0)),
    "variance taken for constant": normalised(lambda _, d: d - d.mean(axis=0)),
    "gamma of what is not normalised": leaves(
        BatchNorm, lambda e, dy: {"dgamma": (dy * e.x).sum(axis=0)}
    ),
    "sign of all": returns(anything, lambda _, g, *__: {k: -each for k, each in g.items()}),
    "sign of one": returns(any_key, lambda _, g, __, k: g | {k: -g[k]}),
    "one element by one percent": returns(
        element, lambda _, g, __, at: changed_at(g, at[0], at[1], 1.01)
    ),
    "last column forgotten": returns(
        weight_key, lambda _, g, __, k: changed_at(g, k, (..., -1), 0)
    ),
    "rounded to float16": returns(anything, to_float16),
    "added up over calls": returns(anything, added),
    "two exchanged": returns(twins, lambda _, g, __, ab: g | {ab[0]: g[ab[1]], ab[1]: g[ab[0]]}),
}
