"""Some elements of a wrong gradient, and the hypotheses that explain them."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from dptrain.gradcheck.diagnosis import EXPLAINS
from dptrain.gradcheck.hypotheses.areas import place
from dptrain.gradcheck.hypotheses.evidence import Array, Evidence, Hypothesis

# A part of the elements that a bug would change may be right by chance; where more are, it came
# and went while they were written.
HOLES = 0.02


class Explanation(NamedTuple):
    """How well a hypothesis explains some elements.

    Attributes:
        rank: 0 where it explains everything, rounding aside; otherwise what it leaves.
        order: among hypotheses that explain as much.
        kind: as of `Diagnosis`.
        sentence: likewise.
        left: the part of the deviation that it leaves unexplained.
        everywhere: whether all elements that the bug would change, of those looked at, are wrong.
    """

    rank: float
    order: int
    kind: str
    sentence: str
    left: float
    everywhere: bool


class Part:
    """Some elements, and what explains them.

    Attributes:
        which: bool ``(size,)``.
        evidence: of these alone.
        found: what explains most of the deviation.
    """

    def __init__(self, evidence: Evidence, which: Array, exact: float) -> None:
        """Begin.

        Args:
            evidence: of the whole gradient.
            which: the elements, bool ``(size,)``.
            exact: a prediction that leaves less explains everything, rounding aside.
        """
        self.which = which
        self.evidence = evidence.within(which)
        self.found: list[Explanation] = []
        self._whole = evidence
        self._nothing = self.evidence.residual(evidence.right)
        self._exact = min(exact, 1e-3 * self._nothing)

    def consider(self, hypothesis: Hypothesis, order: int) -> None:
        """Keep a hypothesis if it explains most of the deviation."""
        left = self.evidence.residual(hypothesis.predicted)
        if not left <= EXPLAINS * self._nothing:
            return
        rank = 0.0 if left < self._exact else left
        everywhere = rank > 0 or self._everywhere(hypothesis.predicted)
        part = left / self._nothing if self._nothing else left
        kind, sentence = hypothesis.kind, hypothesis.sentence
        self.found.append(Explanation(rank, order, kind, sentence, part, everywhere))

    @property
    def best(self) -> Explanation | None:
        """What explains most."""
        return min(self.found, default=None)

    @property
    def explained(self) -> bool:
        """Whether something explains everything."""
        return self.best is not None and self.best.rank == 0

    @property
    def place(self) -> str:
        """Where the elements stand, in words."""
        own = self.which & self._whole.wrong
        return place(own if own.any() else self.which, self._whole.tensors, self._whole.areas)

    def _everywhere(self, predicted: Array) -> bool:
        """Return whether every element that the bug would change, between those wrong, is wrong."""
        e = self._whole
        with np.errstate(invalid="ignore", over="ignore"):
            changed = np.abs(predicted - e.right) > 1e-12 * np.abs(e.right)
        expected = sum(int(changed[own].sum()) for own in self._pieces())
        missed = sum(int((changed & ~e.wrong)[own].sum()) for own in self._pieces())
        return missed <= HOLES * expected

    def _pieces(self) -> Iterator[slice]:
        """Yield where wrong elements stand in each tensor, area by area, from first to last."""
        e = self._whole
        cuts = {edge for area in e.areas for edge in (area.start, area.stop)}
        for tensor in e.tensors:
            inside = {edge for edge in cuts if tensor.start < edge < tensor.stop}
            edges = sorted({tensor.start, tensor.stop} | inside)
            for low, high in pairwise(edges):
                wrong = np.flatnonzero((self.which & e.wrong)[low:high])
                if len(wrong):
                    yield slice(low + int(wrong[0]), low + int(wrong[-1]) + 1)
