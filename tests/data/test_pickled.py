"""Reading pickles without running them: arrays come back, everything else is refused."""

import collections
import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dptrain.data.pickled.machine import INSTRUCTIONS
from dptrain.data.pickled.reading import read_pickled
from dptrain.data.pickled.writing import pickled
from dptrain.errors import DataError
from tests.data.pickles import (
    EMPTY,
    FLOAT64,
    by_python2_binary,
    by_python2_text,
    values,
    with_state,
)

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

NUMBERS = st.one_of(
    hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.integer_dtypes(),
    hnp.unsigned_integer_dtypes(),
    hnp.boolean_dtypes(),
)
ARRAYS = st.dictionaries(
    st.from_regex("[A-Za-z0-9_.]{1,12}", fullmatch=True),
    hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)),
    min_size=1,
    max_size=4,
)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare values, shapes and, but for the order of bytes, dtypes."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        native = array.astype(array.dtype.newbyteorder("="))
        np.testing.assert_array_equal(found[name], native, strict=True)
        assert found[name].dtype.isnative
        assert found[name].flags.writeable


def refused(data: bytes) -> str:
    """Read what must be refused; return the message."""
    with pytest.raises(DataError, match="the pickle is refused") as caught:
        read_pickled(data)
    return str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol(protocol: int) -> None:
    assert_same(read_pickled(pickle.dumps(values(), protocol)), values())


@pytest.mark.parametrize("write", [by_python2_text, by_python2_binary])
def test_python_2(write: Any) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in values().items()}
    data = write(arrays)
    reference = pickle.loads(data, encoding="latin1")  # noqa: S301 - written by this test
    assert_same(reference, arrays)
    assert_same(read_pickled(data), arrays)


def test_names_of_numpy_1() -> None:
    old = pickle.dumps(values(), 5).replace(b"numpy._core", b"numpy.core")
    old = old.replace(b"\x8c\x13numpy.core.numeric", b"\x8c\x12numpy.core.numeric")
    old = old.replace(b"\x8c\x16numpy.core.multiarray", b"\x8c\x15numpy.core.multiarray")
    lost = len(pickle.dumps(values(), 5)) - len(old)
    assert lost == 2
    size = int.from_bytes(old[3:11], "little") - lost
    assert_same(read_pickled(old[:3] + size.to_bytes(8, "little") + old[11:]), values())


def test_one_array_under_two_names() -> None:
    array = np.arange(3.0)
    assert_same(read_pickled(pickle.dumps({"a": array, "b": array})), {"a": array, "b": array})


@given(ARRAYS, st.sampled_from(PROTOCOLS))
def test_whatever_numpy_pickles_comes_back(arrays: Any, protocol: int) -> None:
    assert_same(read_pickled(pickle.dumps(arrays, protocol)), arrays)


@given(ARRAYS)
def test_what_is_written_is_what_pickle_and_we_read(arrays: Any) -> None:
    data = pickled(arrays)
    assert_same(pickle.loads(data), arrays)  # noqa: S301 - written by this test
    assert_same(read_pickled(data), arrays)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_commands_are_named_and_not_run(protocol: int, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    attack = Calls(os.system, f"touch {witness}")
    for data in ({"W1": attack}, {"W1": np.ones(2), "b1": attack}, attack, [attack]):
        message = refused(pickle.dumps(data, protocol))
        if not isinstance(data, list):
            assert "asks for posix.system" in message
        assert not witness.exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Calls(eval, "1"), r"asks for (__builtin__|builtins)\.eval"),
        (Calls(np.dtype, "f4", False, False), "calls dtype as no array needs it"),
        (Calls(np.dtype, "O8", False, True), "dtype 'O8'; only numbers"),
        (Calls(np.dtype, "V1000000000", False, True), "dtype 'V1000000000'; only numbers"),
        (Calls(np.dtype, "f4", False, True), "'W1' is not an array of numbers"),
        (Calls(np.ndarray, (10**15,)), "calls ndarray as no array needs it"),
        (np.array([{}], object), "dtype 'O8'; only numbers"),
        (np.array(["text"]), "dtype 'U4'; only numbers"),
        (np.array([b"text"]), "dtype 'S4'; only numbers"),
        (np.zeros(2, [("a", "f4")]), "dtype 'V4'; only numbers"),
        (np.zeros(2, "M8[s]"), "dtype 'M8'; only numbers"),
        (np.zeros(2, complex), "dtype 'c16'; only numbers"),
        (np.float64(1), "asks for numpy._core.multiarray.scalar"),
        (np.zeros((2, 0)), r"asks for (__builtin__|builtins)\.bytes|a shape that is none"),
        (np.ma.masked_array([1.0]), "asks for numpy.ma"),
        (collections.OrderedDict(), r"asks for collections\.OrderedDict"),
        ({"W": np.ones(2)}, "'W1' is not an array of numbers"),
        (None, "'W1' is not an array of numbers"),
        (b"text", "'W1' is not an array of numbers"),
        (1.5, "the instruction b'G'"),
        ([np.ones(2)], "the instruction b']'"),
        (10**30, "a number of 13 bytes"),
    ],
)
def test_what_is_no_array_of_numbers(value: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_pickled(pickle.dumps({"W1": value}, 3))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "byte 0: it is cut short"),
        (b".", "takes more than there is"),
        (b"\x80\x06}.", "protocol 6"),
        (b"\x80\x04}.", "holds no dict of arrays"),
        (b"\x80\x04N.", "holds no dict of arrays"),
        (b"\x80\x04}.}", "goes on after its end"),
        (b"Pid\n.", "the instruction b'P'"),
        (b"(cposix\nsystem\no.", "asks for posix.system"),
        (b"(iposix\nsystem\n.", "the instruction b'i'"),
        (b"\x82\x01.", r"the instruction b'\\x82'"),
        (b"\x97.", r"the instruction b'\\x97'"),
        (b"cnumpy\nndarray\n)\x81.", r"the instruction b'\\x81'"),
        (b"NN\x93.", "a global without a name"),
        (b"N)R.", "calls what is not a function"),
        (b"h\x07.", "takes what it has not put"),
        (b"g-1\n.", "takes what it has not put"),
        (b"}K\x01K\x02s.", "whose name is no text"),
        (b"NK\x01K\x02s.", "to what is no dict"),
        (b"}(K\x01u.", "to what is no dict"),
        (b"}u.", "takes more than there is"),
        (b"I1_0\n.", "a number that is none"),
        (b"I" + b"9" * 5000 + b"\n.", "a number that is none"),
        (b"X\x01\x00\x00\x00\xff.", "text that is none"),
        (b"V\\u12\n.", "text that is none"),
        (b"S'a\n.", "a string without quotes"),
        (b"S'\\q'\n.", "an escape that Python 2 does not write"),
        (b"\x8e" + b"\xff" * 8 + b".", "is cut short"),
        (b"c_codecs\nencode\nV\\u0100\nVlatin1\n\x86R.", "text in place"),
        (b"c_codecs\nencode\nVa\nVutf-8\n\x86R.", "calls encode"),
    ],
)  # fmt: skip
def test_foreign_and_damaged_instructions(data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_pickled(data)


# The rest of a state after its shape: dtype, C order, contents.
REST = b"h\x00\x89C\x08" + bytes(8) + b"t"


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (b"(K\x01J\x00\x00\x00\x10\x85" + REST, "takes 2,147,483,648 bytes, not 8"),
        (b"(K\x01(" + (b"\x8a\x08" + b"\xff" * 7 + b"\x7f") * 32 + b"t" + REST, "takes .* not 8"),
        (b"(K\x01(" + b"K\x01" * 33 + b"t" + REST, "a shape that is none"),
        (b"(K\x01J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86" + REST, "a shape that is none"),
        (b"(K\x01\x88\x85" + REST, "a shape that is none"),
        (b"(K\x01K\x00\x85h\x00\x89C\x00t", "a shape that is none"),
        (b"(K\x01)h\x00\x89C\x07" + bytes(7) + b"t", "takes 8 bytes, not 7"),
        (b"(K\x01)h\x00\x89C\x09" + bytes(9) + b"t", "takes 8 bytes, not 9"),
        (b"(K\x01)h\x00\x89)t", "a state that no array"),
        (b"}", "a state that no array"),
        (b"(K\x01)" + REST + b"b}", "a state that no array"),
    ],
)
def test_states_that_claim_too_much(state: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_pickled(with_state(state))


def test_a_state_as_it_should_be() -> None:
    found = read_pickled(with_state(b"(K\x01K\x02\x85h\x00\x89C\x10" + bytes(16) + b"t"))
    assert_same(found, {"W": np.zeros(2)})


def test_a_thousand_million_laughs() -> None:
    laughs = b"(t" + b"q\x00h\x00\x86" * 60
    seconds = time.process_time()
    for use in (b"}" + laughs + b"Ns", laughs + b"N\x93", b"cnumpy\ndtype\n" + laughs + b"R",
                b"}X\x01\x00\x00\x00a" + laughs + b"s", laughs):  # fmt: skip
        refused(b"\x80\x02" + use + b".")
        refused(with_state(laughs))
    assert time.process_time() - seconds < 1


def test_a_few_bytes_do_not_unfold_to_many() -> None:
    text = b"X" + (10_000).to_bytes(4, "little") + b"a" * 10_000
    encode = b"c_codecs\nencode\nq\x00" + text + b"q\x01X\x06\x00\x00\x00latin1q\x02"
    call = b"h\x00h\x01h\x02\x86R"
    assert "unfolds" not in refused(encode + call * 2 + b".")
    assert "unfolds to more than its own size" in refused(encode + call * 3 + b".")
    contents = b"B" + (8000).to_bytes(4, "little") + bytes(8000) + b"q\x01"
    begin = b"\x80\x03" + FLOAT64 + b"}X\x01\x00\x00\x00A" + contents + b"s"
    again = b"X\x01\x00\x00\x00W" + EMPTY + b"(K\x01\x8a\x02\xe8\x03\x85h\x00\x89h\x01tbs"
    assert "'A' is not an array" in refused(begin + again * 2 + b".")
    assert "unfolds to more than its own size" in refused(begin + again * 3 + b".")


def test_so_many_instructions() -> None:
    assert f"more than {INSTRUCTIONS:,} instructions" in refused(b"(" * (INSTRUCTIONS + 1))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cut_short_anywhere(protocol: int) -> None:
    data = pickle.dumps({"W1": np.arange(6.0).reshape(2, 3)}, protocol)
    for end in range(len(data)):
        refused(data[:end])


SEEDS = [
    *(pickle.dumps({"W1": np.arange(6.0).reshape(2, 3)}, protocol) for protocol in PROTOCOLS),
    by_python2_text({"W1": np.arange(6.0).reshape(2, 3)}),
    by_python2_binary({"W1": np.arange(6.0).reshape(2, 3)}),
]


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255))))
def test_damage_never_ends_in_anything_but_a_refusal(
    data: bytes, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    try:
        found = read_pickled(bytes(damaged))
    except DataError:
        return
    assert all(isinstance(array, np.ndarray) for array in found.values())


@given(st.binary(max_size=60))
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(DataError):
        read_pickled(b"\x80\x03" + data + b".")
