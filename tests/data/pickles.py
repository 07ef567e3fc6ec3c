"""Pickles as other programs write them, byte by byte where no Python at hand does."""

from collections.abc import Mapping

import numpy as np

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
DTYPE = b"cnumpy\ndtype\n"
EMPTY = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R"
FLOAT64 = (
    DTYPE + b"X\x02\x00\x00\x00f8\x89\x88\x87R"
    b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbq\x00"
)


def by_python2_text(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return what Python 2 writes by default, protocol 0: numbers and strings as their reprs."""
    entries = b""
    for name, array in arrays.items():
        shape = b"(" + b"".join(b"L%dL\n" % n for n in array.shape) + b"t"
        kind, order = array.dtype.str[1:].encode(), array.dtype.str[:1].encode()
        entries += (
            b"S'" + name.encode() + b"'\np1\n"
            + RECONSTRUCT + b"p2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n"
            + b"(I1\n" + shape + b"p8\n"
            + DTYPE + b"p9\n(S'" + kind + b"'\np10\nI0\nI1\ntp11\nRp12\n"
            + b"(I3\nS'" + order + b"'\np13\nNNNI-1\nI-1\nI0\ntp14\nb"
            + b"I00\nS" + _repr(array.tobytes()) + b"\np15\ntp16\nbs"
        )  # fmt: skip
    return b"(dp0\n" + entries + b"."


def by_python2_binary(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return what Python 2 writes in protocol 2."""
    entries = b""
    for name, array in arrays.items():
        data = array.tobytes()
        kind, order = array.dtype.str[1:].encode(), array.dtype.str[:1].encode()
        entries += (
            b"U" + bytes([len(name)]) + name.encode() + b"q\x01"
            + RECONSTRUCT + b"q\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07"
            + b"(K\x01(" + b"".join(b"\x8a\x04" + n.to_bytes(4, "little") for n in array.shape)
            + b"t" + DTYPE + b"q\x08U" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87Rq\x09"
            + b"(K\x03U\x01" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            + b"\x89T" + len(data).to_bytes(4, "little") + data + b"tb"
        )  # fmt: skip
    return b"\x80\x02}q\x00(" + entries + b"u."


def with_state(state: bytes) -> bytes:
    """Return a dict of one array that gets this state; the memo's 0 is the dtype float64."""
    return b"\x80\x03" + FLOAT64 + b"}X\x01\x00\x00\x00W" + EMPTY + state + b"bs."


def values() -> dict[str, np.ndarray]:
    """Return arrays of several dtypes, orders and layouts."""
    random = np.random.default_rng(0)
    return {
        "W1": random.standard_normal((3, 4)).astype(np.float32),
        "b1": random.standard_normal(4),
        "W2": np.asfortranarray(random.standard_normal((5, 2))),
        "b2": random.standard_normal((4, 4))[::2],
        "filters": random.standard_normal((2, 3, 4, 5)).transpose(2, 0, 3, 1),
        "counts": np.arange(-3, 4, dtype=np.int16),
        "big": np.arange(5, dtype=">u4"),
        "mask": np.array([[True, False], [False, True]]),
        "scalar": np.array(2.5),
        "bytes": np.arange(256, dtype=np.uint8),
    }


def _repr(data: bytes) -> bytes:
    """Return the repr of a str of Python 2, which is that of bytes of Python 3."""
    return repr(data)[1:].encode()
