"""What kind of mistake a failed comparison looks like."""

from collections.abc import Iterable
from dataclasses import dataclass

# A kind of mistake that leaves more than this part of the deviation unexplained is not named.
EXPLAINS = 0.1


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


def ranked(found: Iterable[Diagnosis]) -> list[Diagnosis]:
    """Return diagnoses, the one that explains most first; of equals, the one given first."""
    return sorted(found, key=lambda each: each.residual)


def described(found: Iterable[Diagnosis]) -> str:
    """Return a sentence about the best of some diagnoses, or that none of them fits."""
    best = next(iter(ranked(found)), None)
    if best is None or not best.residual <= EXPLAINS:
        return "No known mistake explains it."
    return best.sentence
