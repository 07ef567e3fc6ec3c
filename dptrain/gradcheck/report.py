"""What a check found: comparisons, diagnoses, and what follows from what."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from numpy.typing import NDArray

from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.nn.network import Tensor


class Stage(NamedTuple):
    """A place on the way from the data to the end of a run: the edge that a comparison blames.

    Attributes:
        edge: its name.
        follows: edges further up that, where they have failed, explain a failure here.
        own: further ones, where the network is code of the user's own, of which nothing else is
            known.
    """

    edge: str
    follows: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


_GRADIENT = ("analytic", "distributed")
# In the order in which they are named: what stands further up makes what stands below fail too.
STAGES = (
    Stage("rows"),
    Stage("beginning"),
    Stage("analytic"),
    Stage("distributed", own=("analytic",)),
    Stage("reported", own=("analytic",)),
    Stage("numerical", _GRADIENT),
    Stage("statistics", ("analytic",)),
    Stage("ledger", ("analytic",)),
    Stage("masks", ("analytic",)),
    Stage("update", _GRADIENT),
    Stage("plan", _GRADIENT),
    Stage("order", _GRADIENT),
    Stage("replicas", _GRADIENT),
    Stage("evaluation", _GRADIENT),
    Stage("resume", _GRADIENT),
)
EDGES = {stage.edge: place for place, stage in enumerate(STAGES)}


FOLLOWS = Diagnosis("follows", "this follows from what failed before", 0.0)


class Failure(NamedTuple):
    """A comparison that failed, and what it is put down to.

    Attributes:
        comparison: the first of its edge.
        diagnoses: the likeliest first.
        weights: how each shard counts, where that explains the gradient.
        found: the gradient that was found, flat; None where it was something else.
        wanted: what it should have been.
        tensors: where each tensor stands in them.
    """

    comparison: Comparison
    diagnoses: Sequence[Diagnosis]
    weights: tuple[float, ...] = ()
    found: NDArray[Any] | None = None
    wanted: NDArray[Any] | None = None
    tensors: Sequence[Tensor] = ()


# Comparisons, each with what tells why it failed.
Found = Iterator[tuple[Comparison, Callable[[], Failure]]]


def known(comparisons: Iterable[Comparison]) -> Found:
    """Yield comparisons that know themselves why they fail."""
    for comparison in comparisons:
        yield comparison, partial(Failure, comparison, _about(comparison))


def _about(comparison: Comparison) -> list[Diagnosis]:
    """Return what is known of a comparison, or what its note says of its worst element."""
    if comparison.diagnoses or comparison.worst is None:
        return list(comparison.diagnoses)
    return [Diagnosis(comparison.edge, comparison.note, 0.0)] if comparison.note else []


def explained(comparison: Comparison, diagnose: Callable[[], Sequence[Diagnosis]]) -> Failure:
    """Return a comparison that failed, put down to what ``diagnose`` finds."""
    return Failure(comparison, diagnose())


@dataclass
class Report:
    """Everything that a check found.

    Attributes:
        subject: what was checked, in a line.
        seed: from which it can be repeated.
        replay: the command that does it again.
        comparisons: in the order in which they were made.
        failures: the first of every edge that failed.
        seconds: that it took.
    """

    subject: str
    seed: int
    replay: str
    comparisons: list[Comparison] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """Of all comparisons."""
        return worst(each.verdict for each in self.comparisons)

    @property
    def remarks(self) -> list[str]:
        """What a reader should know of how it was compared."""
        return list(dict.fromkeys(each.remark for each in self.comparisons if each.remark))

    @property
    def blamed(self) -> str:
        """The edge that failed first, or ``""``."""
        failed = {each.edge for each in self.comparisons if each.verdict is Verdict.FAIL}
        return min(failed, key=place, default="")

    def followed(self, edge: str, *, own: bool) -> bool:
        """Return whether a failure at an edge follows from those that are known.

        Args:
            edge: that has failed.
            own: whether the network is code of the user's own.
        """
        failed = {each.comparison.edge for each in self.failures}
        stage = STAGES[EDGES[edge]]
        return bool(failed.intersection(stage.follows + (stage.own if own else ())))


def place(edge: str) -> int:
    """Return where an edge stands among the stages."""
    return EDGES[edge]
