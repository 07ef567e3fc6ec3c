"""The values inside a network of the user's own, by path: what its layers and lists hold.

A path is written as Python would: ``layers['BatchNorm1'].running_mean``. The walk goes through
attributes, dicts with text or whole numbers as keys, lists and tuples; every object is entered
once, by the first path that leads to it.
"""

import random
import re
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

_STEP = re.compile(r"\.?([^.\[\]']+)|\['([^']*)'\]|\[(\d+)\]")
_NO_INSIDE = (
    types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, type,
    np.dtype, np.ufunc,
)  # fmt: skip
_LEAVES = (np.ndarray, np.generic, bool, int, float, complex, str, bytes, type(None))
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


class Place(NamedTuple):
    """Where a value stands.

    Attributes:
        path: from the network's object.
        holder: the object, dict or list that has it.
        key: the attribute's name, the key or the index.
    """

    path: str
    holder: Any
    key: Any

    def get(self) -> Any:
        """Return the value; `MISSING` where there is none."""
        if isinstance(self.holder, dict):
            return self.holder.get(self.key, MISSING)
        if isinstance(self.holder, list | tuple):
            return self.holder[self.key] if self.key < len(self.holder) else MISSING
        return getattr(self.holder, self.key, MISSING)

    def put(self, value: Any) -> None:
        """Put another value there, or take it away where it is `MISSING`; not into a tuple."""
        if isinstance(self.holder, tuple):
            return
        if isinstance(self.holder, dict | list):
            if value is not MISSING:
                self.holder[self.key] = value
            elif isinstance(self.holder, dict):
                self.holder.pop(self.key, None)
        elif value is not MISSING:
            setattr(self.holder, self.key, value)
        elif hasattr(self.holder, self.key):
            delattr(self.holder, self.key)


class _Missing:
    """Of an attribute or key that is not there."""

    def __deepcopy__(self, memo: Any) -> "_Missing":
        return self  # there is only one, which is compared by identity


MISSING = _Missing()


def walk(root: object) -> Iterator[tuple[Place, Any]]:
    """Yield every value without an inside (numbers, text, arrays, generators) and its place."""
    seen = {id(root)}
    holders = [("", root)]
    for path, holder in holders:
        for key, value in _inside(holder):
            own = f"{path}{_step(holder, key)}".removeprefix(".")
            if isinstance(value, _LEAVES + GENERATORS):
                yield Place(own, holder, key), value
            elif id(value) not in seen and not isinstance(value, _NO_INSIDE):
                seen.add(id(value))
                holders.append((own, value))


def place(root: object, path: str) -> Place:
    """Return the place of a path, of which all but the end must exist.

    Raises:
        LookupError: something on the way is not there.
    """
    keys: list[str | int] = [
        int(index) if index else name or text
        for name, text, index in (each.groups("") for each in _STEP.finditer(path))
    ]
    holder: Any = root
    for key in keys[:-1]:
        holder = Place("", holder, key).get()
        if holder is MISSING:
            raise LookupError(path)
    return Place(path, holder, keys[-1])


def _inside(holder: Any) -> list[tuple[Any, Any]]:
    if isinstance(holder, dict):
        return [(k, v) for k, v in holder.items() if type(k) in (str, int) and "'" not in str(k)]
    if isinstance(holder, list | tuple):
        return list(enumerate(holder))
    return list(getattr(holder, "__dict__", {}).items())


def _step(holder: Any, key: Any) -> str:
    if isinstance(holder, dict | list | tuple):
        return f"['{key}']" if isinstance(key, str) else f"[{key}]"
    return f".{key}"
