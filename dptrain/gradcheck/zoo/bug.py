"""What a deliberate bug is: one row, with the piece of the real source that is exchanged."""

from dataclasses import dataclass
from typing import Literal

from dptrain.gradcheck.zoo.source import Source

# How many workers every habitat is run with.
WORLD = 3

BOTH = ("shared", "star")
SHARED, STAR = BOTH[:1], BOTH[1:]


@dataclass(frozen=True)
class Bug:
    """A deliberate bug.

    Attributes:
        name: such as ``"mean-of-means"``; unique.
        kind: the class of bugs that the diagnosis is to name first, such as ``"mean-of-means"``.
        sentence: what is wrong.
        wrong: what is exchanged in the source.
        seen_in: where it was seen, such as ``"pytorch #25162"``; empty where nobody has told.
        place: the processes it is let loose in: the workers, the coordinator, or, where all of them
            share the code (as layers), all.
        habitat: name of the experiment in which it shows.
        exchange: the exchanges that have the place where it is.
        equivalent: whether it changes nothing in its habitat, so that it must pass.
    """

    name: str
    kind: str
    sentence: str
    wrong: Source | tuple[Source, ...]
    seen_in: str = ""
    place: Literal["worker", "coordinator", "all"] = "worker"
    habitat: str = "plain"
    exchange: tuple[str, ...] = BOTH
    equivalent: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that is exchanged."""
        return (self.wrong,) if isinstance(self.wrong, Source) else self.wrong
