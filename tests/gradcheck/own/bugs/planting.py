"""How a slip is planted into one network of the generator's.

A bug changes the object alone: it returns False where the network has no place for it. None touches
the loss. It is a method, which copies of the network have as well.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np

from tests.gradcheck.own.layers import Array

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


def unchanged(layer: Any, dy: Array) -> Array:
    return dy
