"""Numbers fitted to a run that was seen: one, one for each step, or one for each tensor.

A number that is found is named by what of the experiment it is, and gives a recipe like every other
mistake; whether that explains what was seen is decided likewise.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis, Mistake
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.report import Failure
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.updates.course import Course
from dptrain.gradcheck.updates.mistakes import Known
from dptrain.gradcheck.updates.numbers import EXACTLY, SAME, constant, named_factor
from dptrain.gradcheck.updates.optimizers import Rule, constants_of, rule_of
from dptrain.gradcheck.updates.rates import (
    Rates,
    check_rates,
    chosen_steps,
    scaled,
    schedule_of,
    values_of,
    wrong_schedules,
)
from dptrain.gradcheck.updates.rates import constants_of as schedule_constants
from dptrain.gradcheck.updates.textbook import Recipe, spread

Array = NDArray[Any]
Make = Callable[[Array], Recipe]  # of a number for each element

# Factors that are so close to each other, or to 0 or 1, are taken for equal.
CLOSE = 0.01
# Tensors that a sentence names one by one.
NAMED = 4
# Steps of Newton's method; the first is exact where the change is linear in the number.
ROUNDS = 6
# No penalty is so many times what it should be; numbers that are garbage are.
ABSURD = 1e6
# Values of t beyond the steps that were seen that a bias correction may go by.
COUNTED = 8
# What a schedule must explain of the deviation to be named; rates from a float32 run are known to
# about 1e-4 of it.
EXPLAINS = 0.02
# Steps with wrong rates that are looked at, and so many of all.
FEW = 200


def fits(run: Course) -> Iterator[Known]:
    """Yield what numbers fitted to a run come to; each only if it is not the book's."""
    for numbers in (_rates, _by_tensor, _counts):
        # what a broken run has made may not be fitted; the other numbers are tried all the same
        with np.errstate(all="ignore"), contextlib.suppress(Exception):
            yield from numbers(run)


def _rates(run: Course) -> Iterator[Known]:
    """Yield the learning rates that the steps go by, if they are not those of the book."""
    values = run.values(replace(run.book, rates=lambda _: 1.0))
    rates = np.array([run.factor(values, i, run.book.trained) for i in range(len(run.steps))])
    book = values_of(run.book.rates, run.numbers)
    if np.allclose(rates, book, rtol=1e-9, atol=0, equal_nan=True):
        return
    why, schedule = explained(run.job, run.workers, run.numbers, rates)
    found = dict(zip(run.numbers, np.where(np.isfinite(rates), rates, book).tolist(), strict=True))
    yield Mistake(why.kind, why.sentence, replace(run.book, rates=schedule or found.__getitem__))


def explained(
    job: Job, workers: int, numbers: Sequence[int], rates: Array
) -> tuple[Diagnosis, Rates | None]:
    """Return what is wrong with rates that are not the book's, and the schedule that has them.

    Args:
        job: settled.
        workers: the world size.
        numbers: of the steps.
        rates: as they were found, NaN where nothing is known.
    """
    right = schedule_of(job)
    off = ~np.isclose(rates, values_of(right, numbers), rtol=EXACTLY, atol=0)
    known, wrong = np.flatnonzero(np.isfinite(rates)), np.flatnonzero(np.isfinite(rates) & off)
    some = np.union1d(_evenly(known), _evenly(wrong))
    steps, found = [numbers[i] for i in some], rates[some]
    scale = float(np.linalg.norm(found - values_of(right, steps)))
    rows: list[Mistake[Rates]] = [*wrong_schedules(job, workers)]

    def score(rates: Rates) -> float:
        return float(np.nan_to_num(np.linalg.norm(found - values_of(rates, steps)), nan=np.inf))

    for each in schedule_constants(job):
        rows += (Mistake(*one) for one in each.fitted(right, score))
    whole: list[Mistake[Rates]] = [Mistake("lr-factor", "", right)]
    corrected = [*_corrected(job, right), *rows]
    for tried, free in ((rows, False), (whole, True), (corrected, True)):
        best, left, factor = _closest(tried, steps, found, scale, free=free)
        if left <= EXPLAINS:
            times = named_factor(job, workers, factor)
            sentence = best.sentence or f"The learning rate is {times} in every step."
            if best.sentence and abs(factor - 1) > EXPLAINS:
                sentence += f" And it is {times}."
            rate = scaled(best.change, factor) if free else best.change
            return Diagnosis(best.kind, sentence, left), rate
    pairs = [
        f"{rates[i]:.6g} instead of {right(numbers[i]):.6g} in step {numbers[i] + 1}"
        for i in wrong[:NAMED]
    ]
    what = "the learning rate"
    if job.experiment.clip_norm is not None and job.experiment.optimizer == "sgd":
        what = "the learning rate, or this times the factor of clipping,"
    said = f"The step's length is wrong in {len(wrong)} of {len(known)} steps: {what} is "
    return Diagnosis("schedule", f"{said}{', '.join(pairs)}.", 0.0), None


def _evenly(places: Array) -> Array:
    """Return as many of some places as are looked at, evenly chosen."""
    chosen = np.linspace(0, len(places) - 1, min(FEW, len(places))).astype(int)
    return np.asarray(places[chosen])


def _closest(
    rows: Sequence[Mistake[Rates]], steps: Sequence[int], found: Array, scale: float, *, free: bool
) -> tuple[Mistake[Rates], float, float]:
    """Return what leaves the least of some rates, what it leaves, and its factor."""
    best, least, by = rows[0], 1.0, 1.0
    for each in rows:
        values = values_of(each.change, steps)
        with np.errstate(all="ignore"):
            factor = float(found @ values / (values @ values)) if free else 1.0
            left = float(np.linalg.norm(found - factor * values)) / scale if scale else 1.0
        if math.isfinite(left) and round(left, 6) < least:
            best, least, by = each, round(left, 6), factor
    return best, least, by


def _corrected(job: Job, right: Rates) -> Iterator[Mistake[Rates]]:
    """Yield rates that lack, or have once more, what Adam's bias correction makes of them."""
    a, b = rule_of(job).corrects, rule_of(job).corrects2
    for letter, beta, power in (("β₁", a, 1.0), ("β₂", b, 0.5), ("β₂", b, 1.0)):
        for by, what in ((-power, "divided"), (power, "multiplied")) if beta else ():
            name = f"√(1 - {letter}ᵗ)" if power == 0.5 else f"1 - {letter}ᵗ"
            rates = partial(_with_power, right, beta or 0.0, by)
            yield Mistake("adam-correction", f"The step is {what} by {name} once more.", rates)


def _with_power(right: Rates, beta: float, power: float, step: int) -> float:
    return float(right(step) * (1 - beta ** (step + 1)) ** power)


def _by_tensor(run: Course) -> Iterator[Known]:
    """Yield numbers that go by tensor: of the rate, of penalties, and of running averages."""
    book, job, e = run.book, run.job, run.job.experiment
    ones = np.array([float(t.trained) for t in run.tensors])
    decays = np.array([float(book.decay.often[t.start : t.stop].any()) for t in run.tensors])
    moves = np.array([float(book.averaging[t.start : t.stop].any()) for t in run.tensors])

    def penalised(which: str) -> Make:
        penalty = getattr(book, which)
        some = replace(penalty, coefficient=penalty.coefficient or 1.0)
        return lambda x: replace(book, **{which: replace(some, often=x * book.trained)})

    factors = _newton(run, lambda x: replace(book, factors=x), ones)
    if factors is not None and np.ptp(own := factors[ones > 0]) > CLOSE * np.abs(own).max():
        wrong = [
            f"{t.name} is updated by {named_factor(job, run.workers, f)}"
            for t, f, each in zip(run.tensors, factors, ones, strict=True)
            if each and abs(f - 1) > EXACTLY
        ]
        changed = replace(book, factors=_spread(run, factors))
        yield Mistake("tensor-rate", f"{_joined(wrong)}.", changed)
    for what, kind, which, coefficient in (
        ("Weight decay", "weight-decay", "decay", e.weight_decay),
        ("The L1 penalty", "l1", "l1", e.l1),
    ):
        wanted = decays * bool(coefficient)
        # from 0 as well: where the rule divides by the gradient's size, it may not come there
        for start in (wanted, 0 * wanted)[: 1 + bool(coefficient)]:
            factors = _newton(run, penalised(which), start)
            if factors is None or np.abs(factors).max(initial=0) > ABSURD:
                continue
            whole = np.round(factors)
            # a learning rate too many is a small factor, and not 0
            room = np.where(whole == 0, SAME / 10, SAME)
            factors = np.where(np.abs(factors - whole) <= room, whole, factors)
            if not np.allclose(factors, wanted, atol=EXACTLY, rtol=0):
                sentence = _penalty(run, what, coefficient, wanted, factors)
                changed = penalised(which)(_spread(run, factors))
                yield Mistake(f"{kind}-factor", sentence, changed)
    if not moves.any():
        return
    taken = _newton(run, lambda x: replace(book, averaging=x * book.averaging), moves)
    if taken is not None and not np.allclose(taken, moves, atol=1e-5, rtol=0):
        rates = [float(book.averaging[t.start]) for t in run.tensors]
        wrong = [
            f"{t.name} becomes {1 - f * r:.4g} of itself and {f * r:.4g} of the minibatch's"
            for t, f, r in zip(run.tensors, taken, rates, strict=True)
            if r and abs(f - 1) > CLOSE
        ]
        right = ", ".join(sorted({f"{1 - r:.4g} and {r:.4g}" for r in rates if r}))
        sentence = f"Running averages are mixed wrong: {_joined(wrong)}, instead of {right}."
        changed = replace(book, averaging=_spread(run, taken) * book.averaging)
        yield Mistake("average-momentum", sentence, changed)


def _newton(run: Course, make: Make, start: Array) -> Array | None:
    """Return the number of each tensor that fits best, from some; None where it runs away."""
    factors = start.copy()
    for _ in range(ROUNDS):
        now = run.values(make(_spread(run, factors)))
        delta = 1e-3 * np.maximum(np.abs(factors), 1)
        slope = run.values(make(_spread(run, factors + delta))) - now
        before = factors.copy()
        for i, t in enumerate(run.tensors):
            step = run.factor(slope, ..., slice(t.start, t.stop), of=run.changes - now)
            factors[i] += delta[i] * step if np.isfinite(step) else 0.0
        if not np.isfinite(factors).all():
            return None
        if np.allclose(factors, before, rtol=1e-9, atol=1e-12):
            break
    return factors


def _spread(run: Course, factors: Array) -> Array:
    found = zip(run.tensors, factors, strict=True)
    by_name = {tensor.name: float(factor) for tensor, factor in found}
    return spread(run.tensors, run.job.network.size, lambda t: by_name[t.name])


def _penalty(run: Course, what: str, coefficient: float, wanted: Array, factors: Array) -> str:
    """Return what the factors of a penalty come to."""
    if not coefficient:
        size = np.median(factors[np.abs(factors) > 1e-9])
        return (
            f"{what} is applied, with a coefficient of about {size:.3g}, where there is to be none."
        )
    own, others = factors[wanted > 0], np.abs(factors[wanted == 0])
    if len(own) and np.ptp(own) <= CLOSE * np.abs(own).max() and (others <= CLOSE).all():
        return f"{what} is {named_factor(run.job, run.workers, float(np.mean(own)))}."

    def said(right: float, factor: float) -> str:
        if abs(factor) <= CLOSE:
            return "is not decayed"
        known = constant(run.job, run.workers, factor)
        often = "" if abs(factor - 1) <= CLOSE else f" {factor:.4g} times"
        often += f" (= {known})" if known and often else ""
        return f"is decayed{often}" + ("" if right else ", and should not be")

    wrong = [
        f"{t.name} {said(w, f)}"
        for t, w, f in zip(run.tensors, wanted, factors, strict=True)
        if abs(f - w) > CLOSE
    ]
    return f"{what} is wrong: {_joined(wrong)}."


def _joined(parts: Sequence[str]) -> str:
    more = f", and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
    return "; ".join(parts[:NAMED]) + more


def _counts(run: Course) -> Iterator[Known]:
    """Yield the t of Adam's bias correction that each step goes by, if it is not the book's."""
    if run.book.rule.corrects is None:
        return
    first, last = run.numbers[0], run.numbers[-1]
    near = range(max(1, first - COUNTED), last + COUNTED)
    tried = sorted({*range(1, 2 * COUNTED), *near})

    def left(t: int) -> Array:
        off = run.off(replace(run.book, count=lambda _: t))[:, run.book.trained]
        return np.asarray(np.square(off).sum(axis=1))

    found = [tried[int(i)] for i in np.argmin([left(t) for t in tried], axis=0)]
    if found != [n + 1 for n in run.numbers]:
        counts = dict(zip(run.numbers, found, strict=True))
        listed, steps = (
            ", ".join(map(str, each)) for each in (found, [n + 1 for n in run.numbers])
        )
        what = f"The bias correction's step t is {listed} in steps {steps}."
        yield Mistake("adam-step", what, replace(run.book, count=counts.__getitem__))


def constants(run: Course) -> Iterator[Known]:
    """Yield the rule with another value of each of its numbers, the one that explains most."""
    book = run.book

    def score(rule: Rule) -> float:
        return float(np.linalg.norm(run.off(replace(book, rule=rule))))

    for each in constants_of(book.rule):
        for kind, sentence, rule in each.fitted(book.rule, score):
            yield Mistake(kind, sentence, replace(book, rule=rule))


def checked_rates(
    subject: Subject, ways: Sequence[Way]
) -> Iterator[tuple[Comparison, Callable[[], Failure]]]:
    """Compare the learning rate of every step of the experiment as it was given with the book's."""
    job, workers = subject.whole_job(), max((way.workers for way in ways), default=1)
    found = check_rates(job)
    yield found, lambda: Failure(found, diagnose_rates(job, workers))


def diagnose_rates(job: Job, workers: int) -> list[Diagnosis]:
    """Return what is wrong with the schedule that a job's updater goes by."""
    numbers = chosen_steps(job)
    found = values_of(job.updater.schedule, numbers)
    return [explained(job, workers, numbers, found)[0]]
