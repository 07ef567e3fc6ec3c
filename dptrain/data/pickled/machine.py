"""The instructions of pickles of dicts of arrays: a stack, a memo, and nothing that runs.

The format is described in the source of Python's ``pickletools``. That module could cut the
instructions apart, but cannot read the strings of Python 2.
"""

import re
from collections.abc import Callable
from typing import Any

from dptrain.data.pickled.arrays import ArrayBuilder, PickleRefused, text_of

INSTRUCTIONS = 1_000_000  # enough for ten thousand arrays; each may take up 100 bytes

PROTOCOL = 5  # the newest

_STOP = b"."
_LONGEST = 8  # bytes of a whole number: no shape needs more


class Machine:
    """Reads one pickle.

    Attributes:
        at: the byte where the present instruction begins.
    """

    def __init__(self, data: bytes, arrays: ArrayBuilder) -> None:
        self.at = 0
        self._data = data
        self._next = 0
        self._arrays = arrays
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> object:
        """Follow instructions and return their result; raise `PickleRefused` at a foreign one."""
        for _ in range(INSTRUCTIONS):
            self.at = self._next
            code = self._take(1)
            if code == _STOP:
                break
            if code not in _INSTRUCTIONS:
                raise PickleRefused(f"has the instruction {code!r}, which no array needs")
            _INSTRUCTIONS[code](self)
        else:
            raise PickleRefused(f"has more than {INSTRUCTIONS:,} instructions")
        if self._next != len(self._data):
            raise PickleRefused("goes on after its end")
        return self._pop()

    # Reading.

    def _protocol(self) -> None:
        protocol = self._number(1)
        if protocol > PROTOCOL:
            raise PickleRefused(f"is of protocol {protocol}, newer than {PROTOCOL}")

    def _frame(self) -> None:
        """Skip the size of a frame, which helps those who read in pieces."""
        self._take(8)

    def _take(self, count: int) -> bytes:
        found = self._data[self._next : self._next + count]
        if len(found) < count:
            raise PickleRefused("is cut short")
        self._next += count
        return found

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self._next)
        if end < 0:
            raise PickleRefused("is cut short")
        found = self._data[self._next : end]
        self._next = end + 1
        return found

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _digits(self) -> int:
        line = self._line()
        if not re.fullmatch(rb"-?[0-9]{1,19}L?", line):
            raise PickleRefused("has a number that is none")
        return int(line.rstrip(b"L"))

    # The stack and the memo.

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack:
            raise PickleRefused("takes more than there is")
        return self._stack.pop()

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _pop_to_mark(self) -> list[Any]:
        if not self._below:
            raise PickleRefused("takes more than there is")
        found, self._stack = self._stack, self._below.pop()
        return found

    def _put(self, key: int) -> None:
        self._memo[key] = value = self._pop()
        self._push(value)

    def _get(self, key: int) -> None:
        if key not in self._memo:
            raise PickleRefused("takes what it has not put")
        self._push(self._memo[key])

    # Values.

    def _long(self) -> None:
        size = self._number(1)
        if size > _LONGEST:
            raise PickleRefused(f"has a number of {size} bytes")
        self._push(self._number(size, signed=True))

    def _text(self, raw: bytes, encoding: str = "utf-8") -> None:
        try:
            self._push(raw.decode(encoding))
        except UnicodeDecodeError:
            raise PickleRefused("has text that is none") from None

    def _quoted(self) -> None:
        """Push a string of Python 2, written as its repr."""
        line = self._line()
        if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
            raise PickleRefused("has a string without quotes")
        self._push(_ESCAPE.sub(_unescaped, line[1:-1]))

    def _tuple(self, count: int) -> None:
        self._push(tuple(reversed([self._pop() for _ in range(count)])))

    def _dict(self) -> None:
        items = self._pop_to_mark()
        self._push({})
        self._set(items)

    def _set(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the uppermost dict."""
        target = self._pop()
        if type(target) is not dict or len(items) % 2:
            raise PickleRefused("adds entries to what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Nothing else: to hash tuples that hold one another can take for ever.
            if not isinstance(key, str | bytes):
                raise PickleRefused("has an entry whose name is no text")
            target[text_of(key)] = value
        self._push(target)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    # What would import and call.

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push(self._arrays.named(text_of(module), text_of(name)))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleRefused("asks for a global without a name")
        self._push(self._arrays.named(module, name))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        self._push(self._arrays.called(function, arguments))

    def _build(self) -> None:
        state, target = self._pop(), self._pop()
        self._arrays.filled(target, state)
        self._push(target)


_ESCAPE = re.compile(rb"\\(?:x[0-9a-fA-F]{2}|.?)", re.DOTALL)
_PLAIN = {
    rb"\\": b"\\",
    rb"\'": b"'",
    rb"\"": b'"',
    rb"\n": b"\n",
    rb"\r": b"\r",
    rb"\t": b"\t",
}


def _unescaped(escape: re.Match[bytes]) -> bytes:
    if len(escape[0]) == 4:
        return bytes([int(escape[0][2:], 16)])
    if escape[0] not in _PLAIN:
        raise PickleRefused("has a string with an escape that Python 2 does not write")
    return _PLAIN[escape[0]]


# By opcode, in the order of the format: what begins and frames, values, containers, the memo.
_INSTRUCTIONS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": lambda m: m._protocol(),
    b"\x95": lambda m: m._frame(),
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"I": lambda m: m._push(m._digits()),  # truth values as well: 00 and 01
    b"L": lambda m: m._push(m._digits()),
    b"J": lambda m: m._push(m._number(4, signed=True)),
    b"K": lambda m: m._push(m._number(1)),
    b"M": lambda m: m._push(m._number(2)),
    b"\x8a": lambda m: m._long(),
    b"S": lambda m: m._quoted(),
    b"T": lambda m: m._push(m._take(m._number(4))),
    b"U": lambda m: m._push(m._take(m._number(1))),
    b"B": lambda m: m._push(m._take(m._number(4))),
    b"C": lambda m: m._push(m._take(m._number(1))),
    b"\x8e": lambda m: m._push(m._take(m._number(8))),
    b"\x96": lambda m: m._push(m._take(m._number(8))),
    b"V": lambda m: m._text(m._line(), "raw-unicode-escape"),
    b"X": lambda m: m._text(m._take(m._number(4))),
    b"\x8c": lambda m: m._text(m._take(m._number(1))),
    b"\x8d": lambda m: m._text(m._take(m._number(8))),
    b"(": lambda m: m._mark(),
    b")": lambda m: m._push(()),
    b"t": lambda m: m._push(tuple(m._pop_to_mark())),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"}": lambda m: m._push({}),
    b"d": lambda m: m._dict(),
    b"s": lambda m: m._set_item(),
    b"u": lambda m: m._set(m._pop_to_mark()),
    b"p": lambda m: m._put(m._digits()),
    b"q": lambda m: m._put(m._number(1)),
    b"r": lambda m: m._put(m._number(4)),
    b"\x94": lambda m: m._put(len(m._memo)),
    b"g": lambda m: m._get(m._digits()),
    b"h": lambda m: m._get(m._number(1)),
    b"j": lambda m: m._get(m._number(4)),
    b"c": lambda m: m._global(),
    b"\x93": lambda m: m._stack_global(),
    b"R": lambda m: m._reduce(),
    b"b": lambda m: m._build(),
}
