"""IDX files: what is written by an independent writer is read, and damage is named."""

import contextlib
import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from dptrain.data import prepared
from dptrain.data.idx import declared_bytes, read_idx
from dptrain.errors import DataError, ResourceError
from tests.data.damage import damaged

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(values: NDArray[Any]) -> bytes:
    """Write value by value with struct, as the format's description has it."""
    kind = values.dtype.str[1:]
    letter = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[kind]
    return (
        struct.pack(">HBB", 0, CODES[kind], values.ndim)
        + struct.pack(f">{values.ndim}I", *values.shape)
        + struct.pack(f">{values.size}{letter}", *values.ravel().tolist())
    )


@given(
    values=st.sampled_from(sorted(CODES)).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(max_dims=4, min_side=0, max_side=4))
    ),
    packed=st.booleans(),
)
def test_round_trip_of_every_type_plain_and_gzipped(
    values: NDArray[Any], packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("idx") / "values"
    content = idx_bytes(values)
    path.write_bytes(gzip.compress(content) if packed else content)
    found = read_idx(path)
    assert found.dtype == values.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, values, strict=True)


VALID = idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3))
PACKED = gzip.compress(VALID, mtime=0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "0 bytes are too few"),
        (VALID[:3], "3 bytes are too few"),
        (b"PK\x03\x04" + VALID, "starts with 50 4b 03 04"),
        (b"\0\0\x0a\x01" + bytes(8), "unknown IDX type 0x0a"),
        (b"\0\0\x08\x00", "0 dimensions"),
        (b"\0\0\x08\xff" + bytes(2000), "255 dimensions"),
        (VALID[:9], "truncated inside the header"),
        (VALID[:-1], r"shape \(2, 3\), 6 bytes of values, but only 5 follow"),
        (VALID + b"\0", "more bytes follow the 6"),
        (PACKED[:-9], "gzip data are truncated"),
        (PACKED[:-8] + b"\1\2\3\4" + PACKED[-4:], "damaged gzip data"),
        (PACKED[:10] + b"\xff" + PACKED[11:], "damaged gzip data"),
        (gzip.compress(VALID[:-1], mtime=0), "only 5 follow"),
        (gzip.compress(VALID + b"\0", mtime=0), "more bytes follow"),
    ],
)
def test_damage_is_named_with_the_file(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_declares_exabytes_allocates_nothing(pack: Any, tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(pack(b"\0\0\x0e\x02" + b"\xff" * 8 + bytes(100)))
    with pytest.raises(DataError, match="the file holds at most"):
        read_idx(path)


def test_a_gzip_bomb_is_unpacked_only_as_far_as_its_header_goes(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(VALID + bytes(50_000_000), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(DataError, match="more bytes follow"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / name)


@pytest.mark.parametrize("original", [VALID, PACKED], ids=["plain", "gzipped"])
@settings(max_examples=200)
@given(data=st.data())
def test_any_damage_raises_data_error_or_nothing(
    original: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged-idx"
    path.write_bytes(data.draw(damaged(original)))
    with contextlib.suppress(DataError):
        read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_file_declares_is_known_before_it_is_unpacked(packed: bool, tmp_path: Path) -> None:
    path, values = tmp_path / "values", np.zeros((1000, 7, 5), np.uint8)
    content = idx_bytes(values)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert declared_bytes(path) == values.nbytes
    lying = content[:4] + struct.pack(">3I", 2**31, 2**31, 2**31)
    path.write_bytes(gzip.compress(lying) if packed else lying)
    size = path.stat().st_size
    assert declared_bytes(path) == size * (1032 if packed else 1)


def test_too_little_memory_for_what_is_packed_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, values in (
        ("images-idx3", np.zeros((3000, 20, 20))),
        ("labels-idx1", np.arange(3000)),
    ):
        content = idx_bytes(values.astype(np.uint8))
        (tmp_path / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(prepared, "available_memory", lambda: 1_000_000)
    with pytest.raises(ResourceError, match="reading it takes 1 MB of memory or more, but 1 MB"):
        prepared.prepare(str(tmp_path), dtype="float32")
