"""What a wrong gradient is put down to.

Every known mistake predicts the gradient that it would lead to, for all whom it may hit; those
that leave least unexplained come first: of the whole vector, or of the wrong elements alone. Then
numbers are fitted. Where nothing fits, it is said
where the gradient is wrong, and no more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import EXPLAINS, MOST, Diagnosis
from dptrain.gradcheck.hypotheses import fits, known
from dptrain.gradcheck.hypotheses.areas import place
from dptrain.gradcheck.hypotheses.buffers import of_other_places
from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis
from dptrain.gradcheck.hypotheses.scopes import Known, expanded

Array = NDArray[Any]
Table = Callable[[Evidence], Iterable[Known | Hypothesis]]

# A prediction that leaves less than this explains everything, rounding aside.
EXACT = 1e-8
# A part of the elements that a mistake would change may be right by chance; where more are, it came
# and went while they were written.
HOLES = 0.02
# Behind all other explanations.
LAST = 10**6

UNEXPLAINED = "unexplained"

# What is known of gradients, in the order in which it is named among equals.
TABLES: Sequence[Table] = (
    *(known.factors, known.single_parts, known.of_tensors, known.of_the_past),
    *(known.of_other_weights, known.of_other_targets, fits.labels, fits.rows),
    *(known.of_other_steps, fits.elements_dropped, fits.single_elements, fits.order_of_sums),
    *(fits.zeros_at_ends, known.on_the_way),
)
# What depends on which elements one looks at.
FITS: Sequence[Table] = (fits.labels, fits.rows, fits.counts_of_shards)


class Explanation(NamedTuple):
    """How well a hypothesis explains some elements.

    Attributes:
        rank: 0 where it explains everything, rounding aside; otherwise what it leaves.
        order: among hypotheses that explain as much.
        kind: as of `Diagnosis`.
        sentence: likewise.
        left: the part of the deviation that it leaves unexplained.
        everywhere: whether all elements that the mistake would change, of those looked at, are
            wrong.
    """

    rank: float
    order: int
    kind: str
    sentence: str
    left: float
    everywhere: bool


class Part:
    """Some elements of a wrong gradient, and what explains them.

    Attributes:
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
        self.evidence = evidence.within(which)
        self.found: list[Explanation] = []
        self._which = which
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

    def fit(self, tables: Sequence[Table] = FITS) -> None:
        """Consider what depends on which elements one looks at."""
        for i, each in enumerate(_hypotheses(tables, self.evidence)):
            self.consider(each, LAST + i)

    @property
    def best(self) -> Explanation | None:
        """What explains most."""
        return min(self.found, default=None)

    @property
    def explained(self) -> bool:
        """Whether something explains everything."""
        return self.best is not None and self.best.rank == 0

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """The best explanation of each kind, the best first."""
        found: dict[str, Diagnosis] = {}
        for each in sorted(self.found):
            found.setdefault(each.kind, Diagnosis(each.kind, each.sentence, each.left))
        return list(found.values())

    @property
    def place(self) -> str:
        """Where the elements stand, in words."""
        own = self._which & self._whole.wrong
        return place(own if own.any() else self._which, self._whole.tensors, self._whole.areas)

    def located(self) -> Diagnosis:
        """Return the best explanation, with where the elements stand."""
        best = self.best
        assert best is not None
        if best.everywhere:
            return Diagnosis(best.kind, f"{self.place}: {best.sentence}", best.left)
        sentence = f"here and there {best.sentence}, as if read or written too early: {self.place}"
        return Diagnosis("race", sentence, best.left)

    def _everywhere(self, predicted: Array) -> bool:
        """Return whether all elements that a mistake would change, between those wrong, are wrong.

        They are counted in each tensor, area by area, from the first that is wrong to the last.
        """
        e = self._whole
        with np.errstate(invalid="ignore", over="ignore"):
            changed = np.abs(predicted - e.right) > 1e-12 * np.abs(e.right)
        cuts = {edge for area in e.areas for edge in (area.start, area.stop)}
        expected = missed = 0
        for tensor in e.tensors:
            inside = {edge for edge in cuts if tensor.start < edge < tensor.stop}
            for low, high in pairwise(sorted({tensor.start, tensor.stop} | inside)):
                wrong = np.flatnonzero((self._which & e.wrong)[low:high])
                if len(wrong):
                    own = slice(low + wrong[0], low + wrong[-1] + 1)
                    expected += int(np.count_nonzero(changed[own]))
                    missed += int(np.count_nonzero((changed & ~e.wrong)[own]))
        return missed <= HOLES * expected


def diagnose(
    evidence: Evidence,
    more: Iterable[Known | Hypothesis] = (),
    *,
    more_first: bool = False,
    exact: float = EXACT,
    most: int = MOST,
) -> list[Diagnosis]:
    """Return the kinds of mistakes that explain a gradient best, the best first.

    Among those that explain everything, up to a part of ``exact``, the order is that in which they
    are known: the more specific come first. What leaves more than a tenth of the deviation is not
    named. Empty where nothing is wrong.

    Args:
        evidence: the wrong gradient, and what it is made of.
        more: what else it may be.
        more_first: whether that comes first among equals.
        exact: see above.
        most: diagnoses that are returned.
    """
    if _swallowed(evidence):
        return [Diagnosis("nan-swallowed", "what is no number was replaced by a number", 0.0)]
    if evidence.bitwise and not evidence.wrong.any():
        return []
    tables: list[Table] = [*TABLES]
    tables.insert(0 if more_first else len(tables), lambda _: more)
    everything = np.ones(evidence.found.shape, bool)
    whole = Part(evidence, everything, exact)
    wrong = Part(evidence, evidence.wrong if evidence.wrong.any() else everything, exact)
    for i, each in enumerate(_hypotheses(tables, evidence)):
        for part in [whole] if each.placed else [whole, wrong]:
            part.consider(each, i)
    if not whole.explained:
        whole.fit(FITS[-1:])  # the others were considered above
    if whole.explained:
        return whole.diagnoses[:most]
    wrong.fit()
    if not wrong.explained:
        for each in _hypotheses([of_other_places], evidence):
            whole.consider(each, LAST)
    located = [wrong.located()] if wrong.found else []
    found = sorted([*located, *whole.diagnoses], key=lambda each: each.residual)
    return found[:most] or [_unexplained(evidence)]


def _hypotheses(tables: Iterable[Table], e: Evidence) -> Iterator[Hypothesis]:
    """Yield what all that is known leads to.

    What is computed may be broken: where it raises, the others are tried all the same.
    """
    for table in tables:
        rows = iter(table(e))
        while True:
            try:
                row = next(rows)
            except StopIteration:
                break
            except Exception:  # noqa: BLE001 - the code that is checked may raise anything
                break
            yield from expanded(e, row) if isinstance(row, Known) else [row]


def _swallowed(e: Evidence) -> bool:
    """Return whether the right gradient is no number somewhere, but the one that was found is."""
    own = np.concatenate([np.arange(t.start, t.stop) for t in e.tensors])
    return bool(np.isfinite(e.found[own]).all() and not np.isfinite(e.right[own]).all())


def _unexplained(e: Evidence) -> Diagnosis:
    """Say where a gradient is wrong that nothing explains."""
    which = e.wrong if e.wrong.any() else e.scale > 0
    if not which.any():
        return Diagnosis(UNEXPLAINED, "Nothing that is known explains it.", 1.0)
    found, right = e.found[which], e.right[which]
    said = f"no known mistake explains it; wrong are {place(which, e.tensors, e.areas)}"
    if e.past:
        said += f"; step {e.step} is the first, the {len(e.past)} before it are right"
    with np.errstate(all="ignore"):
        factor = float(found @ right / (right @ right)) if right.any() else np.nan
        if np.allclose(found, factor * right, rtol=1e-6, atol=0):
            said += f"; each is {factor:.6g} times what it should be"
        elif np.isfinite(found).all():
            off = np.abs(found - right).max() / (np.abs(e.right).max() or 1.0)
            said += f"; they are off by up to {off:.1e} of the largest element"
    return Diagnosis(UNEXPLAINED, said, 1.0)
