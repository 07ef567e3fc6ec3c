"""Augmented rows: the known mistakes in what is drawn for them, and in what is done with it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis, Mistake, likeliest, weighed
from dptrain.gradcheck.hypotheses.orders import bounds_of
from dptrain.gradcheck.minibatches.recipe import Recipe, Row, Seen, as_stored
from dptrain.gradcheck.reference.augmentation import (
    MOVES,
    NOISE,
    TURNS,
    Augmented,
    Draws,
    Moves,
    augmented,
    moved,
)
from dptrain.gradcheck.reference.minibatches import Stored, sizes

Array = NDArray[Any]
# Step and shard whose stream a shard takes, of its step, its number and its place.
Stream = Callable[[int, int, Sequence[int]], tuple[int, int]]
Places = Callable[[Seen, int], list[int]]
# What becomes of inputs, of how they should be moved and of the noise that should be added.
Make = Callable[[Array, Moves, Array], Array]

# What is only measured comes behind what is explained.
UNEXPLAINED = 0.05
# Of the noise's deviation, which was measured.
CLOSE = 1e-6
# Steps that are explained, the first ones and the first wrong ones: enough to tell mistakes apart.
LOOKED_AT = 6


def augmenting(draws: Draws, shards: int) -> Recipe:
    """Return how augmented rows come about from draws, in minibatches of so many shards."""
    return Recipe(augment=lambda each, x: _made(draws, shards, each, x))


def _made(draws: Draws, shards: int, each: Seen, x: Array) -> Augmented:
    return augmented(x, sizes(len(x), shards), each.step, draws)


def diagnose_augmentation(
    found: Sequence[Seen], stored: Stored, draws: Draws, shards: int
) -> list[Diagnosis]:
    """Return what could be wrong with augmented rows, the best explanation first."""
    whole, right = [each for each in found if each.whole], augmenting(draws, shards)
    ranks = [_ranks(each, right.wrong(each, stored)) for each in whole]
    suspects = {rank for wrong in ranks for rank in wrong}
    first = [i for i, wrong in enumerate(ranks) if wrong][:LOOKED_AT]
    some = [whole[i] for i in sorted({*range(len(whole))[:LOOKED_AT], *first})]

    def wrong(recipe: Recipe) -> int:
        rows = [np.repeat(np.isin(range(len(s.ranks)), [*suspects]), s.ranks) for s in some]
        return sum(int(recipe.wrong(s, stored)[r].sum()) for s, r in zip(some, rows, strict=True))

    beyond = wrong(right)
    rows = [*_drawn(draws, shards), *_done(draws, shards)]
    sentence = f"Rows are augmented otherwise than is drawn, such as in {some[0].where}."
    like = Diagnosis("augmentation-moves", sentence, UNEXPLAINED)
    if draws.deviation:
        row, noise = _measured(*_noise(some, stored, draws, shards), draws, shards)
        rows.append(row)
        like = replace(noise, kind=like.kind) if draws.moves_images else noise
    told = [*weighed(rows, lambda recipe: wrong(recipe) / beyond), like]
    where = ""
    if len(suspects) < len(found[0].ranks):
        where = f"In rank {', '.join(map(str, sorted(suspects)))} alone: "
    return [replace(each, sentence=where + each.sentence) for each in likeliest(told)]


def _ranks(each: Seen, wrong: Array) -> list[int]:
    edges = np.cumsum([0, *each.ranks])
    return [rank for rank in range(len(each.ranks)) if wrong[edges[rank] : edges[rank + 1]].any()]


def _in_rank(each: Seen, shards: int) -> list[int]:
    return [i for span in bounds_of(shards, max(each.workers, 1)) for i in range(span[1] - span[0])]


def _rank(each: Seen, shards: int) -> list[int]:
    bounds = bounds_of(shards, max(each.workers, 1))
    return [rank for rank, span in enumerate(bounds) for _ in range(*span)]


def _in_block(each: Seen, shards: int) -> list[int]:
    """Return the place of every shard among those of its rank with as many rows."""
    rows = sizes(len(each.wanted), shards)
    bounds = bounds_of(shards, max(each.workers, 1))
    return [s - next(o for o in range(*b) if rows[o] == rows[s]) for b in bounds for s in range(*b)]


REPEATED, BY_PLACE = "augmentation-repeated", "augmentation-by-local-shard"
STREAMS: tuple[tuple[str, str, Places, Stream], ...] = (
    (REPEATED, "Every step draws the {} of step 0.", _rank, lambda _, s, __: (0, s)),
    (REPEATED, "Every step draws the {} of the step before.", _rank,
     lambda step, s, _: (max(step - 1, 0), s)),
    (REPEATED, "Every step draws the {} of the step after it.", _rank,
     lambda step, s, _: (step + 1, s)),
    ("augmentation-equal-shards", "Streams of {} are those of shard 0, for every shard.", _rank,
     lambda step, _, __: (step, 0)),
    *(
        (BY_PLACE, f"Streams of {{}} are chosen by {what}.", at, lambda step, s, at: (step, at[s]))
        for what, at in (
            ("a shard's place in its rank, not in the minibatch", _in_rank),
            ("a shard's place in its block, not in the minibatch", _in_block),
            ("the rank, not by the shard", _rank),
        )
    ),
)  # fmt: skip


def _drawn(draws: Draws, shards: int) -> Iterator[Row]:
    """Yield mistakes in what is drawn: of other streams, in other ranges, of another sign."""
    for what, name, on in (
        (MOVES, "moves", draws.moves_images),
        (NOISE, "noise", bool(draws.deviation)),
    ):
        for kind, sentence, places, stream in STREAMS if on else ():
            streamed = Recipe(augment=partial(_streamed, draws, shards, what, places, stream))
            yield Mistake(kind, sentence.format(name), streamed)
    for needs, kind, sentence, changes in _changes(draws.shift, draws.rotate):
        if getattr(draws, needs):
            recipe = augmenting(replace(draws, **changes), shards)
            yield Mistake(f"augmentation-{kind}", sentence, recipe)


def _streamed(
    draws: Draws, shards: int, what: int, places: Places, stream: Stream, each: Seen, x: Array
) -> Augmented:
    at = places(each, shards)
    others = replace(
        draws, stream=lambda of, step, s: stream(step, s, at) if of == what else (step, s)
    )
    return _made(others, shards, each, x)


def _changes(n: int, rotate: float) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield what must be drawn for a mistake to matter, kind, sentence, and what it changes."""
    for needs, kind, sentence, moves in (
        ("moves_images", "missing", "Images are not moved.", lambda m: Moves(*(0 * p for p in m))),
        ("shift", "moves", "Images move up where they should move down.",
         lambda m: m._replace(down=-m.down)),
        ("shift", "moves", "Images move left where they should move right.",
         lambda m: m._replace(right=-m.right)),
        ("shift", "moves", "Images move up and left where they should move down and right.",
         lambda m: m._replace(down=-m.down, right=-m.right)),
        ("shift", "moves", "Shifts down and to the right are swapped.",
         lambda m: m._replace(down=m.right, right=m.down)),
        ("shift", "moves", "Images are shifted by the same number in both directions.",
         lambda m: m._replace(right=m.down)),
        ("shift", "moves", "Images are not shifted.",
         lambda m: m._replace(down=0 * m.down, right=0 * m.right)),
        ("rotate", "moves", "Images turn clockwise where they should turn counter-clockwise.",
         lambda m: m._replace(angle=-m.angle)),
        ("rotate", "moves", "Images are not turned.", lambda m: m._replace(angle=0 * m.angle)),
        ("rotate", "moves", "Angles in degrees are taken for radians.",
         lambda m: m._replace(angle=np.degrees(m.angle))),
        ("rotate", "moves", "Images turn twice as far.", lambda m: m._replace(angle=2 * m.angle)),
        ("rotate", "moves", "Images turn half as far.", lambda m: m._replace(angle=m.angle / 2)),
        ("moves_images", "equal-rows", "All images of a shard are moved alike.",
         lambda m: Moves(*map(_first_row, m))),
    ):  # fmt: skip
        yield needs, kind, sentence, {"change_moves": moves}
    for kind, sentence, noise in (
        ("missing", "No noise is added.", lambda z: 0 * z),
        ("noise", "Noise is taken off instead of added.", lambda z: -z),
        ("noise", "Noise is never negative: its absolute value is added.", np.abs),
        ("equal-rows", "All rows of a shard get the same noise.", _first_row),
    ):
        yield "deviation", kind, sentence, {"change_noise": noise}
    for word in range(3):
        sentence = f"The step is word {word} of the counter, not the last: streams overlap."
        yield "anything", "overlap", sentence, {"word": word}
    shifted = "Images are shifted"
    for needs, sentence, ends in (
        ("shift", f"{shifted} from -{n} to {n - 1} pixels, and never by {n}.",
         lambda n: (-n, n - 1)),
        ("shift", f"{shifted} from {1 - n} to {n} pixels, and never by -{n}.",
         lambda n: (1 - n, n)),
        ("shift", f"{shifted} by 0 to {n} pixels, and never up or left.", lambda n: (0, n)),
        ("rotate", f"Angles never reach the limit of {rotate:g} degrees.",
         lambda n: (-n, n - (n == TURNS))),
    ):  # fmt: skip
        yield needs, "range", sentence, {"spread": partial(_between, ends)}
    for other in (n - 1, n + 1):
        sentence = f"{shifted} by up to {other} pixels instead of {n}."
        yield "shift", "range", sentence, {"shift": other}


def _first_row(drawn: Array) -> Array:
    return np.broadcast_to(drawn[:1], drawn.shape)


def _between(ends: Callable[[int], tuple[int, int]], uniform: Array, limit: int) -> Array:
    low, high = ends(limit)
    found: Array = np.floor(uniform * np.float32(high - low + 1)).astype(int) + low
    return found


def _done(draws: Draws, shards: int) -> Iterator[Row]:
    """Yield mistakes in what is done with draws that are right."""
    kind, still = "augmentation-missing", "Nothing is done to the rows."
    yield Mistake(kind, still, Recipe(augment=as_stored))
    rows: list[tuple[Any, str, str, Make]] = [
        (draws.deviation and draws.moves_images, "order",
         "Noise is added before images are moved.", lambda x, m, z: moved(x + z, m)),
        (draws.shift and draws.rotate, "order", "Images are shifted before they are turned.",
         lambda x, m, z: moved(moved(x, m._replace(angle=0 * m.angle)), _turned(m)) + z),
        (draws.shift and not draws.rotate, "edges",
         "What images are moved out of comes in again at the other side, instead of 0.", _wrapped),
    ]  # fmt: skip
    for on, kind, sentence, make in rows:
        if on:
            recipe = Recipe(augment=partial(_made_otherwise, draws, shards, make))
            yield Mistake(f"augmentation-{kind}", sentence, recipe)


def _made_otherwise(draws: Draws, shards: int, make: Make, each: Seen, x: Array) -> Augmented:
    noise = _made(replace(draws, shift=0, rotate=0.0), shards, each, 0 * x).x
    moves = draws.moves_of(each.step, sizes(len(x), shards))
    bound = 2 * _made(draws, shards, each, x).bound
    return Augmented(make(x.astype(float), moves, noise), bound)


def _turned(moves: Moves) -> Moves:
    return moves._replace(down=0 * moves.down, right=0 * moves.right)


def _wrapped(x: Array, moves: Moves, noise: Array) -> Array:
    by = zip(x, moves.down, moves.right, strict=True)
    return np.array([np.roll(each, (int(d), int(r)), (0, 1)) for each, d, r in by]) + noise


def _noise(some: Sequence[Seen], stored: Stored, draws: Draws, shards: int) -> tuple[Array, Array]:
    """Return what was added to moved images, flat, and what should have been."""
    pairs = []
    for each in some:
        x = stored.inputs(each.wanted)
        still = _made(replace(draws, deviation=0.0), shards, each, x).x
        pairs.append((each.x - still, _made(draws, shards, each, x).x - still))
    found, wanted = (np.concatenate([pair[i].reshape(-1) for pair in pairs]) for i in (0, 1))
    return found, wanted


def _measured(found: Array, wanted: Array, draws: Draws, shards: int) -> tuple[Row, Diagnosis]:
    """Return how many times too large the noise is, and what it is like."""
    factor = float(found @ wanted) / float(wanted @ wanted)
    recipe = augmenting(replace(draws, deviation=factor * draws.deviation), shards)
    room = CLOSE * draws.deviation * max(1.0, abs(factor))
    sentence = f"Noise is {factor:.6g} times as large as it should be."
    row = Mistake("augmentation-noise", sentence, recipe._replace(room=room))
    sentence = (
        f"What is added has the mean {found.mean():.3g} and the standard deviation "
        f"{found.std():.3g} instead of 0 and {draws.deviation:g}."
    )
    return row, Diagnosis("augmentation-noise", sentence, UNEXPLAINED)
