"""The search for what explains a wrong update: known mistakes first, then fits, then both in part.

What comes later has more numbers that are free, and explains a little more by chance; so it is
asked only where nothing simpler explains everything.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.updates.constants import named_factor
from dptrain.gradcheck.updates.fits import Seen, fits, fitted
from dptrain.gradcheck.updates.penalty_slips import clip_slips, penalty_slips
from dptrain.gradcheck.updates.rates import epoch_length
from dptrain.gradcheck.updates.rule_slips import rule_slips
from dptrain.gradcheck.updates.setting_fits import setting_fits
from dptrain.gradcheck.updates.textbook import BY_THE_BOOK, Slip, Textbook

Array = NDArray[Any]

# What leaves no more than this explains everything, and what differs from 1 by less is 1. Right
# explanations lie within the tolerance of rounding and leave nothing, but for numbers found by a
# search.
EVERYTHING = 1e-5
# Elements times steps beyond which mistakes are not tried in parts of the steps or together with
# others, which takes as long as everything else several times over.
AFFORDABLE = 1_000_000


class Left(NamedTuple):
    """What a mistake leaves unexplained.

    Attributes:
        weights: of their changes.
        state: of the optimizer.
        squares: of each element's change, ``(size,)``; their sum's root is ``weights``.
    """

    weights: float
    state: float
    squares: Array


Measure = Callable[[Slip], Left]
Tried = list[tuple[Slip, Left]]


def search(
    seen: Seen, simple: Sequence[Slip], measure: Measure, known: Sequence[Diagnosis] = ()
) -> list[Diagnosis]:
    """Return what could be wrong, by how well it explains the state where the weights agree.

    Args:
        seen: of the run.
        simple: mistakes that are tried first.
        measure: what a mistake leaves.
        known: what was found otherwise; if it explains everything, only simple mistakes are tried.
    """
    everything = [*simple, *_specific(seen)]
    tried: Tried = []
    stages: list[Callable[[], Iterable[tuple[Slip, Left]]]] = [
        lambda: ((slip, measure(slip)) for slip in everything),
        lambda: ((slip, measure(slip)) for slip in fits(seen)),
        lambda: _in_tensors(seen, list(tried), measure(BY_THE_BOOK)),
    ]
    if len(seen.numbers) * seen.job.network.size <= AFFORDABLE:
        stages += [
            lambda: ((slip, measure(slip)) for slip in _in_parts(seen, everything)),
            lambda: ((slip, measure(slip)) for slip in _with_factor(seen, everything)),
            lambda: ((slip, measure(slip)) for slip in setting_fits(seen.job, weigh)),
        ]

    def weigh(slip: Slip) -> float:
        return measure(slip).weights

    for stage in stages:
        tried += stage()
        if min([*(each.residual for each in known), *(left.weights for _, left in tried)]) <= (
            EVERYTHING
        ):
            break
    return _said_once(tried)


def _said_once(tried: Tried) -> list[Diagnosis]:
    """Return diagnoses; what explains the weights equally well may yet differ in the state."""
    found: dict[str, Diagnosis] = {}
    for slip, left in sorted(tried, key=lambda each: (round(each[1].weights, 9), each[1].state)):
        found.setdefault(slip.sentence, Diagnosis(slip.kind, slip.sentence, left.weights))
    return list(found.values())


def _specific(seen: Seen) -> Iterator[Slip]:
    """Yield mistakes of the rule, clipping and penalties that the experiment has."""
    e = seen.job.experiment
    if e.clip_norm is not None:
        yield from clip_slips(seen.job)
    if e.l1 or e.weight_decay:
        yield from penalty_slips(seen.job)
    yield from rule_slips(seen.job, seen.workers)
    yield from _forgetting(seen)


def _forgetting(seen: Seen) -> Iterator[Slip]:
    """Yield a state that is lost again and again."""
    if seen.job.experiment.optimizer == "sgd":
        return
    begins = tuple(n for n in seen.numbers if n and n % epoch_length(seen.job) == 0)
    names = {"mean": "first moment", "squares": "second moment", "velocity": "velocity"}
    state = seen.predict(BY_THE_BOOK)[0].state
    if begins:
        lost = "The optimizer's state is cleared where an epoch begins"
        yield Slip("state-cleared", f"{lost}.", forgets=begins)
        if seen.job.experiment.optimizer in ("adam", "adamw"):
            also = f"{lost}, and its count of steps begins again."
            yield Slip("state-cleared", also, forgets=begins, restarts=True)
    for name in state if len(state) > 1 else ():
        what = f"The {names[name]} is"
        if begins:
            cleared = f"{what} cleared where an epoch begins."
            yield Slip("state-cleared", cleared, forgets=begins, loses=(name,))
        never = f"{what} not kept: every step begins with a new one."
        yield Slip("state-lost", never, forgets=None, loses=(name,))


def _in_tensors(seen: Seen, tried: Tried, book: Left) -> Iterator[tuple[Slip, Left]]:
    """Yield mistakes that are made in some tensors only; rules work element by element."""
    spans = [(t.name, t.start, t.stop) for t in seen.tensors if t.trained]
    right = [float(book.squares[a:b].sum()) for _, a, b in spans]
    for slip, left in tried:
        wrong = [float(left.squares[a:b].sum()) for _, a, b in spans]
        which = [w < r for w, r in zip(wrong, right, strict=True)]
        if all(which) or not any(which) or len(book.squares) != seen.job.network.size:
            continue
        mask = np.zeros(len(book.squares), bool)
        for (_, a, b), chosen in zip(spans, which, strict=True):
            mask[a:b] = chosen
        squares = np.where(mask, left.squares, book.squares)
        names = ", ".join(name for (name, _, _), each in zip(spans, which, strict=True) if each)
        only = replace(slip, sentence=f"Only in {names}: {_continued(slip.sentence)}")
        yield only, Left(float(np.sqrt(squares.sum())), left.state, squares)


def _in_parts(seen: Seen, slips: Sequence[Slip]) -> Iterator[Slip]:
    """Yield every mistake in a part of the steps only."""
    numbers, period = seen.numbers, epoch_length(seen.job)
    warm = seen.job.experiment.warmup
    parts: list[tuple[str, Iterable[int]]] = [
        ("the steps that begin an epoch", (n for n in numbers if n % period == 0)),
        ("the steps that do not begin an epoch", (n for n in numbers if n % period)),
        ("the last steps of epochs", (n for n in numbers if n % period == period - 1)),
        ("all but the last steps of epochs", (n for n in numbers if n % period != period - 1)),
        ("every second step", (n for n in numbers if n % 2 == 1)),
        ("every second step", (n for n in numbers if n % 2 == 0)),
        ("the first step", numbers[:1]),
        ("the steps after the first", numbers[1:]),
        ("the steps behind the first epoch", (n for n in numbers if n >= period)),
        ("the warm-up", (n for n in numbers if n < warm)),
        ("the steps behind the warm-up", (n for n in numbers if n >= warm)),
    ]
    # a mistake that is not made in the first wrong step does not explain it
    first = seen.first_wrong()
    known: set[frozenset[int]] = {frozenset(numbers)}
    for what, chosen in parts:
        only = frozenset(chosen)
        if only in known or first not in only:
            continue
        known.add(only)
        for slip in slips:
            if slip.forgets == ():
                sentence = f"Only in {what}: {_continued(slip.sentence)}"
                yield replace(slip, sentence=sentence, only=only)


def _with_factor(seen: Seen, slips: Sequence[Slip]) -> Iterator[Slip]:
    """Yield every mistake together with another learning rate, which often comes with it."""
    trained = Textbook(seen.job).trained
    changes, certainty = np.array(seen.changes)[:, trained], seen.certainty()[:, trained]
    for slip in slips:
        if slip.descends is not None:
            continue
        with np.errstate(all="ignore"):
            values = seen.values(slip)[:, trained]
            factor = fitted(changes.ravel(), values.ravel(), certainty.ravel())
        if np.isfinite(factor) and abs(factor - 1) > EVERYTHING:
            times = named_factor(seen.job, seen.workers, factor)
            sentence = f"{slip.sentence} And the learning rate is {times}."
            yield replace(slip, sentence=sentence, rate=slip.rate * factor)


def _continued(sentence: str) -> str:
    """Return a sentence that stands behind a colon; abbreviations stay as they are."""
    return sentence if sentence[1:2].isupper() else sentence[0].lower() + sentence[1:]
