"""Whom a mistake hits: all ranks or one, one shard, the wrong tensors alone.

What it leads to is the same everywhere: where it does not reach, the gradient is right.
"""

import enum
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.hypotheses.evidence import Array, Evidence, Hypothesis, Recipe
from dptrain.nn.network import Tensor

MOST_NAMES = 4  # of tensors, in a sentence


class Scope(enum.Enum):
    """Whom a mistake hits, and how often one after the other.

    GRADIENT: the sum over all. EVERY_RANK: the parts of all ranks, each by itself; likewise
    EVERY_SHARD. RANK: one rank after the other; likewise SHARD.
    TENSORS: what is summed over all, of those tensors alone that are wrong; RANK_TENSORS: likewise
    one rank's part of them.
    """

    GRADIENT = enum.auto()
    EVERY_RANK = enum.auto()
    RANK = enum.auto()
    EVERY_SHARD = enum.auto()
    SHARD = enum.auto()
    TENSORS = enum.auto()
    RANK_TENSORS = enum.auto()


class Known(NamedTuple):
    """A known mistake and whom it may hit.

    Attributes:
        mistake: its sentence may have ``{}`` for the part of the gradient that it hits.
        scopes: of it.
    """

    mistake: Mistake[Recipe]
    scopes: Sequence[Scope] = (Scope.GRADIENT,)


class Hit(NamedTuple):
    """What is hit.

    Attributes:
        name: in words.
        groups: of shards, each of which is hit by itself.
        within: the elements that are, bool ``(size,)``; None: all.
    """

    name: str
    groups: Sequence[slice]
    within: Array | None = None


def expanded(e: Evidence, known: Known) -> Iterator[Hypothesis]:
    """Yield what a mistake leads to for all that it may hit.

    What is predicted is computed with code and data that may be broken: what cannot be predicted
    is no explanation, and the others are tried all the same.
    """
    (kind, sentence, recipe), scopes = known
    try:
        shards = _made(e, recipe)
    except Exception:  # noqa: BLE001 - see above
        return
    for scope in scopes:
        for hit in _hits(e, scope):
            try:
                predicted = _predicted(e, recipe, shards, hit)
            except Exception:  # noqa: BLE001, S112 - see above
                continue
            told = sentence.replace("{}", hit.name)
            if told == sentence and scope is not Scope.GRADIENT:
                told = f"{sentence}, in {hit.name}"
            yield Hypothesis(kind, told, predicted)


def _made(e: Evidence, recipe: Recipe) -> Array:
    """Return the shards' parts by a recipe."""
    if not recipe.computed:
        return e.shards
    if e.parts is None:
        raise NotImplementedError("nothing can be computed again")
    with np.errstate(all="ignore"):
        return e.parts(recipe)


def _predicted(e: Evidence, recipe: Recipe, shards: Array, hit: Hit) -> Array:
    predicted = e.right.copy()
    with np.errstate(all="ignore"):  # bytes in the wrong order are anything
        for own in hit.groups:
            everything = own == slice(None)
            right = e.right if everything else e.shards[own].sum(axis=0)
            part = shards[own].sum(axis=0) if recipe.computed else right
            if recipe.counts is not None:
                part = recipe.counts[own] @ shards[own]
            if recipe.sent is not None:
                part = recipe.sent(own, part)
            predicted = part if everything else predicted + (part - right)
    return predicted if hit.within is None else np.where(hit.within, predicted, e.right)


def _hits(e: Evidence, scope: Scope) -> Iterator[Hit]:
    ranks = [slice(low, high) for low, high in e.ranks]
    shards = [slice(s, s + 1) for s in range(len(e.sizes))]
    everything = [slice(None)]
    if scope is Scope.GRADIENT:
        yield Hit("the gradient", everything)
    elif scope is Scope.EVERY_RANK:
        yield Hit("every rank's part", ranks)
    elif scope is Scope.EVERY_SHARD:
        yield Hit("every shard's part", shards)
    elif scope is Scope.RANK:
        for rank, own in enumerate(ranks):
            yield Hit(f"rank {rank}'s part ({_listed(own, len(shards))})", [own])
    elif scope is Scope.SHARD:
        for shard, own in enumerate(shards):
            yield Hit(f"the part of shard {shard} (rank {e.owners[shard]})", [own])
    else:
        tensors = wrong_tensors(e)
        names = ", ".join(t.name for t in tensors[:MOST_NAMES])
        names += " …" if len(tensors) > MOST_NAMES else ""
        within = np.zeros(e.found.shape, bool)
        for tensor in tensors:
            within[tensor.start : tensor.stop] = True
        if scope is Scope.TENSORS:
            yield Hit(f"the gradient of {names}", everything, within)
        else:
            for rank, own in enumerate(ranks):
                yield Hit(f"rank {rank}'s part of {names}", [own], within)


def wrong_tensors(e: Evidence) -> Sequence[Tensor]:
    """Return the tensors whose gradient is wrong; all of them where none is right."""
    wrong = [t for t in e.tensors if e.is_wrong(t)]
    return wrong or e.tensors


def _listed(own: slice, count: int) -> str:
    shards = list(range(own.start, min(own.stop, count)))
    if not shards:
        return "no shard"
    return f"shard{'s' * (len(shards) > 1)} {', '.join(map(str, shards))}"
