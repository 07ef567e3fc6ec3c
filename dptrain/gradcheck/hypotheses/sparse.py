"""Elements of ranks' parts that never arrived, each for itself, as compression leaves them out."""

from collections.abc import Iterator

import numpy as np

from dptrain.gradcheck.hypotheses.evidence import Array, Evidence, Hypothesis
from dptrain.gradcheck.reference.bounded import UNITS

# Sums of all subsets of so many parts are tried.
MOST = 5
ROUNDINGS = 64


def hypotheses(e: Evidence) -> Iterator[Hypothesis]:
    """Yield that of every wrong element some ranks' numbers are missing, others in others."""
    parts = np.array([e.shards[low:high].sum(axis=0) for low, high in e.ranks])
    with_rows = [rank for rank, rows in enumerate(e.rows_of_ranks) if rows]
    if not 2 <= len(with_rows) <= MOST or not e.wrong.any():
        return
    room = ROUNDINGS * UNITS["float64"] * np.abs(parts).sum(axis=0)
    predicted, missing = e.right.copy(), np.zeros(parts.shape, bool)
    open_ = e.wrong.copy()
    # as few as possible are missing
    subsets = sorted(range(1, 2 ** len(with_rows)), key=lambda s: s.bit_count())
    for subset in subsets:
        lost = [rank for i, rank in enumerate(with_rows) if subset >> i & 1]
        value = e.right - parts[lost].sum(axis=0)
        with np.errstate(invalid="ignore"):
            fits = open_ & (np.abs(e.found - value) <= room)
        predicted[fits] = value[fits]
        missing[lost] |= fits
        open_ &= ~fits
    if open_.any() or not missing.any():
        return
    counts = missing.sum(axis=1)
    if len(np.unique(missing[:, e.wrong], axis=1).T) < 2:
        return  # always the same ranks: their parts are missing
    listed = ", ".join(f"{counts[rank]} of rank {rank}" for rank in np.flatnonzero(counts))
    small = all(_smallest(e, parts[rank], missing[rank]) for rank in np.flatnonzero(counts))
    which = "the smallest numbers" if small else "numbers"
    sentence = f"{which} of ranks' parts are left out, as compression does: {listed}"
    yield Hypothesis("elements-dropped", sentence, predicted)


def _smallest(e: Evidence, part: Array, missing: Array) -> bool:
    """Return whether what is missing of a part are its small numbers, tensor by tensor."""
    for _, own in e.spans():
        size, gone = np.abs(part[own]), missing[own]
        kept = size[~gone & (size > 0)]
        if gone.any() and kept.size and size[gone].max() > kept.min():
            return False
    return True
