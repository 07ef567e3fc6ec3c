"""What is wrong with augmentation that is not what its formulas say."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis, likeliest
from dptrain.gradcheck.minibatches.misdrawn import mistakes
from dptrain.gradcheck.minibatches.sighted import Sighted
from dptrain.gradcheck.reference.augmentation import Augmented, Draws, augmented, moved
from dptrain.gradcheck.reference.minibatches import Stored, sizes

Array = NDArray[Any]
Expect = Callable[[Sighted, Array], Augmented]

# What is only measured comes behind what is explained.
UNEXPLAINED = 0.05
# Steps that are explained, the first ones and the first wrong ones: enough to tell mistakes apart.
LOOKED_AT = 6


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

    def drawn(of: Callable[[Sighted], Draws]) -> Expect:
        return lambda each, x: augmented(x, sizes(len(x), shards), each.step, of(each))

    right = drawn(lambda _: draws)
    whole = [(s, stored.inputs(s.wanted)) for s in seen if s.whole and len(s.x)]
    wrong = [(s, _wrong_ranks(s, right(s, x))) for s, x in whole]
    suspects = {rank for _, ranks in wrong for rank in ranks}
    first = [i for i, (_, ranks) in enumerate(wrong) if ranks][:LOOKED_AT]
    some = [whole[i] for i in sorted({*range(len(whole))[:LOOKED_AT], *first})]

    def beyond(expect: Expect) -> float:
        return sum(_beyond(each, expect(each, x), suspects) for each, x in some)

    nothing = beyond(right)
    if not nothing:
        return []
    found = [
        Diagnosis(each.kind, each.sentence, beyond(drawn(each.draws)) / nothing)
        for each in mistakes(draws, shards)
    ]
    found += [
        Diagnosis(kind, sentence, beyond(expect) / nothing)
        for kind, sentence, expect in _otherwise(draws, shards)
    ]
    found += _measured([s for s, _ in some], [x for _, x in some], draws, shards)
    if len(suspects) == len(seen[0].ranks):
        return likeliest(found)
    only = f"In rank {', '.join(map(str, sorted(suspects)))} alone: "
    return [replace(each, sentence=only + each.sentence) for each in likeliest(found)]


def _wrong_ranks(each: Sighted, expected: Augmented) -> list[int]:
    return [rank for rank in range(len(each.ranks)) if _beyond(each, expected, {rank})]


def _beyond(each: Sighted, expected: Augmented, ranks: Collection[int]) -> float:
    """Return how many numbers of some ranks' rows are not as expected."""
    rows = np.repeat(np.isin(np.arange(len(each.ranks)), list(ranks)), each.ranks)
    with np.errstate(invalid="ignore"):
        fits = np.abs(each.x.astype(float) - expected.x) <= expected.bound
    return float(np.count_nonzero(~fits[rows]))


def _otherwise(draws: Draws, shards: int) -> Iterator[tuple[str, str, Expect]]:
    """Yield bugs in what is done with draws that are right."""

    def right(each: Sighted, x: Array) -> Augmented:
        return augmented(x, sizes(len(x), shards), each.step, draws)

    def with_others(each: Sighted, x: Array, **changes: Any) -> Array:
        others = replace(draws, **changes)
        return augmented(x, sizes(len(x), shards), each.step, others).x

    def nothing(_: Sighted, x: Array) -> Augmented:
        return Augmented(x.astype(float), np.zeros(x.shape))

    yield "augmentation-missing", "Nothing is done to the rows.", nothing
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
