"""Shard forensics: how each shard counts in a wrong gradient, and which bug that looks like.

The wrong gradient is fitted by least squares to the shards' parts, ``g ≈ Σ_s α_s g_s``: where
nothing is left over, the α tell how often each shard was counted. Then every hypothesis predicts
the gradient that it would lead to, and those that leave least unexplained come first.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.hypotheses import history, shards, tensors, wire
from dptrain.gradcheck.hypotheses.evidence import Evidence, Hypothesis

Array = NDArray[Any]

# A prediction that leaves less than this explains everything, rounding aside.
EXACT = 1e-8


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
    used = evidence.scale > 0
    target = (evidence.found * evidence.scale)[used]
    if not np.isfinite(target).all():
        return Fit((np.nan,) * len(evidence.shards), np.inf)
    parts = (evidence.shards * evidence.scale)[:, used]
    weights, *_ = np.linalg.lstsq(parts.T, target, rcond=None)
    return Fit(tuple(map(float, weights)), evidence.residual(evidence.weighted(weights)))


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
    hypotheses: the more specific come first.
    """
    swallowed = _swallowed(evidence)
    if swallowed is not None:
        return [swallowed]
    ranked: list[tuple[float, int, Diagnosis]] = []
    nothing = evidence.residual(evidence.right)
    usual = _all(evidence)
    for i, each in enumerate([*more, *usual] if more_first else [*usual, *more]):
        residual = evidence.residual(each.predicted)
        if residual < 0.5 * nothing:  # otherwise it explains next to nothing of the difference
            rank = 0.0 if residual < min(exact, 1e-3 * nothing) else residual
            ranked.append((rank, i, Diagnosis(each.kind, each.sentence, residual)))
    ranked.sort(key=lambda each: each[:2])
    found: list[Diagnosis] = []
    for _, _, likely in ranked:
        if all(likely.kind != other.kind for other in found):
            found.append(likely)
    whole = fit(evidence)
    weighted = any(abs(weight - 1) > exact for weight in whole.weights)
    explains = whole.residual < min(exact, 1e-3 * nothing)
    if weighted and explains and (not found or found[0].residual >= exact):
        found.insert(0, _weighted(whole))
    return found[:most]


def _swallowed(evidence: Evidence) -> Diagnosis | None:
    """Say so where the right gradient is no number, but the one that was found is."""
    own = np.concatenate([np.arange(t.start, t.stop) for t in evidence.tensors])
    if np.isfinite(evidence.right[own]).all() or not np.isfinite(evidence.found[own]).all():
        return None
    return Diagnosis("nan-swallowed", "what is no number was replaced by a number", 0.0)


def _weighted(found: Fit) -> Diagnosis:
    """Return what weights come to that no hypothesis has."""
    listed = ", ".join(f"{round(w, 9):.4g}" for w in found.weights)
    sentence = f"the shards count ({listed}) times instead of once each"
    nearest = [round(w) for w in found.weights]
    kind = "shard-weights"
    if all(abs(w - n) < EXACT for w, n in zip(found.weights, nearest, strict=True)):
        kind = "shard-doubled" if max(nearest) > 1 else "shard-dropped"
    return Diagnosis(kind, sentence, found.residual)


def _all(evidence: Evidence) -> Sequence[Hypothesis]:
    groups = (shards, tensors, history, wire)
    return [each for group in groups for each in group.hypotheses(evidence)]
