"""What is wrong with augmentation that is not what its formulas say."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis, likeliest
from dptrain.gradcheck.hypotheses.orders import bounds_of
from dptrain.gradcheck.minibatches.sighted import Sighted
from dptrain.gradcheck.reference.augmentation import (
    TURNS,
    Augmented,
    Draws,
    Moves,
    augmented,
    moved,
)
from dptrain.gradcheck.reference.minibatches import Stored, sizes

Array = NDArray[Any]
Key = Callable[[int, int], tuple[int, int]]
Change = Callable[[Any], Any]
Expect = Callable[[Sighted, Array], Augmented]

# What is only measured comes behind what is explained.
UNEXPLAINED = 0.05


class Mistake(NamedTuple):
    """A bug, and the draws that it leads to.

    Attributes:
        kind: as of `Diagnosis`.
        sentence: likewise.
        draws: in place of the right ones, for a step that was looked at.
    """

    kind: str
    sentence: str
    draws: Callable[[Sighted], Draws]


def _same_stream(step: int, shard: int) -> tuple[int, int]:
    return step, shard


def _as_it_is(found: Any) -> Any:
    return found


@dataclass(frozen=True)
class Spoilt(Draws):
    """Draws that are changed.

    Attributes:
        moves_key: step and shard whose stream is taken for moves.
        noise_key: likewise for noise.
        change_moves: what is made of the moves of a shard.
        change_noise: what is made of its noise.
    """

    moves_key: Key = _same_stream
    noise_key: Key = _same_stream
    change_moves: Change = _as_it_is
    change_noise: Change = _as_it_is

    def moves(self, step: int, shard: int, rows: int) -> Moves:
        """Return other moves."""
        found: Moves = self.change_moves(super().moves(*self.moves_key(step, shard), rows))
        return found

    def noise(self, step: int, shard: int, rows: int) -> Array:
        """Return other noise."""
        found: Array = self.change_noise(super().noise(*self.noise_key(step, shard), rows))
        return found


def diagnose_augmentation(
    seen: Sequence[Sighted], stored: Stored, draws: Draws, shards: int
) -> list[Diagnosis]:
    """Return what could be wrong with augmented rows, the best explanation first.

    Args:
        seen: all steps that were looked at, with the right rows.
        stored: the data.
        draws: what should have been drawn.
        shards: of a minibatch.
    """
    whole = [each for each in seen if each.whole and len(each.x)]
    plain = [stored.inputs(each.wanted) for each in whole]
    suspects: set[int] = set()

    def beyond(expect: Expect) -> float:
        return sum(
            _beyond(each, expect(each, x), suspects) for each, x in zip(whole, plain, strict=True)
        )

    def drawn(of: Callable[[Sighted], Draws]) -> Expect:
        return lambda each, x: augmented(x, sizes(len(x), shards), each.step, of(each))

    for each, x in zip(whole, plain, strict=True):
        right = drawn(lambda _: draws)(each, x)
        suspects |= {r for r in range(len(each.ranks)) if _beyond(each, right, {r})}
    nothing = beyond(drawn(lambda _: draws))
    if not nothing:
        return []
    found = [
        Diagnosis(each.kind, each.sentence, beyond(drawn(each.draws)) / nothing)
        for each in _mistakes(draws, shards)
    ]
    found += [
        Diagnosis(kind, sentence, beyond(expect) / nothing)
        for kind, sentence, expect in _otherwise(draws, shards)
    ]
    found += _measured(whole, plain, draws, shards)
    if len(suspects) == len(whole[0].ranks):
        return likeliest(found)
    only = f"In rank {', '.join(map(str, sorted(suspects)))} alone: "
    return [replace(each, sentence=only + each.sentence) for each in likeliest(found)]


def _beyond(each: Sighted, expected: Augmented, ranks: Collection[int]) -> float:
    """Return how many numbers of some ranks' rows are not as expected."""
    rows = np.repeat(np.isin(np.arange(len(each.ranks)), list(ranks)), each.ranks)
    with np.errstate(invalid="ignore"):
        fits = np.abs(each.x.astype(float) - expected.x) <= expected.bound
    return float(np.count_nonzero(~fits[rows]))


def _mistakes(draws: Draws, shards: int) -> Iterator[Mistake]:
    """Yield bugs in what is drawn."""
    for what, on, key in (
        ("moves", draws.moves_images, "moves_key"),
        ("noise", bool(draws.deviation), "noise_key"),
    ):
        if on:
            for kind, sentence, other in _other_keys(shards):
                yield Mistake(
                    kind,
                    sentence.format(what),
                    lambda s, k=key, o=other: _spoilt(draws, **{k: o(s)}),  # type: ignore[misc]
                )
    changes = {
        "change_moves": _other_moves(draws) if draws.moves_images else (),
        "change_noise": _other_noise() if draws.deviation else (),
    }
    for name, mistakes in changes.items():
        for kind, sentence, change in mistakes:
            spoilt = _spoilt(draws, **{name: change})
            yield Mistake(kind, sentence, lambda _, d=spoilt: d)  # type: ignore[misc]
    for kind, sentence, settings in _other_settings(draws):
        yield Mistake(kind, sentence, lambda _, s=settings: replace(draws, **s))  # type: ignore[misc]


def _spoilt(draws: Draws, **changes: Any) -> Spoilt:
    return Spoilt(**vars(draws), **changes)


def _other_keys(shards: int) -> Iterator[tuple[str, str, Callable[[Sighted], Key]]]:
    """Yield other streams: kind, sentence, and the key for a step that was looked at."""
    kind = "augmentation-repeated"
    yield kind, "Every step draws the {} of step 0.", lambda _: lambda __, shard: (0, shard)
    sentence = "Every step draws the {} of the step before."
    yield kind, sentence, lambda _: lambda step, shard: (max(step - 1, 0), shard)
    sentence = "Every step draws the {} of the step after it."
    yield kind, sentence, lambda _: lambda step, shard: (step + 1, shard)
    sentence = "Streams of {} are those of shard 0, for every shard."
    yield "augmentation-equal-shards", sentence, lambda _: lambda step, __: (step, 0)
    kind = "augmentation-by-local-shard"
    sentence = "Streams of {} are chosen by a shard's place in its rank, not in the minibatch."
    yield kind, sentence, lambda s: _by_place(_in_rank(s, shards))
    sentence = "Streams of {} are chosen by a shard's place in its block, not in the minibatch."
    yield kind, sentence, lambda s: _by_place(_in_block(s, shards))
    sentence = "Streams of {} are chosen by the rank, not by the shard."
    yield kind, sentence, lambda s: _by_place(_ranks(s, shards))


def _by_place(places: Sequence[int]) -> Key:
    return lambda step, shard: (step, places[shard])


def _bounds(each: Sighted, shards: int) -> list[tuple[int, int]]:
    return bounds_of(shards, max(each.workers, 1))


def _in_rank(each: Sighted, shards: int) -> list[int]:
    return [i for low, high in _bounds(each, shards) for i in range(high - low)]


def _ranks(each: Sighted, shards: int) -> list[int]:
    return [r for r, (low, high) in enumerate(_bounds(each, shards)) for _ in range(low, high)]


def _in_block(each: Sighted, shards: int) -> list[int]:
    """Return the place of every shard among those of its rank with as many rows."""
    rows = sizes(len(each.wanted), shards)
    return [
        shard - next(s for s in range(low, high) if rows[s] == rows[shard])
        for low, high in _bounds(each, shards)
        for shard in range(low, high)
    ]


def _other_moves(draws: Draws) -> Iterator[tuple[str, str, Change]]:
    kind = "augmentation-moves"
    yield "augmentation-missing", "Images are not moved.", lambda m: Moves(*(0 * p for p in m))
    if draws.shift:
        yield (
            kind,
            "Images move up where they should move down.",
            lambda m: m._replace(down=-m.down),
        )
        sentence = "Images move left where they should move right."
        yield kind, sentence, lambda m: m._replace(right=-m.right)
        sentence = "Images move up and left where they should move down and right."
        yield kind, sentence, lambda m: m._replace(down=-m.down, right=-m.right)
        sentence = "Shifts down and to the right are swapped."
        yield kind, sentence, lambda m: m._replace(down=m.right, right=m.down)
        sentence = "Images are shifted by the same number in both directions."
        yield kind, sentence, lambda m: m._replace(right=m.down)
        yield (
            kind,
            "Images are not shifted.",
            lambda m: m._replace(down=0 * m.down, right=0 * m.right),
        )
    if draws.rotate:
        sentence = "Images turn clockwise where they should turn counter-clockwise."
        yield kind, sentence, lambda m: m._replace(angle=-m.angle)
        yield kind, "Images are not turned.", lambda m: m._replace(angle=0 * m.angle)
        sentence = "Angles in degrees are taken for radians."
        yield kind, sentence, lambda m: m._replace(angle=np.degrees(m.angle))
        yield kind, "Images turn twice as far.", lambda m: m._replace(angle=2 * m.angle)
        yield kind, "Images turn half as far.", lambda m: m._replace(angle=m.angle / 2)
    sentence = "All images of a shard are moved alike."
    first = lambda m: Moves(*(np.full_like(p, p[0]) for p in m))  # noqa: E731
    yield "augmentation-equal-rows", sentence, first


def _other_noise() -> Iterator[tuple[str, str, Change]]:
    yield "augmentation-missing", "No noise is added.", lambda z: 0 * z
    kind = "augmentation-noise"
    yield kind, "Noise is taken off instead of added.", lambda z: -z
    yield kind, "Noise is never negative: its absolute value is added.", np.abs
    sentence = "All rows of a shard get the same noise."
    yield "augmentation-equal-rows", sentence, lambda z: np.broadcast_to(z[:1], z.shape)


def _other_settings(draws: Draws) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield other ranges of what is drawn."""
    kind = "augmentation-range"
    limit, turns = draws.shift, TURNS
    for word in range(3):
        sentence = (
            f"The step is word {word} of the counter, not the last: streams of steps overlap."
        )
        yield "augmentation-overlap", sentence, {"word": word}
    if limit:
        sentence = f"Images are shifted from -{limit} to {limit - 1} pixels, and never by {limit}."
        yield kind, sentence, {"spread": lambda u, n: _spread(u, 2 * n, -n)}
        sentence = f"Images are shifted from {1 - limit} to {limit} pixels, and never by -{limit}."
        yield kind, sentence, {"spread": lambda u, n: _spread(u, 2 * n, 1 - n)}
        sentence = f"Images are shifted by 0 to {limit} pixels, and never up or left."
        yield kind, sentence, {"spread": lambda u, n: _spread(u, n + 1, 0)}
        for other in (limit - 1, limit + 1):
            sentence = f"Images are shifted by up to {other} pixels instead of {limit}."
            yield kind, sentence, {"shift": other}
    if draws.rotate:
        sentence = f"Angles never reach the limit of {draws.rotate:g} degrees."
        only = lambda u, n: _spread(u, 2 * n + (n != turns), -n)  # noqa: E731
        yield kind, sentence, {"spread": only}


def _spread(uniform: Array, count: int, lowest: int) -> Array:
    return np.floor(uniform * np.float32(count)).astype(int) + lowest


def _otherwise(draws: Draws, shards: int) -> Iterator[tuple[str, str, Expect]]:
    """Yield bugs in what is done with draws that are right."""

    def right(each: Sighted, x: Array) -> Augmented:
        return augmented(x, sizes(len(x), shards), each.step, draws)

    def with_others(each: Sighted, x: Array, **changes: Any) -> Array:
        others = replace(draws, **changes)
        return augmented(x, sizes(len(x), shards), each.step, others).x

    if draws.deviation:

        def clipped(each: Sighted, x: Array) -> Augmented:
            found, bound = right(each, x)
            return Augmented(found.clip(0, 1), bound)

        yield "augmentation-noise", "Noise is clipped, so that inputs lie from 0 to 1.", clipped
    if draws.deviation and draws.moves_images:

        def before(each: Sighted, x: Array) -> Augmented:
            noisy = with_others(each, x, shift=0, rotate=0.0)
            return Augmented(with_others(each, noisy, deviation=0.0), 2 * right(each, x).bound)

        yield "augmentation-order", "Noise is added before images are moved.", before
    if draws.shift and draws.rotate:

        def shifted_first(each: Sighted, x: Array) -> Augmented:
            plain = draws.moves_of(each.step, sizes(len(x), shards))
            none = 0 * plain.angle
            shifted = moved(x.astype(float), plain._replace(angle=none))
            found = moved(shifted, plain._replace(down=none, right=none))
            noise = with_others(each, 0 * x, shift=0, rotate=0.0)
            return Augmented(found + noise, 2 * right(each, x).bound)

        yield "augmentation-order", "Images are shifted before they are turned.", shifted_first
    if draws.shift and not draws.rotate:

        def wrapped(each: Sighted, x: Array) -> Augmented:
            plain = draws.moves_of(each.step, sizes(len(x), shards))
            found = [
                np.roll(image, (int(down), int(right)), (0, 1))
                for image, down, right in zip(x, plain.down, plain.right, strict=True)
            ]
            noise = with_others(each, 0 * x, shift=0)
            return Augmented(np.array(found) + noise, right(each, x).bound)

        sentence = "What images are moved out of comes in again at the other side, instead of 0."
        yield "augmentation-edges", sentence, wrapped


def _measured(
    seen: Sequence[Sighted], plain: Sequence[Array], draws: Draws, shards: int
) -> Iterator[Diagnosis]:
    """Yield what was seen, where no bug is known that leads to it."""
    if not seen:
        return
    kind = "augmentation-moves" if draws.moves_images else "augmentation-noise"
    if draws.deviation:
        still = replace(draws, deviation=0.0)
        pairs = list(zip(seen, plain, strict=True))
        base = [augmented(x, sizes(len(x), shards), s.step, still) for s, x in pairs]
        full = [augmented(x, sizes(len(x), shards), s.step, draws) for s, x in pairs]
        added = _flat(each.x - b.x for each, b in zip(seen, base, strict=True))
        noise = _flat(each.x - b.x for each, b in zip(full, base, strict=True))
        bound = _flat(each.bound for each in full)
        factor = float(added @ noise) / float(noise @ noise)
        beyond = [
            float(np.count_nonzero(np.abs(added - f * noise) > 4 * bound)) for f in (1.0, factor)
        ]
        sentence = f"Noise is {factor:.6g} times as large as it should be."
        yield Diagnosis("augmentation-noise", sentence, beyond[1] / max(beyond[0], 1))
        sentence = (
            f"What is added has the mean {added.mean():.3g} and the standard deviation "
            f"{added.std():.3g} instead of 0 and {draws.deviation:g}."
        )
        yield Diagnosis(kind, sentence, UNEXPLAINED)
    else:
        wrong = [each.where for each, x in zip(seen, plain, strict=True)]
        sentence = f"Images are moved otherwise than is drawn, such as in {wrong[0]}."
        yield Diagnosis(kind, sentence, UNEXPLAINED)


def _flat(parts: Iterable[Array]) -> Array:
    return np.concatenate([np.asarray(each, float).reshape(-1) for each in parts])
