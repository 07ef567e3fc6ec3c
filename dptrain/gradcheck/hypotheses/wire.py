"""Bugs on the way: what happens to numbers between the one who computed them and the optimizer."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis
from dptrain.gradcheck.reference.bounded import narrowed

Array = NDArray[Any]
Change = Callable[[Array], Array]

FEW_RANKS = 4  # so few that all combinations of them can be tried


def hypotheses(evidence: Evidence) -> Iterator[Hypothesis]:
    """Yield what each bug would lead to, on all ranks' parts or on one."""
    e = evidence
    yield from _flipped(e)
    yield from _in_another_order(e)
    yield from _truncated(e)
    yield from _reused(e)
    changes: list[tuple[str, str, Change]] = [
        ("float16", "rounded to float16 on the way", lambda g: narrowed(g, np.float16)),
        ("float32", "rounded to float32 on the way", lambda g: narrowed(g, np.float32)),
        ("bfloat16", "rounded to bfloat16 on the way", _to_bfloat16),
        ("byte-order", "read with its bytes in the wrong order", _swapped),
        ("parameter-order", "with its tensors in another order", lambda g: _reversed(e, g)),
        ("parameter-order", "with every layer's tensors reversed", lambda g: _reordered(e, g)),
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
            for own in _some(len(parts)):
                whose = " and ".join(f"rank {rank}'s part" for rank in own)
                verb = "is" if len(own) == 1 else "are"
                moved = sum((change(parts[r]) - parts[r] for r in own), 0 * e.right)
                yield Hypothesis(kind, f"{whose} {verb} {what}", e.right + moved)


def _some(ranks: int) -> list[Sequence[int]]:
    """Return one rank after the other, and where they are few all combinations but the whole."""
    most = ranks if ranks <= FEW_RANKS else 2
    return [own for n in range(1, most) for own in combinations(range(ranks), n)]


def _to_bfloat16(g: Array) -> Array:
    bits = g.astype(np.float32).view(np.uint32).astype(np.uint64)
    kept = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return kept.astype(np.uint32).view(np.float32).astype(float)


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


def _in_another_order(e: Evidence) -> Iterator[Hypothesis]:
    """Rounding is all that differs."""
    if e.close() and not (e.found == e.right)[e.scale > 0].all():
        sentence = "only rounding differs: the shards are summed in another order"
        yield Hypothesis("arrival-order", sentence, e.found)


def _flipped(e: Evidence) -> Iterator[Hypothesis]:
    """A few elements alone, at most one or two of each tensor."""
    different = np.flatnonzero((e.found != e.right) & (e.scale > 0))
    if not 0 < len(different) <= min(2 * len(e.tensors), int(np.count_nonzero(e.scale)) // 10):
        return
    place = int(different[0])
    tensor = next(t for t in e.tensors if t.start <= place < t.stop)
    where = [int(i) for i in np.unravel_index(place - tensor.start, tensor.shape)]
    predicted = e.right.copy()
    predicted[different] = e.found[different]
    count = "one element is" if len(different) == 1 else f"{len(different)} single elements are"
    yield Hypothesis(
        "bit-flip",
        f"{count} wrong, as after a flipped bit: {tensor.name}{where} is {float(e.found[place])!r} "
        f"instead of {float(e.right[place])!r}",
        predicted,
    )


def _truncated(e: Evidence) -> Iterator[Hypothesis]:
    """The ends of all, or of one rank's part, are zero: of the whole or of each layer."""
    parts = [(f"rank {r}'s part", e.shards[a:b].sum(axis=0)) for r, (a, b) in enumerate(e.ranks)]
    for what, part in [("the gradient", e.right), *parts]:
        rest = e.found - (e.right - part)
        room = 1e-9 * (np.abs(part) + np.abs(e.right))
        counts = (part != 0) & (e.scale > 0)
        lost = counts & (np.abs(rest) <= room) & (np.abs(part) > 2 * room)
        kept = counts & (np.abs(rest - part) <= room)
        if lost.any() and kept.any() and not (counts & ~lost & ~kept).any():
            first = int(np.flatnonzero(lost)[0])
            if any(0 < area.start == first for area in e.areas):  # then the area is to blame
                continue
            sentence = f"{what} ends in zeros, first from element {first} on"
            yield Hypothesis("truncated", sentence, e.right - np.where(lost, part, 0))


def _reused(e: Evidence) -> Iterator[Hypothesis]:
    """What stands where one layer's gradient belongs is another's: sent from one buffer."""
    predicted, moved = e.right.copy(), False
    spans = layer_spans(e)
    for own in spans:
        for other in spans:
            size = min(own.stop - own.start, other.stop - other.start)
            found = e.found[own.start : own.start + size]
            theirs = e.right[other.start : other.start + size]
            right = e.right[own.start : own.start + size]
            if own != other and np.array_equal(found, theirs) and not np.array_equal(found, right):
                predicted[own] = e.found[own]
                moved = True
    if moved:
        sentence = (
            "layers' gradients stand in each other's place: a buffer was used again too early"
        )
        yield Hypothesis("race", sentence, predicted)


def layer_spans(e: Evidence) -> list[slice]:
    """Return where each layer's trained tensors stand."""
    found: dict[str, slice] = {}
    for tensor in e.tensors:
        layer = tensor.name.rpartition(".")[0]
        begun = found[layer].start if layer in found else tensor.start
        found[layer] = slice(begun, tensor.stop)
    return list(found.values())


def _reordered(e: Evidence, g: Array) -> Array:
    """Return a gradient with the tensors of every layer in reverse order."""
    found = g.copy()
    for span in layer_spans(e):
        own = [t for t in e.tensors if span.start <= t.start < span.stop]
        found[span] = np.concatenate([g[t.start : t.stop] for t in reversed(own)])
    return found
