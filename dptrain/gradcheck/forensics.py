"""Shard forensics: how each shard counts in a wrong gradient, and which bug that looks like.

The wrong gradient is fitted by least squares to the shards' parts, ``g ≈ Σ_s α_s g_s``: where
nothing is left over, the α tell how often each shard was counted. Then every hypothesis predicts
the gradient that it would lead to, and those that leave least unexplained come first: of the whole
vector, of the wrong elements alone, and of each part into which the exchange cuts it. Where none
of them fits, it is said where the gradient is wrong, and no more.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.hypotheses import augmented, foreign, history, shards, sparse, tensors, wire
from dptrain.gradcheck.hypotheses.areas import Area
from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis
from dptrain.gradcheck.hypotheses.part import Explanation, Part

Array = NDArray[Any]

# A prediction that leaves less than this explains everything, rounding aside.
EXACT = 1e-8
# Numbers that a fit needs for each of its unknowns.
ENOUGH = 3
# Behind all other hypotheses.
LAST = 10**6

UNEXPLAINED = "unexplained"


class Fit(NamedTuple):
    """How the shards count in a gradient.

    Attributes:
        weights: α, one for each shard with rows.
        residual: what they leave unexplained, relatively.
    """

    weights: tuple[float, ...]
    residual: float


def fit(evidence: Evidence) -> Fit:
    """Return the α that explain the gradient best."""
    weights, predicted = _fitted(evidence, evidence.shards)
    return Fit(tuple(map(float, weights)), evidence.residual(predicted))


def _fitted(evidence: Evidence, parts: Array) -> tuple[Array, Array]:
    """Return how often each of some vectors counts, and their sum; NaN where that cannot be."""
    used = evidence.scale > 0
    target = (evidence.found * evidence.scale)[used]
    scaled = (parts * evidence.scale)[:, used]
    if not np.isfinite(target).all() or not np.isfinite(scaled).all():
        return np.full(len(parts), np.nan), np.full(evidence.found.shape, np.inf)
    weights, *_ = np.linalg.lstsq(scaled.T, target, rcond=None)
    return weights, weights @ parts


def diagnose(
    evidence: Evidence,
    more: Iterable[Hypothesis] = (),
    *,
    more_first: bool = False,
    exact: float = EXACT,
    most: int = 5,
) -> list[Diagnosis]:
    """Return the kinds of bugs that explain a gradient best, the best first.

    Among those that explain everything, up to a part of ``exact``, the order is that of the
    hypotheses: the more specific come first. What leaves more than a tenth of the deviation is not
    named. Empty where nothing is wrong.
    """
    swallowed = _swallowed(evidence)
    if swallowed is not None:
        return [swallowed]
    if evidence.bitwise and not evidence.wrong.any():
        return []
    usual = _all(evidence)
    whole, wrong, families = _parts(evidence, exact)
    parts = [whole, wrong, *chain.from_iterable(families)]
    for i, each in enumerate(chain(more, usual) if more_first else chain(usual, more)):
        for part in parts[:1] if each.placed else parts:
            part.consider(each, i)
    found = _distinct(whole)
    fitted = fit(evidence)
    counted = any(abs(weight - 1) > exact for weight in fitted.weights)
    left = fitted.residual / (evidence.residual(evidence.right) or 1.0)
    if counted and fitted.residual < exact and left < 1e-3 and not whole.explained:
        found.insert(0, _weighted(fitted, left))
    elif not whole.explained:
        explained, partly = _in_parts(wrong, families)
        for hypothesis in () if explained else _safely(foreign.hypotheses, evidence):
            whole.consider(hypothesis, LAST)
            found = _distinct(whole)
        found = [*explained, *sorted([*partly, *found], key=lambda each: each.residual)]
    return found[:most] or [_unexplained(evidence)]


def _parts(evidence: Evidence, exact: float) -> tuple[Part, Part, list[list[Part]]]:
    """Return everything, what is wrong, and what is wrong in each part of each way to cut it."""
    everything = np.ones(evidence.found.shape, bool)
    wrong = evidence.wrong if evidence.wrong.any() else everything
    ways: list[Sequence[Area]] = [
        evidence.areas,
        [Area(t.name, t.start, t.stop) for t in evidence.tensors],
    ]
    families = []
    for way in ways:
        own = [_inside(area, wrong) for area in way]
        own = [each for each in own if each.any()]
        if len(own) > 1:
            families.append([Part(evidence, each, exact) for each in own])
    return Part(evidence, everything, exact), Part(evidence, wrong, exact), families


def _inside(area: Area, which: Array) -> Array:
    found = np.zeros(which.shape, bool)
    found[area.start : area.stop] = which[area.start : area.stop]
    return found


def _distinct(part: Part) -> list[Diagnosis]:
    """Return the best explanation of each kind."""
    found: dict[str, Diagnosis] = {}
    for each in sorted(part.found):
        found.setdefault(each.kind, Diagnosis(each.kind, each.sentence, each.left))
    return list(found.values())


def _in_parts(
    wrong: Part, families: Sequence[Sequence[Part]]
) -> tuple[list[Diagnosis], list[Diagnosis]]:
    """Return what explains the wrong elements alone, or those of each part by itself.

    First what explains everything, then what explains most.
    """
    for part in (wrong, *chain.from_iterable(families)):
        _fit_again(part)
    best = wrong.best
    if best is not None and best.rank == 0:
        return [_located(best, wrong)], []
    for parts in families:
        if all(part.explained for part in parts):
            return [_each_by_itself(parts)], []
    return [], [] if best is None else [_located(best, wrong)]


def _fit_again(part: Part) -> None:
    """Consider what depends on which elements one looks at."""
    e = part.evidence
    for i, hypothesis in enumerate(_safely(history.fitted, e)):
        part.consider(hypothesis, LAST + i)
    known = np.count_nonzero(e.scale > 0)
    before = np.array(e.past[-1].parts) if e.past and len(e.past[-1].parts) else e.shards[:0]
    if known >= ENOUGH * len(e.shards):
        weights, predicted = _fitted(e, e.shards)
        kind, sentence = _counts(weights)
        if not np.abs(weights - 1).max(initial=0) <= EXACT:
            part.consider(Hypothesis(kind, sentence, predicted), 2 * LAST)
    if len(before) and known >= ENOUGH * (len(e.shards) + len(before)):
        weights, predicted = _fitted(e, np.concatenate([e.shards, before]))
        now, old = weights[: len(e.shards)], weights[len(e.shards) :]
        sentence = (
            f"{_counts(now)[1]}, and the ranks' parts of the step before ({_listed(old)}) times"
        )
        part.consider(Hypothesis("race", sentence, predicted), 2 * LAST + 1)


def _located(found: Explanation, part: Part) -> Diagnosis:
    """Return an explanation of the wrong elements alone, with where they stand."""
    if found.everywhere:
        return Diagnosis(found.kind, f"{part.place}: {found.sentence}", found.left)
    sentence = f"here and there {found.sentence}, as if read or written too early: {part.place}"
    return Diagnosis("race", sentence, found.left)


def _each_by_itself(parts: Sequence[Part]) -> Diagnosis:
    """Return what is wrong in each of several parts."""
    best = [(part, part.best) for part in parts]
    said = [f"{part.place}: {each.sentence}" for part, each in best if each is not None]
    kinds = [each.kind for _, each in best if each is not None]
    left = max(each.left for _, each in best if each is not None)
    return Diagnosis(kinds[0], "; ".join(said), left)


def _swallowed(evidence: Evidence) -> Diagnosis | None:
    """Say so where the right gradient is no number, but the one that was found is."""
    own = np.concatenate([np.arange(t.start, t.stop) for t in evidence.tensors])
    if np.isfinite(evidence.right[own]).all() or not np.isfinite(evidence.found[own]).all():
        return None
    return Diagnosis("nan-swallowed", "what is no number was replaced by a number", 0.0)


def _weighted(found: Fit, left: float) -> Diagnosis:
    """Return what weights come to that no hypothesis has."""
    kind, sentence = _counts(np.array(found.weights))
    return Diagnosis(kind, sentence, left)


def _counts(weights: Array) -> tuple[str, str]:
    sentence = f"the shards count ({_listed(weights)}) times instead of once each"
    if len(weights) and np.ptp(weights) <= EXACT * np.abs(weights).max():
        sentence = f"all shards count {weights[0]:.6g} times instead of once"
    nearest = np.round(weights)
    if np.abs(weights - nearest).max(initial=0) < EXACT:
        return "shard-doubled" if nearest.max() > 1 else "shard-dropped", sentence
    return "shard-weights", sentence


def _listed(weights: Array) -> str:
    return ", ".join(f"{round(float(w), 9):.4g}" for w in weights)


def _unexplained(evidence: Evidence) -> Diagnosis:
    """Say where a gradient is wrong that nothing explains."""
    e = evidence
    which = e.wrong if e.wrong.any() else e.scale > 0
    if not which.any():
        return Diagnosis(UNEXPLAINED, "Nothing that is known explains it.", 1.0)
    found, right = e.found[which], e.right[which]
    said = f"no known mistake explains it; wrong are {Part(e, which, EXACT).place}"
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


def _all(evidence: Evidence) -> Iterator[Hypothesis]:
    for group in (shards, tensors, history, sparse, wire, augmented):
        yield from _safely(group.hypotheses, evidence)


def _safely(
    hypotheses: Callable[[Evidence], Iterator[Hypothesis]], evidence: Evidence
) -> Iterator[Hypothesis]:
    """Yield hypotheses until one of them breaks down: they compute with what may be broken."""
    try:
        yield from hypotheses(evidence)
    except Exception:  # noqa: BLE001 - the code that is checked may raise anything
        return
