"""Learning-rate schedules with one thing wrong, and which of them explains the rates of a run."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.distributed import Way
from dptrain.gradcheck.report import Failure
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.updates.constants import named_factor
from dptrain.gradcheck.updates.rates import check_rates, chosen_steps, learning_rate, used_rates
from dptrain.gradcheck.updates.schedule_forms import Wrong, book_form, scaled, wrong_schedules

Array = NDArray[Any]
Changes = dict[str, Any]

# What a schedule must explain of the deviation to be named; rates from a float32 run are known to
# about 1e-4 of it.
EXPLAINS = 0.02


def explained(
    job: Job, workers: int, numbers: Sequence[int], rates: Array
) -> tuple[Diagnosis, Callable[[int], float] | None]:
    """Return what is wrong with rates that are not the book's, and the schedule that has them.

    Args:
        job: settled.
        workers: the world size.
        numbers: of the steps.
        rates: as they were found, NaN where nothing is known.
    """
    known = np.isfinite(rates)
    steps = [n for n, each in zip(numbers, known, strict=True) if each]
    found, book = rates[known], _values(_by_the_book(job), steps)
    scale = float(np.linalg.norm(found - book))
    wrong = [*wrong_schedules(job, workers), *_guessed(job, steps, found)]
    best, left, _ = _closest(wrong, steps, found, scale, free=False)
    if left <= EXPLAINS:
        return Diagnosis(best.kind, best.sentence, left), best.rate
    right = Wrong("lr-factor", "", _by_the_book(job))
    _, left, factor = _closest([right], steps, found, scale, free=True)
    if left <= EXPLAINS:
        what = f"The learning rate is {named_factor(job, workers, factor)} in every step."
        return Diagnosis(right.kind, what, left), scaled(right.rate, factor)
    best, left, factor = _closest([*_counted(job), *wrong], steps, found, scale, free=True)
    if left <= EXPLAINS:
        times = named_factor(job, workers, factor)
        what = best.sentence + (f" And it is {times}." if abs(factor - 1) > EXPLAINS else "")
        return Diagnosis(best.kind, what, left), scaled(best.rate, factor)
    return Diagnosis("schedule", _listed(job, steps, found, book), 0.0), None


def _closest(
    wrong: Sequence[Wrong], steps: Sequence[int], found: Array, scale: float, *, free: bool
) -> tuple[Wrong, float, float]:
    """Return what leaves the least of some rates, what it leaves, and its factor."""
    tried: list[tuple[float, float, Wrong]] = []
    for each in wrong:
        values = _values(each.rate, steps)
        with np.errstate(all="ignore"):
            factor = float(found @ values / (values @ values)) if free else 1.0
            left = float(np.linalg.norm(found - factor * values)) / scale if scale else 1.0
        if math.isfinite(left):
            tried.append((round(left, 6), factor, each))
    left, factor, best = min(tried, key=lambda each: each[0], default=(1.0, 1.0, wrong[0]))
    return best, left, factor


def _by_the_book(job: Job) -> Callable[[int], float]:
    return lambda step: float(learning_rate(job, step).value)


def _guessed(job: Job, steps: Sequence[int], found: Array) -> Iterator[Wrong]:
    """Yield the book's schedule with the rate, or the length, that single steps speak of."""
    book = book_form(job)
    past = np.array(steps) - book.taken_off
    with np.errstate(all="ignore"):
        part = found / book.base
        if book.kind in ("step", "exponential"):
            periods = past / book.every
            periods = np.floor(periods) if book.kind == "step" else periods
            rates = np.power(part, 1 / periods)[periods > 0]
            rate = float(np.median(rates)) if len(rates) else math.nan
            if math.isfinite(rate) and rate > 0:
                what = f"The factor of the decay is {rate:.6g}, not {book.rate:g}."
                yield Wrong("decay-rate", what, replace(book, rate=rate))
        if book.kind == "cosine":
            lengths = (past * math.pi / np.arccos(2 * part - 1))[past > 0]
            lengths = lengths[np.isfinite(lengths)]
            if len(lengths):
                length = float(np.median(lengths))
                what = f"The cosine's length is {length:.6g} steps, not {book.length:g}."
                yield Wrong("cosine-length", what, replace(book, length=length))


def _counted(job: Job) -> Iterator[Wrong]:
    """Yield rates that lack, or have once more, what Adam's bias correction makes of them."""
    e, right = job.experiment, _by_the_book(job)
    if e.beta1 is None or e.beta2 is None:
        return
    for letter, beta, power in (("β₁", e.beta1, 1.0), ("β₂", e.beta2, 0.5), ("β₂", e.beta2, 1.0)):
        name = f"√(1 - {letter}ᵗ)" if power == 0.5 else f"1 - {letter}ᵗ"

        def correction(step: int, beta: float = beta, power: float = power) -> float:
            return float((1 - beta ** (step + 1)) ** power)

        def missing(step: int, c: Callable[[int], float] = correction) -> float:
            return right(step) / c(step)

        def more(step: int, c: Callable[[int], float] = correction) -> float:
            return right(step) * c(step)

        yield Wrong("adam-correction", f"The step is divided by {name} once more.", missing)
        yield Wrong("adam-correction", f"The step is multiplied by {name} once more.", more)


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
    return [explained(job, workers, numbers, used_rates(job, numbers))[0]]


def _values(rate: Callable[[int], float], steps: Sequence[int]) -> Array:
    """Return the rates of steps, NaN where they cannot be computed."""
    return np.array([_value(rate, step) for step in steps])


def _value(rate: Callable[[int], float], step: int) -> float:
    try:
        return float(rate(step))
    except (OverflowError, ZeroDivisionError, ValueError, TypeError):
        return math.nan


def _listed(job: Job, steps: Sequence[int], found: Array, book: Array) -> str:
    """Return the first rates that are wrong, as a sentence."""
    off = np.abs(found - book) > 1e-6 * np.abs(book).max(initial=0)
    places = np.flatnonzero(off)[:4]
    each = [f"{found[i]:.6g} instead of {book[i]:.6g} in step {steps[i] + 1}" for i in places]
    some = f"in {np.count_nonzero(off)} of {len(steps)} steps"
    what = "the learning rate"
    if job.experiment.clip_norm is not None and job.experiment.optimizer == "sgd":
        what = "the learning rate, or this times the factor of clipping,"
    return f"The step's length is wrong {some}: {what} is {', '.join(each)}."
