"""Numbers fitted to a wrong update: the learning rate of each step, and factors of each tensor.

A fit gives a mistake (`Slip`) with the numbers that were found in it. Whether it explains what was
seen is decided as for every other mistake.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.updates.constants import SAME, constant, named_factor
from dptrain.gradcheck.updates.optimizers import decouples
from dptrain.gradcheck.updates.penalty_slips import Stages
from dptrain.gradcheck.updates.rates import learning_rate
from dptrain.gradcheck.updates.schedule_slips import explained
from dptrain.gradcheck.updates.textbook import (
    BY_THE_BOOK,
    Given,
    Predicted,
    Slip,
    Textbook,
    is_weight,
)
from dptrain.nn.network import Tensor

Array = NDArray[Any]

# Factors that are so close to each other, or to 0 or 1, are taken for equal.
CLOSE = 0.01
# Tensors that a sentence names one by one.
NAMED = 4
# Bounds of rounding within which a change may lie.
ROUNDING = 4.0
# Steps of Newton's method; the first is exact where the rule is linear in its gradient.
ROUNDS = 6
# No penalty is so many times what it should be; numbers that are garbage are.
ABSURD = 1e6
# Values of t beyond the last step that a bias correction may go by.
COUNTED = 8


@dataclass(frozen=True)
class Seen:
    """What was seen of a run.

    Attributes:
        job: settled.
        workers: the world size.
        numbers: of the steps.
        weights: before each, flat ``(size,)``.
        changes: of them in each.
        predict: what the steps do with a mistake.
    """

    job: Job
    workers: int
    numbers: Sequence[int]
    weights: Sequence[Array]
    changes: Sequence[Array]
    predict: Callable[[Slip], Sequence[Predicted]]

    def values(self, slip: Slip = BY_THE_BOOK) -> Array:
        """Return predicted changes, ``(steps, size)``."""
        return np.array([each.change.value for each in self.predict(slip)])

    def certainty(self) -> Array:
        """Return one over the tolerance of each change, ``(steps, size)``."""
        errors = np.array([each.change.error for each in self.predict(BY_THE_BOOK)], float)
        with np.errstate(divide="ignore", over="ignore"):
            found = 1 / errors
        return np.where(np.isfinite(found), found, 0.0)

    def first_wrong(self) -> int:
        """Return the first step whose changes are not the book's, or one behind the last."""
        with np.errstate(all="ignore"):
            off = np.abs(self.values() - self.changes) * self.certainty()
        wrong = (~(off <= ROUNDING)).any(axis=1)
        return next(
            (n for n, w in zip(self.numbers, wrong, strict=True) if w), self.numbers[-1] + 1
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All of them."""
        return list(self.job.network.all_tensors())


def fits(seen: Seen) -> Iterator[Slip]:
    """Yield what numbers fitted to a run come to; each only if it is not the book's."""
    with np.errstate(all="ignore"):
        yield from _rates(seen)
        yield from _tensor_rates(seen)
        yield from _penalties(seen)
        yield from _averages(seen)
        yield from _counted(seen)


def fitted(found: Array, wanted: Array, certainty: Array) -> float:
    """Return by which factor the wanted fits best, NaN where nothing is known."""
    a, b = found * certainty, wanted * certainty
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    square = float(b @ b)
    return float(a @ b) / square if square > 0 else np.nan


def _rates(seen: Seen) -> Iterator[Slip]:
    """Yield the learning rates that the steps go by, if they are not those of the book."""
    job = seen.job
    trained = Textbook(job).trained
    along = seen.values(Slip(rates=lambda _: 1.0))[:, trained]
    certainty = seen.certainty()[:, trained]
    rates = np.array(
        [
            fitted(seen.changes[i][trained], *pair)
            for i, pair in enumerate(zip(along, certainty, strict=True))
        ]
    )
    book = np.array([float(learning_rate(job, n).value) for n in seen.numbers])
    if np.allclose(rates, book, rtol=1e-9, atol=0, equal_nan=True):
        return
    why, schedule = explained(job, seen.workers, seen.numbers, rates)
    found = dict(zip(seen.numbers, np.where(np.isfinite(rates), rates, book), strict=True))
    yield Slip(why.kind, why.sentence, rates=schedule or (lambda n: float(found[n])))


def _tensor_rates(seen: Seen) -> Iterator[Slip]:
    """Yield factors of the learning rate that go by tensor."""
    book, changes, certainty = seen.values(), np.array(seen.changes), seen.certainty()
    own = [t for t in seen.tensors if t.trained]
    factors = [
        fitted(*(each[:, t.start : t.stop].ravel() for each in (changes, book, certainty)))
        for t in own
    ]
    wrong = [
        (t, f) for t, f in zip(own, factors, strict=True) if np.isfinite(f) and abs(f - 1) > 1e-6
    ]
    if not wrong or np.ptp([f for f in factors if np.isfinite(f)]) <= CLOSE * max(
        map(abs, factors)
    ):
        return
    spread = np.ones(seen.job.network.size)
    for t, f in wrong:
        spread[t.start : t.stop] = f
    each = [
        f"{t.name} is updated by {named_factor(seen.job, seen.workers, f)}"
        for t, f in wrong[:NAMED]
    ]
    yield Slip("tensor-rate", f"{_joined(each, len(wrong))}.", factors=spread)


def _penalties(seen: Seen) -> Iterator[Slip]:
    e = seen.job.experiment
    by, size = Stages(seen.job), seen.job.network.size
    decay, l1 = e.weight_decay, e.l1

    def decoupled(factors: Array) -> Slip:
        return Slip(decays=factors)

    def coupled(factors: Array) -> Slip:
        def prepares(given: Given) -> Array:
            return by.clipped(given) + by.l1(given) + factors * (decay or 1.0) * given.weights

        return Slip(prepares=prepares)

    def signs(factors: Array) -> Slip:
        def prepares(given: Given) -> Array:
            sign = np.sign(given.weights)
            return by.clipped(given) + by.decay(given) + factors * (l1 or 1.0) * sign

        return Slip(prepares=prepares)

    through = decoupled if decouples(seen.job) and decay else coupled
    decays = np.array([t.trained and is_weight(seen.job, t) for t in seen.tensors], float)
    for what, kind, make, coefficient in (
        ("Weight decay", "weight-decay", through, decay),
        ("The L1 penalty", "l1", signs, l1),
    ):
        wanted = decays * bool(coefficient)
        # from 0 as well: where the rule divides by the gradient's size, it may not come there
        for start in (wanted, 0 * wanted)[: 1 + bool(coefficient)]:
            factors = _newton(seen, make, start)
            if factors is None or np.abs(factors).max(initial=0) > ABSURD:
                continue
            whole = np.round(factors)
            # a learning rate too many is a small factor, and not 0
            room = np.where(whole == 0, SAME / 10, SAME)
            factors = np.where(np.abs(factors - whole) <= room, whole, factors)
            if np.allclose(factors, wanted, atol=1e-6, rtol=0):
                continue
            sentence = _penalty(seen, what, coefficient, wanted, factors)
            made = make(_spread(seen.tensors, size, factors))
            yield Slip(f"{kind}-factor", sentence, prepares=made.prepares, decays=made.decays)


def _newton(seen: Seen, make: Callable[[Array], Slip], start: Array) -> Array | None:
    """Return the factor of each tensor that fits best, from some; None where it runs away."""
    changes, certainty, size = np.array(seen.changes), seen.certainty(), seen.job.network.size
    factors = start.copy()
    for _ in range(ROUNDS):
        now = seen.values(make(_spread(seen.tensors, size, factors)))
        delta = 1e-3 * np.maximum(np.abs(factors), 1)
        slope = seen.values(make(_spread(seen.tensors, size, factors + delta))) - now
        before = factors.copy()
        for i, t in enumerate(seen.tensors):
            if t.trained:
                own = (
                    each[:, t.start : t.stop].ravel() for each in (changes - now, slope, certainty)
                )
                step = fitted(*own)
                factors[i] += delta[i] * step if np.isfinite(step) else 0.0
        if not np.isfinite(factors).all():
            return None
        if np.allclose(factors, before, rtol=1e-9, atol=1e-12):
            break
    return factors


def _spread(tensors: Sequence[Tensor], size: int, factors: Array) -> Array:
    found = np.zeros(size)
    for tensor, factor in zip(tensors, factors, strict=True):
        if tensor.trained:
            found[tensor.start : tensor.stop] = factor
    return found


def _penalty(seen: Seen, what: str, coefficient: float, wanted: Array, factors: Array) -> str:
    """Return what the factors of a penalty come to."""
    job, workers = seen.job, seen.workers
    if not coefficient:
        size = np.median(factors[np.abs(factors) > 1e-9])
        return (
            f"{what} is applied, with a coefficient of about {size:.3g}, where there is to be none."
        )
    own = factors[wanted > 0]
    if len(own) and np.ptp(own) <= CLOSE * np.abs(own).max() and _all_close(factors[wanted == 0]):
        return f"{what} is {named_factor(job, workers, float(np.mean(own)))}."
    wrong = [
        _decayed(job, workers, t.name, w, f)
        for t, w, f in zip(seen.tensors, wanted, factors, strict=True)
        if abs(f - w) > CLOSE
    ]
    return f"{what} is wrong: {_joined(wrong[:NAMED], len(wrong))}."


def _all_close(factors: Array) -> bool:
    return bool((np.abs(factors) <= CLOSE).all())


def _decayed(job: Job, workers: int, name: str, wanted: float, factor: float) -> str:
    if abs(factor) <= CLOSE:
        return f"{name} is not decayed"
    if abs(factor - 1) <= CLOSE:
        return f"{name} is decayed, and should not be"
    known = constant(job, workers, factor)
    often = f"{factor:.4g} times" + (f" (= {known})" if known else "")
    return f"{name} is decayed {often}" + ("" if wanted else ", and should not be")


def _joined(parts: Sequence[str], count: int) -> str:
    more = f", and {count - len(parts)} more" if count > len(parts) else ""
    return "; ".join(parts) + more


def _averages(seen: Seen) -> Iterator[Slip]:
    """Yield what running averages keep and take, if it is not what they should."""
    book = Textbook(seen.job).averages
    if not book.any():
        return
    everything = np.ones(len(book))
    new = np.array(seen.weights) + seen.values(Slip(mixes=(0 * everything, everything)))
    old = np.array(seen.weights)
    kept, taken = 1 - book, book.copy()
    wrong, rates = [], set()
    for t in seen.tensors:
        rate = book[t.start]
        if not rate:
            continue
        own = slice(t.start, t.stop)
        columns = np.stack([old[:, own].ravel(), new[:, own].ravel()], axis=1)
        after = (old + np.array(seen.changes))[:, own].ravel()
        if not np.isfinite(columns).all() or not np.isfinite(after).all():
            continue
        a, b = np.linalg.lstsq(columns, after, rcond=None)[0]
        if abs(a + rate - 1) > 1e-5 or abs(b - rate) > 1e-5:
            kept[own], taken[own] = a, b
            rates.add(f"{1 - rate:.4g} and {rate:.4g}")
            wrong.append(f"{t.name} becomes {a:.4g} of itself and {b:.4g} of the minibatch's")
    if wrong:
        some = _joined(wrong[:NAMED], len(wrong))
        yield Slip(
            "average-momentum",
            f"Running averages are mixed wrong: {some}, instead of {', '.join(sorted(rates))}.",
            mixes=(kept, taken),
        )


def _counted(seen: Seen) -> Iterator[Slip]:
    """Yield the t of Adam's bias correction that each step goes by, if it is not the book's."""
    if seen.job.experiment.optimizer not in ("adam", "adamw"):
        return
    trained = Textbook(seen.job).trained
    certainty = seen.certainty()[:, trained]
    changes = np.array(seen.changes)[:, trained]
    tried = range(1, max(seen.numbers) + COUNTED)
    left = []
    for t in tried:
        off = (seen.values(Slip(counts=lambda _, t=t: t))[:, trained] - changes) * certainty  # type: ignore[misc]
        left.append(np.nan_to_num(np.square(off), nan=np.inf).sum(axis=1))
    found = [tried[int(i)] for i in np.argmin(left, axis=0)]
    if found == [n + 1 for n in seen.numbers]:
        return
    counts = dict(zip(seen.numbers, found, strict=True))
    listed = ", ".join(map(str, found))
    what = f"The bias correction's step t is {listed} in steps {_steps(seen.numbers)}."
    yield Slip("adam-step", what, counts=lambda n: counts[n])


def _steps(numbers: Sequence[int]) -> str:
    return ", ".join(str(n + 1) for n in numbers)
