"""Bugs in the coordinator of the star exchange, which sums and updates there."""

from typing import Any

import numpy as np

from dptrain.exchange.star import StarReducer
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import WORLD, Around, wrap


def _sum(patches: Patches, alter: Any) -> None:
    """Have ``alter(values, total, sum_honestly)`` sum what the ranks have sent of a bucket."""

    def summed(original: Around, self: StarReducer, bucket: int, leaves: int) -> None:
        _, start, stop = self.buckets[bucket]
        total = self._gradient[start:stop]
        alter(self._arrived[bucket], total, lambda: original(self, bucket, leaves))

    wrap(patches, StarReducer, "_sum", summed)


def _averaged_again(patches: Patches) -> None:
    def alter(_: Any, total: Any, honestly: Any) -> None:
        honestly()
        np.divide(total, WORLD, out=total)

    _sum(patches, alter)


def _last_comes_first(patches: Patches) -> None:
    def alter(values: Any, total: Any, _: Any) -> None:
        first, *others = [values[root] for root in sorted(values, reverse=True)]
        np.copyto(total, first)
        for each in others:
            np.add(total, each, out=total)
        values.clear()

    _sum(patches, alter)


def _first_for_all(patches: Patches) -> None:
    def alter(values: Any, _: Any, honestly: Any) -> None:
        for root in values:
            values[root] = values[min(values)]
        honestly()

    _sum(patches, alter)


def _kept(patches: Patches) -> None:
    """The sum is added to what stands in the buffer since the step before."""
    sums: dict[tuple[int, int], Any] = {}

    def summed(original: Around, self: StarReducer, bucket: int, leaves: int) -> None:
        original(self, bucket, leaves)
        _, start, stop = self.buckets[bucket]
        total = self._gradient[start:stop]
        total += sums.get((start, stop), 0.0)
        sums[start, stop] = total.copy()

    wrap(patches, StarReducer, "_sum", summed)


def _coordinator(name: str, kind: str, sentence: str, patch: Any) -> Bug:
    return Bug(name, kind, sentence, patch, place="coordinator", exchange=("star",))


BUGS = (
    _coordinator(
        "star-averaged-again",
        "divided-twice",
        "The coordinator divides what is the mean already by the number of ranks.",
        _averaged_again,
    ),
    _coordinator(
        "star-arrival-order",
        "arrival-order",
        "The coordinator adds up what ranks have sent as it arrives, here the last rank's first.",
        _last_comes_first,
    ),
    _coordinator(
        "star-first-for-all",
        "same-shard",
        "All ranks' frames are read from the buffer of the first.",
        _first_for_all,
    ),
    _coordinator(
        "star-not-reset",
        "not-reset",
        "The coordinator's sum begins with that of the step before.",
        _kept,
    ),
)
