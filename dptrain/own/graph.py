"""An object as plain data, and back: how a script's network reaches the workers the script starts.

No pickle. What can be sent is data: numbers, text, arrays, lists, dicts and objects with a
``__dict__``; and the names of classes and functions, which the worker imports from where the script
has imported them, or defines anew from their source where the script itself defines them
(`dptrain.own.definitions`). No constructor runs in the worker, nor any other code on the way. What
is shared stays shared: a layer that holds an array of ``params``, or a view of it, does so there.

The data travel from a process to its own child through a pipe that nobody else can write to.
"""

import enum
import importlib
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from dptrain.errors import UsageError
from dptrain.own.definitions import Definition, definition_of, globals_of
from dptrain.own.exceptions import own_code_error

MAIN = "__main__"
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement
_PLAIN = (type(None), bool, float, str, bytes)
_CONTAINERS: dict[type, str] = {
    list: "list",
    tuple: "tuple",
    set: "set",
    dict: "dict",
    OrderedDict: "ordered",
}


def encode_object(value: object, name: str) -> bytes:
    """Return an object as bytes.

    Args:
        value: to encode.
        name: of it, for messages.

    Raises:
        UsageError: something in it cannot be sent; the message names its path.
    """
    encoder = _Encoder()
    term = encoder.term(value, name)
    return msgspec.msgpack.encode((list(map(str, sys.path)), encoder.nodes, encoder.main, term))


def decode_object(data: bytes) -> Any:
    """Return the object, and take over the script's ``sys.path``, for it may import more.

    Raises:
        OwnCodeError: a module that it needs raised when it was imported.
    """
    paths, nodes, main, term = msgspec.msgpack.decode(data)
    sys.path[:] = paths
    return _Decoder(nodes, main).value(term)


class _Encoder:
    """Numbers what it meets: a *term* is a plain value, or the number of a *node*.

    Attributes:
        nodes: the kind of each, and terms of what it is made of.
        main: what the script defines, in an order in which it can be defined again.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.main: list[tuple[str, str, Any]] = []
        self._places: dict[int, int] = {}
        self._kept: list[object] = []  # or an id could come to stand for another object
        self._defined: set[str] = set()

    def term(self, value: Any, path: str) -> tuple[int, Any]:
        if type(value) in _PLAIN or (type(value) is int and -(2**63) <= value < 2**63):
            return 0, value
        place = self._places.get(id(value))
        if place is None:
            place = len(self.nodes)
            self._places[id(value)] = place
            self._kept.append(value)
            self.nodes.append(None)
            self.nodes[place] = self._node(value, path)
        return 1, place

    def _node(self, value: Any, path: str) -> tuple[Any, ...]:
        kind = _CONTAINERS.get(type(value))
        if kind in ("list", "tuple", "set"):
            return kind, [self.term(each, f"{path}[{i}]") for i, each in enumerate(value)]
        if kind is not None:
            pairs = [
                (self.term(k, f"a key of {path}"), self.term(v, f"{path}[{k!r}]"))
                for k, v in value.items()
            ]
            return kind, pairs
        if type(value) is int:
            return "int", str(value)
        if isinstance(value, np.dtype) and not value.hasobject and value.names is None:
            return "dtype", value.str
        if isinstance(value, np.generic) and not value.dtype.hasobject:
            return "scalar", value.dtype.str, value.tobytes()
        if type(value) is np.ndarray:
            return self._array(value, path)
        if isinstance(value, types.ModuleType):
            return "module", value.__name__
        if isinstance(value, types.MethodType):
            return "attribute", self.term(value.__self__, path), value.__name__
        if isinstance(value, enum.Enum):
            return "attribute", self.term(type(value), path), str(value.name)
        if isinstance(value, np.ufunc):
            return self._ufunc(value, path)
        if isinstance(value, np.random.Generator | np.random.RandomState):
            return self._generator(value, path)
        if isinstance(getattr(value, "__qualname__", None), str):
            return self._global(value, path)
        return self._object(value, path)

    def _array(self, array: NDArray[Any], path: str) -> tuple[Any, ...]:
        if array.dtype.hasobject or array.dtype.names is not None:
            raise _cannot(path, f"an array of dtype {array.dtype}")
        root = array
        while type(root.base) is np.ndarray:
            root = root.base
        if not root.flags.forc:
            raise _cannot(path, "an array whose axes are in no common order")
        if root is not array:
            offset = array.ctypes.data - root.ctypes.data
            form = (array.dtype.str, array.shape, array.strides)
            return "view", self.term(root, path), offset, *form
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        return "array", array.dtype.str, array.shape, order, array.tobytes(order)

    def _ufunc(self, value: np.ufunc, path: str) -> tuple[Any, ...]:
        name = value.__name__
        if vars(np).get(name) is not value:
            raise _cannot(path, f"{value}, which is not NumPy's own")
        return "attribute", self.term(np, path), name

    def _generator(self, value: Any, path: str) -> tuple[Any, ...]:
        """Tell what kind it is: every call of the network begins with seeding it."""
        bits = type(
            value.bit_generator if hasattr(value, "bit_generator") else value._bit_generator
        )
        if vars(np.random).get(bits.__name__) is not bits:
            raise _cannot(path, f"a generator with bits of a {bits.__name__}")
        return "generator", type(value).__name__, bits.__name__

    def _global(self, value: Any, path: str) -> tuple[Any, ...]:
        module, name = value.__module__, value.__qualname__
        if module == MAIN and "." not in name:
            self._define(name, value, path)
            return "main", name
        found: Any = sys.modules.get(module or "")
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not value or module == MAIN:
            raise _cannot(path, f"{name}, which cannot be imported from {module}")
        return "global", module, name

    def _define(self, name: str, value: Any, path: str) -> None:
        """Note the source of what the script defines, behind everything that it needs."""
        if name in self._defined:
            return
        self._defined.add(name)
        script = vars(sys.modules[MAIN])
        if script.get(name) is not value:
            raise _cannot(path, f"{name}, whose name stands for something else by now")
        definition = definition_of(name, value)
        for needed in globals_of(definition):
            if needed in script and needed not in self._defined:
                self._need(needed, script[needed], f"{needed}, which {name} uses,")
        self.main.append(("define", name, definition))

    def _need(self, name: str, value: Any, path: str) -> None:
        term = self.term(value, path)
        if name not in self._defined:
            self._defined.add(name)
            self.main.append(("set", name, term))

    def _object(self, value: Any, path: str) -> tuple[Any, ...]:
        kind = type(value)
        if not _is_plain(kind) or not hasattr(value, "__dict__"):
            raise _cannot(path, f"a {kind.__module__}.{kind.__qualname__}")
        state = [(key, self.term(v, f"{path}.{key}")) for key, v in vars(value).items()]
        return "object", self.term(kind, path), state


def _is_plain(kind: type) -> bool:
    """Return whether the ``__dict__`` of a class's objects is all there is to them."""
    for each in kind.__mro__[:-1]:
        if not each.__flags__ & _HEAP_TYPE or vars(each).get("__slots__"):
            return False
    return kind.__basicsize__ <= _Empty.__basicsize__


class _Empty:
    """With a ``__dict__`` and nothing else."""


def _cannot(path: str, what: str) -> UsageError:
    return UsageError(
        f"{path} is {what}; that cannot be sent to worker processes. Put the network's code into a "
        "file of its own and name it, dptrain train --model FILE.py:NAME, or train with workers=1"
    )


class _Decoder:
    """Makes each node when it is first asked for."""

    def __init__(self, nodes: list[Any], main: list[tuple[str, str, Any]]) -> None:
        self._nodes = nodes
        self._made: dict[int, Any] = {}
        self._script = types.ModuleType(MAIN)
        self._kinds: dict[str, Callable[..., Any]] = {
            "int": int,
            "dtype": np.dtype,
            "scalar": lambda dtype, data: np.frombuffer(data, dtype)[0],
            "array": _array,
            "module": _imported,
            "generator": lambda kind, bits: getattr(np.random, kind)(getattr(np.random, bits)(0)),
            "global": _found,
            "tuple": lambda terms: tuple(map(self.value, terms)),
            "set": lambda terms: set(map(self.value, terms)),
            "attribute": lambda term, name: getattr(self.value(term), name),
            "view": self._view,
            "main": lambda name: getattr(self._script, name),
        }
        for what, name, each in main:
            if what == "define":
                Definition(*each).run(vars(self._script))
            else:
                setattr(self._script, name, self.value(each))

    def value(self, term: Any) -> Any:
        refers, content = term
        if not refers:
            return content
        if content not in self._made:
            kind, *parts = self._nodes[content]
            make = self._kinds.get(kind)
            if make is None:
                return self._filled(content, kind, *parts)
            self._made[content] = make(*parts)
        return self._made[content]

    def _filled(self, place: int, kind: str, *parts: Any) -> Any:
        """Make what may contain itself: first empty, then filled."""
        if kind == "list":
            found: Any = []
            self._made[place] = found
            found += map(self.value, parts[0])
        elif kind == "object":
            of, state = parts
            found = object.__new__(self.value(of))
            self._made[place] = found
            vars(found).update({key: self.value(term) for key, term in state})
        else:
            found = OrderedDict() if kind == "ordered" else {}
            self._made[place] = found
            found.update((self.value(key), self.value(term)) for key, term in parts[0])
        return found

    def _view(
        self, root: Any, offset: int, dtype: str, shape: list[int], strides: list[int]
    ) -> NDArray[Any]:
        # a root's base is the memory that `_array` made for it
        return np.ndarray(shape, dtype, self.value(root).base, offset, strides)


def _array(dtype: str, shape: list[int], order: Any, data: bytes) -> NDArray[Any]:
    return np.ndarray(shape, dtype, bytearray(data), order=order)


def _imported(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise own_code_error(f"the import of {name}", error) from error


def _found(module: str, name: str) -> Any:
    found: Any = _imported(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
