"""Mistakes in what augmentation draws: other streams, other ranges, other signs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.hypotheses.orders import bounds_of
from dptrain.gradcheck.minibatches.sighted import Sighted
from dptrain.gradcheck.reference.augmentation import TURNS, Draws, Moves
from dptrain.gradcheck.reference.minibatches import sizes

Array = NDArray[Any]
Key = Callable[[int, int], tuple[int, int]]
Change = Callable[[Any], Any]


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


def mistakes(draws: Draws, shards: int) -> Iterator[Mistake]:
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
