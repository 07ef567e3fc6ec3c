"""What a deliberate bug is: one row, with the piece of the real source that is exchanged."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

# How many workers every habitat is run with; the texts of bugs have it as 3, and the shards as 5.
WORLD = 3

BOTH = ("shared", "star")
SHARED, STAR = BOTH[:1], BOTH[1:]


class Source(NamedTuple):
    """A piece of the text of one function, and what stands there instead.

    Attributes:
        where: file and function, such as ``"optim/rules.py:Adam.update"``.
        old: what stands there, exactly once; the lines behind its first without the indentation of
            the line in which it begins.
        new: instead, likewise.
        rank: of the only worker that it is exchanged in; by default in every process.
    """

    where: str
    old: str
    new: str
    rank: int | None = None


@dataclass(frozen=True)
class Bug:
    """A deliberate bug.

    Attributes:
        name: such as ``"mean-of-means"``; unique.
        sentence: what is wrong.
        wrong: what is exchanged in the source.
        seen_in: where it was seen, such as ``"pytorch #25162"``; empty where nobody has told.
        kind: the class of bugs that the diagnosis is to name first; the name unless given.
        habitat: name of the experiment in which it shows.
        place: the processes it is let loose in: the workers, the coordinator, or, where all of them
            share the code (as layers), all.
        exchange: the exchanges that have the place where it is.
        equivalent: whether it changes nothing in its habitat, so that it must pass.
    """

    name: str
    sentence: str
    wrong: Source | tuple[Source, ...]
    seen_in: str = ""
    kind: str = ""
    habitat: str = "plain"
    place: Literal["worker", "coordinator", "all"] = "worker"
    exchange: tuple[str, ...] = BOTH
    equivalent: bool = False

    def __post_init__(self) -> None:
        """Take the name for the kind where none is given."""
        object.__setattr__(self, "kind", self.kind or self.name)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that is exchanged."""
        return (self.wrong,) if isinstance(self.wrong, Source) else self.wrong
