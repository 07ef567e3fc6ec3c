"""Bugs by which a rank computes with other weights than the rest."""

from typing import Any

import numpy as np

from dptrain.exchange.rank import Rank, Share
from dptrain.gradcheck.zoo.bug import Bug, Patches
from dptrain.gradcheck.zoo.seams import Around, here, note_rank, wrap
from dptrain.optim.updater import Updater
from dptrain.worker.gradients import StarRank


def _stale_shared(patches: Patches) -> None:
    note_rank(patches)

    def gather(original: Around, self: Rank, share: Share, version: int = 0) -> Any:
        stale = here.rank == 1 and share.step > 0
        return original(self, share, 1 - version if stale else version)

    wrap(patches, Rank, "gather", gather)


def _stale_star(patches: Patches) -> None:
    """Rank 1 computes with the weights that came a step before."""
    note_rank(patches)
    kept: list[Any] = []

    def compute(original: Around, self: StarRank, order: Any) -> Any:
        present = self._weights.copy()
        if here.rank == 1 and kept:
            np.copyto(self._weights, kept.pop())
        kept.append(present)
        return original(self, order)

    wrap(patches, StarRank, "compute", compute)


def _no_first_broadcast(patches: Patches) -> None:
    note_rank(patches)
    seen: set[int] = set()

    def take(original: Around, self: StarRank, bucket: int) -> None:
        original(self, bucket)
        if here.rank == 1 and bucket not in seen:
            seen.add(bucket)
            _, start, stop = self._buckets[bucket]
            own = self._rank.job.network.initial_parameters(here.rank, self._weights.dtype)
            self._weights[start:stop] = own[start:stop]

    wrap(patches, StarRank, "take", take)


def _update_skipped(patches: Patches) -> None:
    note_rank(patches)

    def update(original: Around, self: Updater, step: int, pieces: Any, *others: Any) -> None:
        if here.rank != 1 or step != 1:
            original(self, step, pieces, *others)
            return
        for arrays, _ in pieces:
            np.copyto(arrays.new_w, arrays.w)
            for new, old in zip(arrays.new_slots, arrays.slots, strict=True):
                np.copyto(new, old)

    wrap(patches, Updater, "update", update)


BUGS = (
    Bug(
        "stale-weights-shared",
        "stale-weights",
        "Rank 1 computes with the weights of the step before.",
        _stale_shared,
        rank=1,
    ),
    Bug(
        "stale-weights-star",
        "stale-weights",
        "Rank 1 computes with the weights of the step before.",
        _stale_star,
        exchange=("star",),
        rank=1,
    ),
    Bug(
        "no-first-broadcast",
        "stale-weights",
        "Rank 1 begins with weights that it has drawn itself.",
        _no_first_broadcast,
        exchange=("star",),
        rank=1,
    ),
    Bug(
        "update-skipped",
        "update-skipped",
        "Rank 1 leaves its slice of the weights as it is in the second step.",
        _update_skipped,
        habitat="momentum",
        rank=1,
    ),
)
