"""What calls of a user's network change outside of it: in its classes, and in their modules.

Every process has its own of these, so nothing of it is kept with the weights.
"""

import copy
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.own.model import OwnModel
from dptrain.own.places import below, holders, place_of
from dptrain.own.source_files import is_library

Array = NDArray[Any]
# Longer lists and larger arrays are data.
LONG, LARGE = 100, 1_000_000
_NUMBERS = (bool, int, float, np.generic)


def changed_outside(model: OwnModel, x: Array, t: Array, seed: int) -> list[str]:
    """Return names such as ``nets.STEP`` or ``Net.counts['a']`` that every call changes.

    What differs from run to run, such as a time, is not among them. Everything is put back.

    Args:
        model: a copy of the network.
        x: rows ``(n, *input_shape)``.
        t: their targets.
        seed: of what it draws.
    """
    roots = dict(_roots(model.subject))

    def found() -> dict[tuple[str, str], Any]:
        return {
            (root, path): copy.deepcopy(value)
            for root, names in roots.items()
            for path, value in _values(names)
        }

    def called() -> dict[tuple[str, str], Any]:
        model.loss_and_gradient(x, t, seed)
        return found()

    before = found()
    first, second = called(), called()
    moving = [key for key in before.keys() & first if not _same(first[key], second.get(key))]
    moving = [key for key in moving if not _same(before[key], first[key])]
    _restore(roots, before, moving)
    again = called() if moving else {}
    _restore(roots, before, moving)
    steady = sorted(key for key in moving if _same(again.get(key), first[key]))
    return [f"{root}{'' if path.startswith('[') else '.'}{path}" for root, path in steady]


def _roots(subject: object) -> Iterator[tuple[str, Any]]:
    """Yield the classes of a network's parts, and their modules, that are the user's; by name."""
    for _, holder in holders(subject):
        for kind in type(holder).__mro__:
            module = sys.modules.get(kind.__module__)
            file = getattr(module, "__file__", None)
            if module is None or (file is None and kind.__module__ != "__main__"):
                continue
            if file is not None and is_library(file):
                continue
            yield kind.__qualname__, kind
            yield kind.__module__, module


def _values(root: Any) -> Iterator[tuple[str, Any]]:
    for name, value in list(vars(root).items()):
        if name.startswith("__"):
            continue
        inside = isinstance(value, dict | list | deque) and len(value) <= LONG
        parts = _parts(name, root, value) if inside else [(name, value)]
        for path, each in parts:
            if isinstance(each, _NUMBERS) or (isinstance(each, np.ndarray) and each.size <= LARGE):
                yield path, each


def _parts(name: str, root: Any, value: Any) -> list[tuple[str, Any]]:
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    own = below(place_of(root, ""), root, name)
    return [(below(own, value, key).path, value[key]) for key in keys if type(key) in (str, int)]


def _restore(roots: dict[str, Any], values: dict[tuple[str, str], Any], keys: Any) -> None:
    for root, path in keys:
        place_of(roots[root], path).put(copy.deepcopy(values[root, path]))


def _same(a: object, b: object) -> bool:
    one, other = np.asarray(a), np.asarray(b)
    numbers = one.dtype.kind in "fc"  # words and objects are not asked for NaN
    return type(a) is type(b) and np.array_equal(one, other, equal_nan=numbers)
