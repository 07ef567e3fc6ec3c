"""What is wrong with rows that are not those of the data."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis, likeliest
from dptrain.gradcheck.hypotheses.orders import (
    UNKNOWN,
    Sighting,
    bounds_of,
    edges_of,
    facts,
    listed,
    orders,
)
from dptrain.gradcheck.minibatches.sighted import Sighted
from dptrain.gradcheck.reference.minibatches import Stored, Visits

Array = NDArray[Any]
Change = Callable[[Sighted], Array]

# Numbers of the data that are searched for rows that nobody expects, and so many rows at a time.
MOST, PIECE = 50_000_000, 4096
# What is left is rounding if it is so small a part of the inputs, and of what is wrong.
CLOSE, LITTLE = 1e-6, 1e-3


def diagnose_rows(
    seen: Sequence[Sighted], stored: Stored, visits: Visits, shards: int
) -> list[Diagnosis]:
    """Return what could be wrong with rows, the best explanation first.

    Args:
        seen: all steps that were looked at, in one process or in ranks.
        stored: the data.
        visits: which rows the steps should have.
        shards: of a minibatch.
    """
    beyond = _wrong_rows(seen, stored, visits.minibatch)
    if not beyond:
        return []
    found: list[Diagnosis] = []
    sightings = [Sighting(s.step, s.wanted, r) for s, r in _identified(seen, stored, visits)]
    for kind, sentence in _of_ranks(seen, sightings, shards):
        found.append(Diagnosis(kind, sentence, 0.0))
    workers = seen[0].workers
    for order in orders(visits, bounds_of(shards, workers) if workers else (), shards):
        wrong = _wrong_rows(seen, stored, order.minibatch)
        found.append(Diagnosis(order.kind, order.sentence, wrong / beyond))
    unknown = sum(int((each.seen == UNKNOWN).sum()) for each in sightings)
    if not _any_other_targets(seen, stored):
        for kind, sentence in facts(visits, sightings):
            found.append(Diagnosis(kind, sentence, min(1.0, unknown / beyond)))
    found += _of_inputs(seen, stored)
    found += _of_targets(seen, stored, visits)
    if unknown:
        sentence = f"{unknown} of the rows seen have inputs that no row of the data has."
        found.append(Diagnosis("inputs-unknown", sentence, 0.05))
    return likeliest(found)


def _wrong_rows(
    seen: Sequence[Sighted], stored: Stored, minibatch: Callable[[int], Array]
) -> float:
    """Return how many rows are not those of other minibatches."""
    wrong = 0
    for each in seen:
        rows = minibatch(each.step)
        if len(rows) != len(each.x) or len(rows) != len(each.t):
            wrong += max(len(rows), len(each.x))
        elif len(rows):
            x, t = stored.inputs(rows), stored.targets(rows)
            wrong += int(np.count_nonzero(_rows_differ(each.x, x) | _rows_differ(each.t, t)))
    return float(wrong)


def _rows_differ(a: Array, b: Array) -> Array:
    found: Array = (a != b).reshape(len(a), -1).any(axis=1)
    return found


def _identified(
    seen: Sequence[Sighted], stored: Stored, visits: Visits
) -> Iterator[tuple[Sighted, Array]]:
    """Yield the stored rows that steps have, by their inputs; of equal ones those that should."""
    found = _by_contents(stored, visits)
    for each in seen:
        rows = np.full(len(each.x), UNKNOWN)
        own = set(each.wanted.tolist())
        for i, x in enumerate(each.x):
            likely = found.get(hash(x.tobytes()), [])
            first = [int(each.wanted[i])] if i < len(each.wanted) else []
            better = [r for r in [*first, *own] if r in likely]
            rows[i] = next(iter([*better, *likely]), UNKNOWN)
        yield each, rows


def _by_contents(stored: Stored, visits: Visits) -> dict[int, list[int]]:
    """Return the stored rows by a hash of their inputs, those to train on first."""
    found: dict[int, list[int]] = defaultdict(list)
    searched = MOST // max(1, math.prod(stored.x.shape[1:]))
    for rows in (visits.train, visits.validation, visits.test, visits.spare):
        for start in range(0, min(len(rows), searched), PIECE):
            piece = rows[start : start + PIECE]
            for row, x in zip(piece.tolist(), stored.inputs(piece), strict=True):
                found[hash(x.tobytes())].append(row)
    return found


def _of_ranks(
    seen: Sequence[Sighted], sightings: Sequence[Sighting], shards: int
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with which rows of a minibatch each rank has."""
    for each, (_, wanted, rows) in zip(seen, sightings, strict=True):
        if not each.workers or len(np.setdiff1d(rows, wanted)):
            continue
        gone = np.setdiff1d(wanted, rows)
        if len(gone) and len(rows) < len(wanted):
            pairs = [(each.step, int(row)) for row in gone]
            yield "rows-lost", f"Rows belong to no one of {each.workers} ranks: {listed(pairs)}."
            return
        if len(rows) != len(wanted) or not len(gone):
            continue
        edges = edges_of(bounds_of(shards, each.workers), len(wanted), shards)
        place = {int(row): i for i, row in enumerate(wanted)}
        first = [place[int(row)] for row in rows[: edges[0][1]]]
        for rank, (low, high) in enumerate(edges):
            own = [place[int(row)] for row in rows[low:high]]
            if own == list(range(low, high)):
                continue
            if own == first[: len(own)]:
                yield "same-shard", f"Rank {rank} has the rows of rank 0."
            yield (
                "overlapping-shards",
                f"Rank {rank} has the places {_span(own)} of the minibatch of step {each.step} "
                f"instead of {_span(list(range(low, high)))}.",
            )
            return


def _span(places: Sequence[int]) -> str:
    if len(places) > 1 and list(places) == list(range(places[0], places[-1] + 1)):
        return f"{places[0]} to {places[-1]}"
    return ", ".join(map(str, places))


def _any_other_targets(seen: Sequence[Sighted], stored: Stored) -> bool:
    """Return whether rows with the right inputs have wrong targets."""
    return any(
        bool((_rows_differ(s.t, stored.targets(s.wanted)) & ~_rows_differ(s.x, x)).any())
        for s, x in ((s, stored.inputs(s.wanted)) for s in seen if s.whole and len(s.x))
    )


def _of_inputs(seen: Sequence[Sighted], stored: Stored) -> Iterator[Diagnosis]:
    """Yield what may have been done to the inputs of the right rows."""
    whole = [each for each in seen if each.whole and len(each.x)]
    if not whole:
        return
    pairs = [(each.x.astype(float), stored.inputs(each.wanted).astype(float)) for each in whole]
    found, wanted = (np.concatenate([p[i] for p in pairs]) for i in (0, 1))
    wrong = np.abs(found - wanted).max(initial=0)
    if not wrong:
        return
    for kind, sentence, other in _other_inputs(found, wanted):
        with np.errstate(invalid="ignore", over="ignore"):
            left = float(np.nan_to_num(np.abs(found - other), nan=np.inf).max(initial=0))
        rounding = left <= CLOSE * np.abs(found).max() and left <= LITTLE * wrong
        yield Diagnosis(kind, sentence, 0.0 if rounding else min(left / wrong, 1.0))


def _other_inputs(found: Array, wanted: Array) -> Iterator[tuple[str, str, Array]]:
    for name in ("float32", "float16"):
        with np.errstate(over="ignore"):
            yield "inputs-rounded", f"Inputs are rounded to {name}.", wanted.astype(name)
    size = float((wanted**2).sum())
    factor = float((found * wanted).sum()) / size if size else 0.0
    sentence = f"Inputs are {factor:.6g} times what they should be."
    yield "inputs-scaled", sentence, factor * wanted
    columns = np.stack([wanted.reshape(-1), np.ones(wanted.size)], axis=1)
    if np.isfinite(found).all():
        (slope, offset), *_ = np.linalg.lstsq(columns, found.reshape(-1), rcond=None)
        sentence = f"Inputs x have become {slope:.6g} x + {offset:.6g}."
        yield "inputs-scaled", sentence, slope * wanted + offset
    axes = {1: "elements", 2: "rows", 3: "columns"} if wanted.ndim > 2 else {1: "elements"}
    for axis, name in axes.items():
        if axis < wanted.ndim:
            sentence = f"The inputs' {name} are in the opposite order."
            yield "inputs-permuted", sentence, np.flip(wanted, axis)
            for by in (1, -1):
                sentence = f"The inputs' {name} are moved on by {by}."
                yield "inputs-permuted", sentence, np.roll(wanted, by, axis)
    if wanted.ndim > 2 and wanted.shape[1] == wanted.shape[2]:
        sentence = "Images are transposed: rows and columns are swapped."
        yield "inputs-permuted", sentence, np.swapaxes(wanted, 1, 2)
    rows = found.reshape(len(found), -1), wanted.reshape(len(wanted), -1)
    if all(map(np.array_equal, np.sort(rows[0]), np.sort(rows[1]))):
        yield "inputs-permuted", "The elements of each row's inputs are in another order.", found


def _of_targets(seen: Sequence[Sighted], stored: Stored, visits: Visits) -> Iterator[Diagnosis]:
    """Yield what may have been done to the targets of rows whose inputs are right."""
    whole = [each for each in seen if each.whole and len(each.x)]
    beyond = _wrong_targets(whole, lambda each: stored.targets(each.wanted))
    if not beyond:
        return
    for kind, sentence, change in _other_targets(stored, visits):
        yield Diagnosis(kind, sentence, _wrong_targets(whole, change) / beyond)
    wrong = [
        (each.step, int(each.wanted[i]))
        for each in whole
        for i in np.flatnonzero(_rows_differ(each.t, stored.targets(each.wanted)))
    ]
    sentence = f"Targets are not those of their rows: {listed(wrong)}."
    inputs = sum(int(_rows_differ(s.x, stored.inputs(s.wanted)).sum()) for s in whole)
    yield Diagnosis("targets-of-other-rows", sentence, min(1.0, inputs / beyond))


def _wrong_targets(seen: Sequence[Sighted], change: Change) -> float:
    return float(sum(int(_rows_differ(each.t, change(each)).sum()) for each in seen))


def _other_targets(stored: Stored, visits: Visits) -> Iterator[tuple[str, str, Change]]:
    def of(rows: Callable[[Sighted], Array]) -> Change:
        return lambda each: stored.targets(rows(each))

    kind = "targets-of-other-rows"
    if visits.stored > len(visits.train):
        sentence = "Targets are taken without the index of the split: inputs and targets part."
        yield kind, sentence, of(lambda each: np.searchsorted(visits.train, each.wanted))
    for by in (1, -1):
        sentence = f"The targets of a minibatch are rotated by {by} against its inputs."
        yield kind, sentence, of(lambda each, by=by: np.roll(each.wanted, by))  # type: ignore[misc]
    sentence = "The targets of a minibatch are in the opposite order of its inputs."
    yield kind, sentence, of(lambda each: each.wanted[::-1])
    sentence = "The targets of a minibatch are not shuffled as its inputs are."
    yield kind, sentence, of(lambda each: np.sort(each.wanted))
    sentence = "Targets are those of the step before."
    yield (
        kind,
        sentence,
        of(lambda each: np.resize(visits.minibatch(max(each.step - 1, 0)), len(each.wanted))),
    )
    for by in (1, -1):
        sentence = f"Targets are {by:+d} against those of the data."
        yield "targets-changed", sentence, lambda s, by=by: stored.targets(s.wanted) + by  # type: ignore[misc]
    sentence = "Targets have the opposite sign."
    yield "targets-changed", sentence, lambda s: -stored.targets(s.wanted)
    sentence = "Targets are 1 less what they should be."
    yield "targets-changed", sentence, lambda s: 1 - stored.targets(s.wanted)
    for name in ("float32", "float16"):
        sentence = f"Targets are rounded to {name}."
        yield "targets-rounded", sentence, lambda s, d=name: stored.targets(s.wanted).astype(d)  # type: ignore[misc]
