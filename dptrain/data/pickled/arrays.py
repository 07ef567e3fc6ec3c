"""What the globals and calls in NumPy's pickles stand for. Nothing is imported and nothing called.

NumPy writes an array in one of two ways: ``_reconstruct(ndarray, (0,), b"b")``, filled by a state
later, or ``_frombuffer(bytes, dtype, shape, order)`` since protocol 5. A dtype is ``dtype("f4",
False, True)`` with a state that tells its byte order, and bytes in protocols before 3 are text and
``encode(text, "latin1")``. These are patterns here; whatever does not match is refused.
"""

import enum
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXES = 32

_KINDS = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")


class PickleRefused(Exception):  # noqa: N818 - part of a sentence: it asks for …
    """What a pickle does that no dict of arrays needs, as the end of a sentence about it."""


class Name(enum.Enum):
    """The globals in NumPy's pickles."""

    RECONSTRUCT = enum.auto()
    FROMBUFFER = enum.auto()
    NDARRAY = enum.auto()
    DTYPE = enum.auto()
    ENCODE = enum.auto()


# NumPy 2 moved its core to _core; either reads the pickles of both.
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): Name.RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): Name.RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): Name.FROMBUFFER,
    ("numpy._core.numeric", "_frombuffer"): Name.FROMBUFFER,
    ("numpy", "ndarray"): Name.NDARRAY,
    ("numpy", "dtype"): Name.DTYPE,
    ("_codecs", "encode"): Name.ENCODE,
}


@dataclass
class Dtype:
    """A dtype; the pickle makes it first and tells its byte order then."""

    kind: str
    order: str = "="


@dataclass
class Array:
    """An array; the pickle makes it first and fills it then."""

    values: NDArray[Any] | None = None


class ArrayBuilder:
    """Makes the arrays of one pickle, within a budget of bytes.

    The same bytes may be used any number of times, at a few bytes of pickle a time; the budget is
    what bounds the copies.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def named(self, module: str, name: str) -> Name:
        """Return the global of this name."""
        if (module, name) not in _NAMES:
            raise PickleRefused(
                f"asks for {module[:60]}.{name[:60]}, which is not a part of an array"
            )
        return _NAMES[module, name]

    def called(self, function: object, arguments: object) -> object:
        """Return what calling a global would."""
        match function, arguments:
            case Name.RECONSTRUCT, (Name.NDARRAY, (0,), b"b"):
                return Array()
            case Name.DTYPE, (str() | bytes() as kind, 0, 1):
                return Dtype(_kind(text_of(kind)))
            case Name.ENCODE, (str() as text, "latin1"):
                return self._encoded(text)
            case Name.FROMBUFFER, (
                bytes() as data,
                Dtype() as dtype,
                tuple() as shape,
                str() as way,
            ):
                return Array(self._array(data, dtype, shape, way))
            case Name.FROMBUFFER, (bytes() as data, Dtype() as dtype, tuple() as shape, "K", axes):
                return Array(_transposed(self._array(data, dtype, shape, "C"), axes))
            case Name(), _:
                raise PickleRefused(f"calls {function.name.lower()} as no array needs it")
            case _:
                raise PickleRefused("calls what is not a function")

    def filled(self, target: object, state: object) -> None:
        """Give a dtype or an array its state."""
        match target, state:
            case Dtype(), (3, str() | bytes() as order, None, None, None, -1, -1, 0):
                target.order = _order(text_of(order))
            case Array(None), (
                1,
                tuple() as shape,
                Dtype() as dtype,
                int() as fortran,
                bytes() as data,
            ):
                target.values = self._array(data, dtype, shape, "F" if fortran else "C")
            case _:
                raise PickleRefused("sets a state that no array of numbers has")

    def _encoded(self, text: str) -> bytes:
        self._spend(len(text))
        try:
            return text.encode("latin1")
        except UnicodeEncodeError:
            raise PickleRefused("has text in place of bytes") from None

    def _array(self, data: bytes, dtype: Dtype, shape: tuple[Any, ...], order: str) -> NDArray[Any]:
        if order not in ("C", "F"):
            raise PickleRefused("has an array in an unknown order")
        if len(shape) > AXES or any(type(n) is not int or n < 1 for n in shape):
            raise PickleRefused("has an array of a shape that is none")
        stored = np.dtype(dtype.order + dtype.kind)
        claimed = math.prod(shape) * stored.itemsize
        if claimed != len(data):
            raise PickleRefused(
                f"has an array whose shape takes {claimed:,} bytes, not {len(data):,}"
            )
        self._spend(claimed)
        values: NDArray[Any] = np.frombuffer(data, stored).astype(dtype.kind)
        return values.reshape(shape, order="F" if order == "F" else "C")

    def _spend(self, count: int) -> None:
        self._budget -= count
        if self._budget < 0:
            raise PickleRefused("unfolds to more than its own size")


def text_of(value: str | bytes) -> str:
    """Return text, which Python 2 wrote as bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else value


def _kind(kind: str) -> str:
    if kind not in _KINDS:
        raise PickleRefused(f"has an array of dtype {kind[:20]!r}; only numbers are read")
    return kind


def _order(order: str) -> str:
    if order not in ("<", ">", "|", "="):
        raise PickleRefused("has numbers in an unknown order of bytes")
    return order


def _transposed(values: NDArray[Any], axes: object) -> NDArray[Any]:
    if not isinstance(axes, tuple) or any(type(axis) is not int for axis in axes):
        raise PickleRefused("has an array of a shape that is none")
    if sorted(axes) != list(range(values.ndim)):
        raise PickleRefused("has an array of a shape that is none")
    return values.transpose(axes)
