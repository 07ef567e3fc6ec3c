"""Bugs on the way of a gradient: rounding, layout, framing."""

from typing import Any

import numpy as np

from dptrain.exchange import lockstep
from dptrain.exchange.buckets import Bucket
from dptrain.exchange.rank import Rank
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.races import small_buckets
from dptrain.gradcheck.zoo.seams import Around, Array, each_root, hand_in, here, note_rank, wrap
from dptrain.nn.passes import Pass
from dptrain.worker.gradients import StarRank

BOTH = ("shared", "star")
FLIPPED_BIT = 20


def _float16(patches: Patches) -> None:
    hand_in(patches, each_root(lambda g: g.astype(np.float16).astype(g.dtype)))


def float32_wire(patches: Patches) -> None:
    """Gradients travel in float32."""
    hand_in(patches, each_root(lambda g: g.astype(np.float32).astype(g.dtype)))


def _big_endian(patches: Patches) -> None:
    hand_in(patches, each_root(lambda g: g.byteswap()), rank=1)


def _tensors(passed: Pass, layer: int, flat: Array) -> list[Array]:
    first = passed._tensors[layer][0].start
    return [flat[t.start - first : t.stop - first] for t in passed._tensors[layer]]


def _order_differs(patches: Patches) -> None:
    def alter(passed: Pass, layer: int, rows: Array) -> None:
        for root in passed.roots:
            parts = _tensors(passed, layer, rows[root].copy())
            rows[root] = np.concatenate(parts[::-1])

    hand_in(patches, alter, rank=1)


def _transposed(patches: Patches) -> None:
    def alter(passed: Pass, layer: int, rows: Array) -> None:
        for root in passed.roots:
            for tensor, part in zip(
                passed._tensors[layer], _tensors(passed, layer, rows[root]), strict=True
            ):
                part[:] = part.reshape(tensor.shape).ravel(order="F")

    hand_in(patches, alter, rank=1)


def _bucket_offset(patches: Patches) -> None:
    small_buckets(patches)
    note_rank(patches)

    def send(original: Around, self: StarRank, *what: Any) -> None:
        honest = self._buckets
        if here.rank == 1:
            self._buckets = tuple(
                Bucket(b.layer, b.start + 1, b.stop + 1) if b.stop < len(self._weights) else b
                for b in honest
            )
        original(self, *what)
        self._buckets = honest

    wrap(patches, StarRank, "send", send)


def _slice_offset(patches: Patches) -> None:
    def bounds(original: Around, size: int, ranks: int) -> Any:
        found = list(original(size, ranks))
        low, high = found[1]
        found[1] = (low + 1, high)
        return tuple(found)

    wrap(patches, lockstep, "slices", bounds)


def _zero_tail(patches: Patches) -> None:
    def alter(passed: Pass, _: int, rows: Array) -> None:
        for root in passed.roots:
            rows[root, rows.shape[1] * 3 // 4 :] = 0

    hand_in(patches, alter, rank=1)


def _truncated(patches: Patches) -> None:
    note_rank(patches)

    def send(original: Around, self: StarRank, *what: Any) -> None:
        honest = self._buckets
        if here.rank == 1:
            self._buckets = tuple(Bucket(b.layer, b.start, b.stop - 1) for b in honest)
        original(self, *what)
        self._buckets = honest

    wrap(patches, StarRank, "send", send)


def _bit_flip(patches: Patches) -> None:
    def change(g: Array) -> Array:
        place = int(np.argmax(np.abs(g)))
        g.view(np.int64)[place] ^= 1 << FLIPPED_BIT
        return g

    hand_in(patches, each_root(change), rank=1)


def _nan_swallowed(patches: Patches) -> None:
    hand_in(patches, each_root(np.nan_to_num))

    def forward(original: Around, self: Rank, found: Any) -> Any:
        return np.nan_to_num(original(self, found)).tolist()

    wrap(patches, Rank, "forward", forward)


BUGS = (
    Bug(
        "float16-wire",
        "float16",
        "Gradients travel in float16.",
        _float16,
        exchange=BOTH,
    ),
    Bug(
        "float32-wire",
        "float32",
        "The gradients of a float64 run travel in float32.",
        float32_wire,
        exchange=BOTH,
    ),
    Bug(
        "big-endian",
        "byte-order",
        "The bytes of rank 1's numbers come in the other order.",
        _big_endian,
        exchange=BOTH,
        rank=1,
    ),
    Bug(
        "parameter-order",
        "parameter-order",
        "Rank 1 hands in a layer's tensors in another order than the others (DeepSpeed #2343).",
        _order_differs,
        exchange=BOTH,
        rank=1,
    ),
    Bug(
        "bucket-offset",
        "bucket-offset",
        "Rank 1's buckets begin one element too late.",
        _bucket_offset,
        place="all",
        exchange=("star",),
        rank=1,
    ),
    Bug(
        "slice-offset",
        "bucket-offset",
        "Rank 1's slice begins one element too late: that element is never updated.",
        _slice_offset,
        habitat="momentum",
        rank=1,
    ),
    Bug(
        "transposed",
        "transposed",
        "Rank 1 hands in its matrices column by column.",
        _transposed,
        exchange=BOTH,
        rank=1,
    ),
    Bug(
        "zero-tail",
        "truncated",
        "The last quarter of what rank 1 hands in of a layer is lost, and read as zeros.",
        _zero_tail,
        exchange=BOTH,
        rank=1,
    ),
    Bug(
        "truncated-frame",
        "truncated",
        "Rank 1's frames are one number too short.",
        _truncated,
        exchange=("star",),
        rank=1,
    ),
    Bug(
        "bit-flip",
        "bit-flip",
        f"Bit {FLIPPED_BIT} of the largest number that rank 1 hands in of a layer is flipped.",
        _bit_flip,
        exchange=BOTH,
        rank=1,
    ),
    Bug(
        "nan-swallowed",
        "nan-swallowed",
        "NaN is replaced by zero, in losses and gradients: a run that should end goes on.",
        _nan_swallowed,
        habitat="overflow",
        exchange=BOTH,
    ),
)
