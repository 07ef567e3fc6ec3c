"""Objects as plain data: everything shared stays shared, and what cannot be sent is named."""

import enum
import random
import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.errors import UsageError
from dptrain.own.graph import decode_object, encode_object
from tests.own.nets import Net


class Kind(enum.Enum):
    FAST = 1


class Holder:
    """Fails the test if its constructor runs once more."""

    made = 0
    itself: Any
    call: Any

    def __init__(self, **values: Any) -> None:
        type(self).made += 1
        vars(self).update(values)

    def double(self, x: int) -> int:
        return 2 * x


class Slotted:
    __slots__ = ("x",)


def there_and_back(value: object) -> Any:
    made, paths = Holder.made, list(sys.path)
    found = decode_object(encode_object(value, "net"))
    assert Holder.made == made
    assert sys.path == paths
    return found


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -(2**70), 0.1, float("inf"), "ü", b"\0", [1, [2]], (1, (2,)), {3, 4},
        {"a": 1, 2: (None,)}, OrderedDict(z=1, a=2), Kind.FAST, np.dtype("f4"), np.tanh, np.dot,
        np, max, Net, np.float32(0.1), np.add.reduce is None,
    ],
)  # fmt: skip
def test_values(value: Any) -> None:
    found = there_and_back(value)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, OrderedDict):
        assert list(found) == list(value)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "?", "c16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(dtype: str, order: Any) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype, order=order)
    found = there_and_back(array)
    assert found.dtype == array.dtype
    assert found.strides == array.strides
    assert (found == array).all()
    assert found.flags.writeable


def test_what_is_shared_stays_shared() -> None:
    w = np.arange(12.0).reshape(3, 4).copy()
    held = Holder(params={"W": w}, W=w, transposed=w.T, part=w[1:, ::2], back=w[::-1])
    held.itself = held
    found = there_and_back(held)
    assert found.itself is found
    assert found.params["W"] is found.W
    found.W[...] *= 10
    for name in ("transposed", "part", "back"):
        np.testing.assert_array_equal(getattr(found, name), 10 * getattr(held, name))
    assert not np.may_share_memory(found.W, w)


def test_methods_belong_to_the_object_that_came_along() -> None:
    held = Holder()
    held.call = held.double
    found = there_and_back(held)
    assert found.call(4) == 8
    assert found.call.__self__ is found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda x: x, r"net.layers\[1\].f is <lambda>, which cannot be imported"),
        (threading.Lock(), r"net.layers\[1\].f is a _thread.lock"),
        (random.Random(0), r"net.layers\[1\].f is a random.Random"),
        (np.array([None]), "an array of dtype object"),
        (np.ma.masked_array([1.0]), "MaskedArray"),
        (partial(max, 1), "functools.partial"),
        (Slotted(), "Slotted"),
        (type("Other", (), {}), "Other, which cannot be imported"),
        (iter([]), "list_iterator"),
    ],
)
def test_what_cannot_be_sent_is_named(value: Any, message: str) -> None:
    held = Holder(layers=[None, Holder(f=value)])
    with pytest.raises(UsageError, match=message):
        encode_object(held, "net")


SCRIPT = """
    from __future__ import annotations
    import sys
    from collections import OrderedDict as Ordered
    import numpy as np
    from dptrain.own.graph import encode_object
    print("runs")
    FACTOR = np.array(3.0)
    class Early: pass
    EARLY = Early()
    EARLY.x = 4
    def twice(x): return again(x, 2)
    def again(x, n):
        return x if n == 0 else again(x, n - 1) + x
    alias = twice
    x = open(sys.argv[0])  # no part of what is sent, though there is an attribute x
    if True:
        class Base:
            '''With a docstring: {'a':
            1}'''
            def value(self, v: Unknown = None): return alias(self.x) * FACTOR + EARLY.x
    class Deriv(Base):
        y = FACTOR + 1
        @staticmethod
        def other(): raise KeyError("here")
    d = Deriv()
    d.x, d.kinds = 5, Ordered(a=Deriv)
    sys.stdout.flush()
    with open("data", "wb") as file:
        file.write(encode_object(d, "d"))
"""

READER = """
    import pathlib, traceback
    from dptrain.own.graph import decode_object
    d = decode_object(pathlib.Path("data").read_bytes())
    print(d.value(), d.y, type(d).__name__, d.kinds["a"] is type(d), d.__doc__)
    try:
        d.other()
    except KeyError:
        print(traceback.format_exc())
"""


def python(source: str, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    file = folder / name
    file.write_text(textwrap.dedent(source))
    return subprocess.run(
        [sys.executable, str(file)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_what_a_script_defines_is_defined_again_without_running_it(tmp_path: Path) -> None:
    done = python(SCRIPT, tmp_path, "script.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "runs\n"
    read = python(READER, tmp_path, "reader.py")
    assert read.returncode == 0, read.stderr
    first, *rest = read.stdout.splitlines()
    assert first.startswith("49.0 4.0 Deriv True")
    assert "runs" not in read.stdout
    line = SCRIPT.splitlines().index('        def other(): raise KeyError("here")') + 1
    assert any("script.py" in each and f"line {line}, in other" in each for each in rest), rest


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import threading\nlock = threading.Lock()\nclass A:\n def f(self): return lock",
         "lock, which A uses, is a _thread.lock"),
        ("f = lambda: 1\nclass A:\n def g(self): return f()", "f, which A uses, is <lambda>"),
        ("exec('class A:\\n def f(self): pass')", "the source of A cannot be found"),
        ("class A:\n def f(self): pass\nB = A\nclass A:\n pass\nA = B()\ndel B\nB = A\n"
         "A = lambda: B", "A, whose name stands for something else"),
    ],
)  # fmt: skip
def test_what_a_script_defines_and_cannot_be_sent(
    source: str, message: str, tmp_path: Path
) -> None:
    end = "\nfrom dptrain.own.graph import encode_object\nencode_object(A(), 'net')"
    done = python(source + end, tmp_path, "script.py")
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


def test_generators_are_made_anew() -> None:
    kinds: list[Any] = [
        np.random.default_rng(3),
        np.random.Generator(np.random.SFC64(1)),
        np.random.RandomState(2),
    ]
    for found, sent in zip(decode_object(encode_object(kinds, "net")), kinds, strict=True):
        assert type(found) is type(sent)
        if isinstance(sent, np.random.Generator):
            assert type(found.bit_generator) is type(sent.bit_generator)
