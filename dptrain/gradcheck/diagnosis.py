"""What kind of mistake a failed comparison looks like."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

Change = TypeVar("Change")
Item = TypeVar("Item")

# A kind of mistake that leaves more than this part of the deviation unexplained is not named.
EXPLAINS = 0.1
# Residuals that agree in so many decimals are equal.
DIGITS = 9
# A reader is told so many.
MOST = 5


@dataclass(frozen=True)
class Diagnosis:
    """A mistake that may be what is wrong.

    Attributes:
        kind: such as ``"weight-decay-multiplied"``.
        sentence: the same for a reader, with what is known of the place.
        residual: the part of the deviation that it leaves unexplained: 0 where it explains
            everything up to rounding, 1 where it explains nothing.
    """

    kind: str
    sentence: str
    residual: float


class Mistake(NamedTuple, Generic[Change]):
    """A known mistake: one row of a catalogue.

    Attributes:
        kind: such as ``"weight-decay-multiplied"``.
        sentence: the same for a reader.
        change: what is done differently, as the part of the reference takes it that predicts what
            comes of it.
    """

    kind: str
    sentence: str
    change: Change


def weighed(
    mistakes: Iterable[Mistake[Change]], left: Callable[[Change], float]
) -> list[Diagnosis]:
    """Return what each mistake would leave unexplained, in the order of the mistakes.

    What is predicted is computed with code and data that may be broken: a mistake whose prediction
    raises explains nothing, and the others are tried all the same.

    Args:
        mistakes: that are possible.
        left: the part of the deviation that a change leaves, from 0 to 1.
    """
    found = []
    for each in mistakes:
        try:
            residual = left(each.change)
        except Exception:  # noqa: BLE001 - see above
            residual = 1.0
        found.append(Diagnosis(each.kind, each.sentence, residual))
    return found


def safely(explanations: Iterable[Item]) -> Iterator[Item]:
    """Yield what could explain; where one cannot be generated, for what is broken, those before."""
    try:
        yield from explanations
    except Exception:  # noqa: BLE001 - as of `weighed`
        return


def ranked(found: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Return diagnoses, the one that explains most first; of equals, the one given first."""
    return sorted(found, key=lambda each: round(each.residual, DIGITS))


def likeliest(found: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Return the best diagnosis of each kind that explains what is wrong, the best first."""
    best: dict[str, Diagnosis] = {}
    for each in ranked(found):
        if each.residual <= EXPLAINS:
            best.setdefault(each.kind, each)
    return list(best.values())[:MOST]


def described(found: Iterable[Diagnosis]) -> str:
    """Return the best of some diagnoses as a sentence, and one more that is as good.

    Or that none of them fits.
    """
    best = [each for each in ranked(found) if each.residual <= EXPLAINS]
    if not best:
        return "No known mistake explains it."
    equals = [
        each.sentence
        for each in best[1:]
        if each.kind != best[0].kind
        and round(each.residual, DIGITS) == round(best[0].residual, DIGITS)
    ]
    return " Or: ".join([best[0].sentence, *equals[:1]])


def times(factor: float) -> str:
    """Return a factor as text, with its difference where it is nearly 1."""
    if 0 < abs(factor - 1) < 1e-3:
        sign = "+" if factor > 1 else "-"
        return f"1 {sign} {abs(factor - 1):.2g} times"
    return f"{factor:.6g} times"
