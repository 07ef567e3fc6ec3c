"""What a check found: comparisons, diagnoses, and the certificate of what it could have seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import NDArray

from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.verdict import Verdict, worst
from dptrain.nn.network import Tensor

# The order in which edges are named: what stands further up makes what stands below fail too.
EDGES = (
    "rows",
    "beginning",
    "analytic",
    "distributed",
    "reported",
    "numerical",
    "statistics",
    "ledger",
    "masks",
    "update",
    "plan",
    "order",
    "replicas",
    "evaluation",
    "resume",
)


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


def explained(comparison: Comparison, diagnose: Callable[[], Sequence[Diagnosis]]) -> Failure:
    """Return a comparison that failed, put down to what ``diagnose`` finds."""
    return Failure(comparison, diagnose())


@dataclass
class Report:
    """Everything that a check found.

    Attributes:
        subject: what was checked, in a line.
        seed: from which it can be repeated.
        comparisons: in the order in which they were made.
        failures: the first of every edge that failed.
        replay: the command that does it again.
        seconds: that it took.
        plots: points for pictures, by name.
    """

    subject: str
    seed: int
    replay: str
    comparisons: list[Comparison] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    plots: dict[str, Any] = field(default_factory=dict)

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
        return next((edge for edge in EDGES if edge in failed), next(iter(failed), ""))
