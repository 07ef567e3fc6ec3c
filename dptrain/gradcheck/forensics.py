"""What a wrong gradient is put down to.

Every known mistake predicts the gradient that it would lead to, for all whom it may hit; those
that leave least unexplained come first: of the whole vector, of the wrong elements alone, or of
each part into which the exchange cuts it. Then numbers are fitted. Where nothing fits, it is said
where the gradient is wrong, and no more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import EXPLAINS, MOST, Diagnosis, ranked, safely
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

UNEXPLAINED = "unexplained"
# Numbers so many times too large were never computed.
NEVER_COMPUTED = 1e60

# What is known of gradients, in the order in which it is named among equals.
TABLES: Sequence[Table] = (
    *(known.factors, known.single_parts, known.of_tensors, known.of_the_past),
    *(known.of_other_weights, known.of_other_targets, fits.labels, fits.rows),
    *(known.of_other_steps, fits.elements_dropped, fits.single_elements, fits.order_of_sums),
    *(fits.zeros_at_ends, known.on_the_way),
)
# What depends on which elements one looks at; the last is not among the others.
FITS: Sequence[Table] = (fits.labels, fits.rows, fits.counts_of_shards)


class Part:
    """Some elements of a wrong gradient, and what explains them.

    Attributes:
        evidence: of these alone.
        found: hypotheses that explain most of the deviation, each with the part that it leaves: 0
            where it explains everything, rounding aside.
    """

    def __init__(self, evidence: Evidence, which: Array, exact: float) -> None:
        """Begin.

        Args:
            evidence: of the whole gradient.
            which: the elements, bool ``(size,)``.
            exact: a prediction that leaves less explains everything, rounding aside.
        """
        self.evidence = evidence.within(which)
        self.found: list[tuple[float, Hypothesis]] = []
        self._which = which
        self._nothing = self.evidence.residual(evidence.right)
        self._exact = min(exact, 1e-3 * self._nothing)

    def consider(self, hypotheses: Iterable[Hypothesis]) -> None:
        """Keep those that explain most of the deviation."""
        for each in hypotheses:
            left = self.evidence.residual(each.predicted)
            if left <= EXPLAINS * self._nothing:
                self.found.append((0.0 if left < self._exact else left / self._nothing, each))

    @property
    def explained(self) -> bool:
        """Whether something explains everything."""
        return any(not left for left, _ in self.found)

    @property
    def diagnoses(self) -> list[Diagnosis]:
        """The best of each kind, the best first; of equals, the one that was considered first."""
        best: dict[str, Diagnosis] = {}
        for left, each in sorted(self.found, key=lambda pair: pair[0]):
            best.setdefault(each.kind, Diagnosis(each.kind, each.sentence, left))
        return list(best.values())

    def located(self) -> list[Diagnosis]:
        """Return the best explanation, if there is any, with where the elements stand."""
        if not self.found:
            return []
        left, best = min(self.found, key=lambda pair: pair[0])
        where = place(self._which, self.evidence.tensors, self.evidence.areas)
        if left or self._everywhere(best.predicted):
            return [Diagnosis(best.kind, f"{where}: {best.sentence}", left)]
        sentence = f"here and there {best.sentence}, as if read or written too early: {where}"
        return [Diagnosis("race", sentence, left)]

    def _everywhere(self, predicted: Array) -> bool:
        """Return whether all that a mistake would change, from first to last wrong, is wrong.

        In each tensor by itself.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            right = self.evidence.right
            changed = np.abs(predicted - right) > 1e-12 * np.abs(right)
        between = np.zeros(changed.shape, bool)
        for tensor in self.evidence.tensors:
            wrong = np.flatnonzero(self._which[tensor.start : tensor.stop])
            if len(wrong):
                between[tensor.start + wrong[0] : tensor.start + wrong[-1] + 1] = True
        missed = np.count_nonzero(changed & between & ~self._which)
        return bool(missed <= HOLES * np.count_nonzero(changed & between))


def diagnose(
    evidence: Evidence,
    more: Iterable[Known | Hypothesis] = (),
    *,
    more_first: bool = False,
    exact: float = EXACT,
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
    """
    if _swallowed(evidence):
        return [Diagnosis("nan-swallowed", "what is no number was replaced by a number", 0.0)]
    if evidence.bitwise and not evidence.wrong.any():
        return []
    tables: list[Table] = [*TABLES]
    tables.insert(0 if more_first else len(tables), lambda _: more)
    everything = np.ones(evidence.found.shape, bool)
    off = evidence.wrong if evidence.wrong.any() else everything
    whole, wrong = (Part(evidence, which, exact) for which in (everything, off))
    areas = [Part(evidence, which, exact) for which in _by_area(evidence, off)]
    for each in _hypotheses(tables, evidence):
        for part in [whole] if each.placed else [whole, wrong, *areas]:
            part.consider([each])
    if not whole.explained:
        whole.consider(_hypotheses(FITS[-1:], whole.evidence))
    if whole.explained:
        return whole.diagnoses[:MOST]
    for part in (wrong, *areas):
        part.consider(_hypotheses(FITS, part.evidence))
    apart = bool(areas) and not wrong.explained and all(part.explained for part in areas)
    located = _each_by_itself(areas) if apart else wrong.located()
    if not wrong.explained and not apart:
        whole.consider(_hypotheses([of_other_places], evidence))
    found = ranked([*located, *whole.diagnoses])
    return found[:MOST] or [_unexplained(evidence)]


def _by_area(e: Evidence, wrong: Array) -> Iterator[Array]:
    """Yield what is wrong in each part into which the exchange cuts the vector, if in several."""
    own = [area for area in e.areas if wrong[area.start : area.stop].any()]
    for area in own if len(own) > 1 else ():
        which = np.zeros(wrong.shape, bool)
        which[area.start : area.stop] = wrong[area.start : area.stop]
        yield which


def _each_by_itself(parts: Sequence[Part]) -> list[Diagnosis]:
    """Return what is wrong in each of several parts, as one diagnosis."""
    first, *others = (part.located()[0] for part in parts)
    said = "; ".join(each.sentence for each in (first, *others))
    return [Diagnosis(first.kind, said, max(each.residual for each in (first, *others)))]


def _hypotheses(tables: Iterable[Table], e: Evidence) -> Iterator[Hypothesis]:
    """Yield what all that is known leads to.

    What is computed may be broken: where it raises, the others are tried all the same.
    """
    for table in tables:
        for row in safely(table(e)):
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
            if off > NEVER_COMPUTED:
                where = place(which, e.tensors, e.areas)
                sentence = f"no backward pass has written {where}: what memory held stands there"
                return Diagnosis("never-written", sentence, 0.0)
            said += f"; they are off by up to {off:.1e} of the largest element"
    return Diagnosis(UNEXPLAINED, said, 1.0)
