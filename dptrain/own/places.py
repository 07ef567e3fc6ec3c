"""The values inside a network of the user's own, by path: what its layers and lists hold.

A path is written as Python would: ``layers['BatchNorm1'].running_mean``. The walk goes through
attributes and slots, dicts with text or whole numbers as keys, lists, tuples and deques; every
object is entered once, by the first path that leads to it.
"""

import random
import re
import types
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

_STEP = re.compile(r"\.?([^.\[\]']+)|\['([^']*)'\]|\[(-?\d+)\]")
_NO_INSIDE = (
    types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, type,
    np.dtype, np.ufunc,
)  # fmt: skip
_LEAVES = (np.ndarray, np.generic, bool, int, float, complex, str, bytes, type(None))
_CONTAINERS = (dict, list, tuple, deque)
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


class Place(NamedTuple):
    """Where a value stands; looked up anew every time, for code may exchange what holds it.

    Attributes:
        path: from the network's object.
        root: the object.
        keys: attribute names, keys and indices, one below the other.
    """

    path: str
    root: Any
    keys: tuple["Key", ...]

    def get(self) -> Any:
        """Return the value; `MISSING` where there is none."""
        found = self.root
        for key in self.keys:
            found = _got(found, key.name)
        return found

    def own(self) -> Any:
        """Return the value; `MISSING` also where a class has it, and not its object."""
        *above, key = self.keys
        holder = self._replace(keys=tuple(above)).get()
        if isinstance(holder, _CONTAINERS) or hasattr(
            getattr(type(holder), str(key.name), None), "__set__"
        ):
            return self.get()
        return getattr(holder, "__dict__", {}).get(key.name, MISSING)

    def put(self, value: Any) -> None:
        """Put another value there, or take it away where it is `MISSING`.

        Dicts and lists on the way that are not there yet are made, and tuples made anew.
        """
        if value is not MISSING or self.get() is not MISSING:
            _put(self.root, self.keys, value)

    def begun(self) -> "Place":
        """Return the first place on the way with nothing in it; this one where there is none."""
        for count in range(1, len(self.keys)):
            above = self._replace(keys=self.keys[:count])
            if _is_nothing(above.get()):
                return above
        return self

    def beside(self) -> list[str]:
        """Return the paths of the numbers and arrays of the list that it stands in, if any."""
        above = self._replace(keys=self.keys[:-1])
        holder = above.get() if above.keys else None
        if not isinstance(holder, list | tuple | deque):
            return []
        path = self.path.rpartition("[")[0]
        numbers = (np.ndarray, np.generic, bool, int, float)
        return [f"{path}[{i}]" for i, each in enumerate(holder) if isinstance(each, numbers)]

    @property
    def can_be_made(self) -> bool:
        """Whether all that is missing on the way are dicts and lists, which `put` makes."""
        missing = self.keys[len(self.begun().keys) :]
        return not any(key.attribute for key in missing)


class Key(NamedTuple):
    """One step of a path.

    Attributes:
        name: of an attribute; or a dict's key, or an index.
        attribute: whether it is an attribute's.
    """

    name: str | int
    attribute: bool


class _Missing:
    """Of an attribute or key that is not there."""

    def __deepcopy__(self, memo: Any) -> "_Missing":
        return self  # there is only one, which is compared by identity


MISSING = _Missing()


def walk(root: object) -> Iterator[tuple[Place, Any]]:
    """Yield every value without an inside (numbers, text, arrays, generators) and its place."""
    for place, holder in holders(root):
        for key, value in _inside(holder):
            if isinstance(value, _LEAVES + GENERATORS):
                yield below(place, holder, key), value


def holders(root: object) -> Iterator[tuple[Place, Any]]:
    """Yield the object and everything in it that has an inside, each once, and its place."""
    seen = {id(root)}
    found = [(Place("", root, ()), root)]
    for place, holder in found:
        yield place, holder
        for key, value in _inside(holder):
            if id(value) not in seen and not isinstance(value, _LEAVES + GENERATORS + _NO_INSIDE):
                seen.add(id(value))
                found.append((below(place, holder, key), value))


def below(place: Place, holder: Any, key: Any) -> Place:
    """Return the place of an attribute, key or index of what holds values at a place."""
    attribute = not isinstance(holder, _CONTAINERS)
    index = f"['{key}']" if isinstance(key, str) else f"[{key}]"
    path = f"{place.path}{f'.{key}' if attribute else index}".removeprefix(".")
    return Place(path, place.root, (*place.keys, Key(key, attribute)))


def place_of(root: object, path: str) -> Place:
    """Return the place of a path."""
    keys = [
        Key(int(index), attribute=False) if index else Key(name or text, attribute=bool(name))
        for name, text, index in (each.groups("") for each in _STEP.finditer(path))
    ]
    return Place(path, root, tuple(keys))


def _is_nothing(value: object) -> bool:
    return value is None or value is MISSING


def _got(holder: Any, key: Any) -> Any:
    if isinstance(holder, dict):
        return holder.get(key, MISSING)
    if isinstance(holder, list | tuple | deque):
        return holder[key] if isinstance(key, int) and key < len(holder) else MISSING
    return getattr(holder, key, MISSING) if isinstance(key, str) else MISSING


def _put(holder: Any, keys: tuple[Key, ...], value: Any) -> Any:
    """Put a value below what holds it; return the holder, or what must take its place."""
    key, *rest = keys
    if rest:
        inner = _got(holder, key.name)
        if _is_nothing(inner):
            inner = [] if isinstance(rest[0].name, int) else {}
        new = _put(inner, tuple(rest), value)
        if new is _got(holder, key.name):
            return holder
        value = new
    return _set(holder, key.name, value)


def _set(holder: Any, key: Any, value: Any) -> Any:
    if isinstance(holder, tuple):
        parts = [*holder[:key], value, *holder[key + 1 :]]
        return type(holder)(*parts) if hasattr(holder, "_fields") else tuple(parts)
    if isinstance(holder, list | deque):
        if value is not MISSING:
            holder.extend([None] * (key + 1 - len(holder)))
            holder[key] = value
    elif isinstance(holder, dict):
        if value is MISSING:
            holder.pop(key, None)
        else:
            holder[key] = value
    elif value is not MISSING:
        setattr(holder, key, value)
    elif key in getattr(holder, "__dict__", {}):
        delattr(holder, key)
    return holder


def _inside(holder: Any) -> list[tuple[Any, Any]]:
    if isinstance(holder, dict):
        return [(k, v) for k, v in holder.items() if type(k) in (str, int) and "'" not in str(k)]
    if isinstance(holder, list | tuple | deque):
        return list(enumerate(holder))
    return [*getattr(holder, "__dict__", {}).items(), *_slots(holder)]


def _slots(holder: Any) -> Iterator[tuple[str, Any]]:
    for kind in type(holder).__mro__:
        names = vars(kind).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if isinstance(vars(kind).get(name), types.MemberDescriptorType):
                value = getattr(holder, name, MISSING)
                if value is not MISSING:
                    yield name, value
