"""Bugs on the way: what happens to numbers between the one who computed them and the optimizer."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis

Array = NDArray[Any]
Change = Callable[[Array], Array]


def hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """Yield what each bug would lead to, on all ranks' parts or on one."""
    e = evidence
    yield from _flipped(e)
    yield from _swallowed(e)
    yield from _truncated(e)
    changes: list[tuple[str, str, Change]] = [
        ("float16", "rounded to float16 on the way", lambda g: g.astype(np.float16).astype(float)),
        ("float32", "rounded to float32 on the way", lambda g: g.astype(np.float32).astype(float)),
        ("byte-order", "read with its bytes in the wrong order", _swapped),
        ("parameter-order", "with its tensors in another order", lambda g: _reversed(e, g)),
        ("parameter-order", "reversed from end to end", lambda g: g[::-1]),
    ]
    for shift in (1, -1):
        place = "forward" if shift > 0 else "back"
        changes.append(("bucket-offset", f"shifted by one element {place}", _rolled(shift)))
        changes.append(("bucket-offset", f"shifted by one element {place}", _shifted(shift)))
    parts = [e.shards[low:high].sum(axis=0) for low, high in e.ranks]
    with np.errstate(all="ignore"):
        for kind, what, change in changes:
            yield Hypothesis(kind, f"the gradient is {what}", change(e.right))
            yield Hypothesis(
                kind, f"every rank's part is {what}", sum(map(change, parts), 0 * e.right)
            )
            shards = sum(map(change, e.shards), 0 * e.right)
            yield Hypothesis(kind, f"every shard's part is {what}", shards)
            for rank, part in enumerate(parts):
                yield Hypothesis(
                    kind, f"rank {rank}'s part is {what}", e.right - part + change(part)
                )


def _swapped(g: Array) -> Array:
    return np.asarray(np.nan_to_num(g.astype(float).byteswap(), nan=1e308))


def _reversed(e: Evidence, g: Array) -> Array:
    found = np.concatenate([g[own] for _, own in reversed(list(e.spans()))])
    return np.concatenate([found, g[len(found) :]])


def _rolled(shift: int) -> Change:
    return lambda g: np.roll(g, shift)


def _shifted(shift: int) -> Change:
    def change(g: Array) -> Array:
        found = np.roll(g, shift)
        found[0 if shift > 0 else -1] = 0
        return found

    return change


def _flipped(e: Evidence) -> Iterator[Hypothesis]:
    """One element, one bit."""
    different = np.flatnonzero((e.found != e.right) & (e.scale > 0))
    with np.errstate(all="ignore"):
        far = [i for i in different if abs(e.found[i] - e.right[i]) > 1e-12 * abs(e.right[i])]
    if len(far) != 1:
        return
    place = far[0]
    tensor = next(t for t in e.tensors if t.start <= place < t.stop)
    where = tuple(int(i) for i in np.unravel_index(place - tensor.start, tensor.shape))
    predicted = e.right.copy()
    predicted[place] = e.found[place]
    yield Hypothesis(
        "bit-flip",
        f"one element is wrong, {tensor.name}{list(where)}: {e.found[place]!r} instead of "
        f"{e.right[place]!r}, as after a flipped bit",
        predicted,
    )


def _swallowed(e: Evidence) -> Iterator[Hypothesis]:
    bad = ~np.isfinite(e.right)
    if bad.any() and np.isfinite(e.found).all():
        yield Hypothesis(
            "nan-swallowed",
            "what is no number was replaced by a number",
            np.where(bad, e.found, e.right),
        )


def _truncated(e: Evidence) -> Iterator[Hypothesis]:
    """The end is zero, of all or of one rank's part."""
    parts = [
        (f"rank {r}'s part", e.shards[low:high].sum(axis=0))
        for r, (low, high) in enumerate(e.ranks)
    ]
    for what, part in [("the gradient", e.right), *parts]:
        rest = e.found - (e.right - part)
        counts = (part != 0) & (e.scale > 0)
        kept = counts & (np.abs(rest - part) <= 1e-9 * (np.abs(part) + np.abs(e.right)))
        end = int(np.flatnonzero(kept).max(initial=-1)) + 1
        if end <= int(np.flatnonzero(counts).max(initial=-1)):
            predicted = e.right - np.where(np.arange(len(part)) < end, 0, part)
            yield Hypothesis("truncated", f"{what} ends in zeros from element {end} on", predicted)
