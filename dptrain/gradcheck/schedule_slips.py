"""Learning-rate schedules with one thing wrong, and which of them explains the rates of a run."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.experiment.settle import DECAY_RATES
from dptrain.gradcheck.constants import named_factor
from dptrain.gradcheck.diagnosis import Diagnosis
from dptrain.gradcheck.rates import (
    chosen_steps,
    epoch_length,
    learning_rate,
    run_length,
    used_rates,
)
from dptrain.optim.rules import DEFAULT_LR

Array = NDArray[Any]
Changes = dict[str, Any]

# What a schedule must explain of the deviation to be named; rates from a float32 run are known to
# about 1e-4 of it.
EXPLAINS = 0.02
KINDS = {
    "constant": "a constant rate",
    "step": "a step schedule",
    "exponential": "an exponential one",
    "cosine": "a cosine",
}


@dataclass(frozen=True)
class Form:
    """A schedule with all its parts open; each has a default that is by the book.

    Attributes:
        kind: ``"constant"``, ``"step"``, ``"exponential"`` or ``"cosine"``.
        base: the rate at the end of the warm-up.
        warmup: its steps.
        rate: factor of a period.
        every: steps of a period.
        length: steps of the cosine.
        lead: steps that it is ahead.
        taken_off: steps that the schedule begins after.
        rise: of the warm-up, of step and warm-up.
        periods: whole ones that a step counts, or parts.
        wave: the factor, of the part of the length.
        power: the factor, of rate and periods.
        restarts: steps after which all begins anew.
        holds: steps in which the rate stays as it is.
        first: the step that it is for all steps before.
    """

    kind: str
    base: float
    warmup: int
    rate: float
    every: float
    length: float
    taken_off: int
    lead: int = 0
    rise: Callable[[int, int], float] = lambda s, n: (s + 1) / (n + 1)
    periods: Callable[[float], float] | None = None
    wave: Callable[[float], float] = lambda x: (1 + math.cos(math.pi * min(1.0, x))) / 2
    power: Callable[[float, float], float] = lambda rate, periods: rate**periods
    restarts: int | None = None
    holds: int = 1
    first: int | None = None

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step."""
        step = step if self.restarts is None else step % self.restarts
        step = (step + self.lead) // self.holds * self.holds
        step = step if self.first is None else max(step, self.first)
        if step < self.warmup:
            return self.base * self.rise(step, self.warmup)
        past = step - self.taken_off
        if self.kind == "constant":
            return self.base
        if self.kind == "cosine":
            return self.base * self.wave(past / self.length)
        whole = math.floor if self.kind == "step" else float
        periods = (self.periods or whole)(past / self.every)
        return self.base * self.power(self.rate, periods)


class Wrong(NamedTuple):
    """A mistake of the schedule.

    Attributes:
        kind: as of `Diagnosis`.
        sentence: likewise.
        rate: of a step.
    """

    kind: str
    sentence: str
    rate: Callable[[int], float]


def book_form(job: Job) -> Form:
    """Return the job's schedule as it should be."""
    e = job.experiment
    return Form(
        kind=e.schedule,
        base=e.lr or 0.0,
        warmup=e.warmup,
        rate=e.decay_rate or 1.0,
        every=e.decay_every or epoch_length(job),
        length=max(1, run_length(job) - e.warmup),
        taken_off=e.warmup,
    )


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
    wrong = [*_wrong(job, workers), *_guessed(job, steps, found)]
    best, left, _ = _closest(wrong, steps, found, scale, scaled=False)
    if left <= EXPLAINS:
        return Diagnosis(best.kind, best.sentence, left), best.rate
    right = Wrong("lr-factor", "", _by_the_book(job))
    _, left, factor = _closest([right], steps, found, scale, scaled=True)
    if left <= EXPLAINS:
        what = f"The learning rate is {named_factor(job, workers, factor)} in every step."
        return Diagnosis(right.kind, what, left), _times(right.rate, factor)
    best, left, factor = _closest([*_counted(job), *wrong], steps, found, scale, scaled=True)
    if left <= EXPLAINS:
        times = named_factor(job, workers, factor)
        what = best.sentence + (f" And it is {times}." if abs(factor - 1) > EXPLAINS else "")
        return Diagnosis(best.kind, what, left), _times(best.rate, factor)
    return Diagnosis("schedule", _listed(job, steps, found, book), 0.0), None


def _closest(
    wrong: Sequence[Wrong], steps: Sequence[int], found: Array, scale: float, *, scaled: bool
) -> tuple[Wrong, float, float]:
    """Return what leaves the least of some rates, what it leaves, and its factor."""
    tried: list[tuple[float, float, Wrong]] = []
    for each in wrong:
        values = _values(each.rate, steps)
        with np.errstate(all="ignore"):
            factor = float(found @ values / (values @ values)) if scaled else 1.0
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


def _wrong(job: Job, workers: int) -> Iterator[Wrong]:
    book = book_form(job)
    if workers > 1:
        times = f"multiplied by the {workers} workers"
        yield Wrong("lr-multiplied", f"The learning rate is {times}.", _times(book, workers))
        yield Wrong(
            "lr-multiplied", f"The learning rate is {times}, twice.", _times(book, workers**2)
        )
        part = f"divided by the {workers} workers"
        yield Wrong("lr-divided", f"The learning rate is {part}.", _times(book, 1 / workers))
    after = "The base is missing from the learning rate after the warm-up: it is the factor alone."
    yield Wrong("lr-missing", after, lambda s: book(s) / (1 if s < book.warmup else book.base))
    yield Wrong("ascends", "The weights move up the gradient, not down.", _times(book, -1))
    changes = [*_shifts(book), *_warm_ups(job, book)]
    if book.kind == "cosine":
        changes += _cosines(job, book)
    if book.kind in ("step", "exponential"):
        changes += _decays(job, book)
    changes += [*_kinds(job, book), *_by_epoch(job)]
    for kind, sentence, changed in changes:
        yield Wrong(kind, sentence, replace(book, **changed))


def _times(book: Callable[[int], float], factor: float) -> Callable[[int], float]:
    return lambda step: factor * book(step)


def _shifts(book: Form) -> Iterator[tuple[str, str, Changes]]:
    if book.kind == "constant" and not book.warmup:
        return
    for lead in (1, -1, 2, -2):
        steps = "one step" if abs(lead) == 1 else "two steps"
        where = "ahead" if lead > 0 else "behind"
        yield "schedule-shifted", f"The schedule is {steps} {where}.", {"lead": lead}
        if lead < 0:
            late = {"lead": lead, "first": 0}
            yield "schedule-shifted", f"The schedule is {steps} {where}.", late


def _by_epoch(job: Job) -> Iterator[tuple[str, str, Changes]]:
    period = epoch_length(job)
    yield (
        "schedule-restarts",
        "The schedule begins anew with every epoch.",
        {"restarts": period},
    )
    yield (
        "schedule-holds",
        "The schedule moves on only where an epoch begins, not with every step.",
        {"holds": period},
    )


def _warm_ups(job: Job, book: Form) -> Iterator[tuple[str, str, Changes]]:
    n, period = book.warmup, epoch_length(job)
    if not n:
        return
    rises: list[tuple[str, Callable[[int, int], float]]] = [
        ("the warm-up begins at 0: it rises by s / (warm-up + 1)", lambda s, n: s / (n + 1)),
        ("the warm-up begins at 0: it rises by s / warm-up", lambda s, n: s / n),
        ("the warm-up rises by (s + 1) / warm-up, so its last step has the whole rate",
         lambda s, n: (s + 1) / n),
        ("the warm-up rises with the square of the steps", lambda s, n: ((s + 1) / (n + 1)) ** 2),
        ("the warm-up rises with the root of the steps", lambda s, n: ((s + 1) / (n + 1)) ** 0.5),
        ("the warm-up falls: it is upside down", lambda s, n: 1 - s / (n + 1)),
        ("the rate does not rise in the warm-up: it is 0 until its end", lambda *_: 0.0),
    ]  # fmt: skip
    if book.kind != "constant":
        off = "The schedule counts from step 0, not from the end of the warm-up"
        yield "warm-up-not-subtracted", f"{off}.", {"taken_off": 0}
        cosine = {"taken_off": 0, "length": max(1, run_length(job))}
        yield "warm-up-not-subtracted", f"{off}, and over the whole run.", cosine
        one = "The schedule counts from one step {}, not from the end of the warm-up."
        yield "warm-up-not-subtracted", one.format("too early"), {"taken_off": n - 1}
        yield "warm-up-not-subtracted", one.format("too late"), {"taken_off": n + 1}
        twice = "The warm-up is taken off the schedule's steps twice."
        yield "warm-up-not-subtracted", twice, {"taken_off": 2 * n}
        none = "There is no warm-up, and the schedule begins at once."
        yield "warm-up-missing", none, {"warmup": 0, "taken_off": 0}
        over = {"warmup": 0, "taken_off": 0, "length": max(1, run_length(job))}
        yield "warm-up-missing", none, over
    flat = "There is no warm-up: its steps have the whole rate."
    yield "warm-up-missing", flat, {"rise": lambda *_: 1.0}
    for what, rise in rises:
        yield "warm-up", f"The learning rate is wrong in the warm-up: {what}.", {"rise": rise}
    for other, what in (
        (n + 1, "one step too long"),
        (n - 1, "one step too short"),
        (2 * n, "twice as long"),
        (n * period, "counted in epochs, not in steps"),
    ):
        yield "warm-up", f"The warm-up is {what}.", {"warmup": other, "taken_off": other}
        yield "warm-up", f"The warm-up is {what}.", {"warmup": other}


def _cosines(job: Job, book: Form) -> Iterator[tuple[str, str, Changes]]:
    total, period, n = run_length(job), epoch_length(job), book.warmup
    lengths: list[tuple[str, float]] = [
        ("all steps of the run: the warm-up is not taken off", total),
        ("one step too many", book.length + 1),
        ("one step too few", book.length - 1),
        ("the steps of an epoch, not of the run", period),
        ("the steps of an epoch without the warm-up, not those of the run", period - n),
        ("the epochs of the run, not its steps", total / period),
        ("the run's steps and the warm-up's", total + n),
        ("half the run's", book.length / 2),
        ("twice the run's", book.length * 2),
    ]
    if n:
        lengths.append(("the warm-up's steps", n))
    for what, length in lengths:
        if length > 0 and length != book.length:
            yield "cosine-length", f"The cosine's length is {what}.", {"length": max(1, length)}
    pi, cos = math.pi, math.cos
    waves: list[tuple[str, Callable[[float], float]]] = [
        ("begins again behind its end", lambda x: (1 + cos(pi * x)) / 2),
        ("makes a whole turn, not a half one", lambda x: (1 + cos(2 * pi * min(1, x))) / 2),
        ("makes a quarter of a turn: cos(π x / 2)", lambda x: cos(pi / 2 * min(1, x))),
        ("is not moved to between 0 and 1: cos(π x)", lambda x: cos(pi * min(1, x))),
        ("rises, and does not fall", lambda x: (1 - cos(pi * min(1, x))) / 2),
        ("is not halved: 1 + cos(π x)", lambda x: 1 + cos(pi * min(1, x))),
        ("lacks π: (1 + cos x) / 2", lambda x: (1 + cos(min(1, x))) / 2),
        ("is a sine", lambda x: (1 + math.sin(pi * min(1, x))) / 2),
        ("is a straight line", lambda x: 1 - min(1, x)),
        ("is squared", lambda x: ((1 + cos(pi * min(1, x))) / 2) ** 2),
    ]
    for what, wave in waves:
        yield "cosine", f"The cosine {what}.", {"wave": wave}


def _decays(job: Job, book: Form) -> Iterator[tuple[str, str, Changes]]:
    total, period = run_length(job), epoch_length(job)
    other = (
        ("goes by parts of periods, as the exponential one", float)
        if book.kind == "step"
        else ("goes by whole periods, as the step schedule", math.floor)
    )
    counts: list[tuple[str, str, Callable[[float], float]]] = [
        ("schedule-floor", *other),
        ("schedule-floor", "counts periods from their middle: rounded, not cut", round),
        ("schedule-floor", "counts a period when it begins, not when it is over", math.ceil),
        ("schedule-period", "is a whole period ahead", lambda x: math.floor(x) + 1),
        ("schedule-period", "is a whole period ahead", lambda x: x + 1),
        ("schedule-period", "is a whole period behind", lambda x: max(0, math.floor(x) - 1)),
        ("schedule-period", "stops after one period", lambda x: min(1, math.floor(x))),
        ("schedule-period", "counts every period twice", lambda x: 2 * math.floor(x)),
        ("schedule-period", "counts every period twice", lambda x: 2 * x),
    ]
    for kind, what, periods in counts:
        yield kind, f"The decay of the learning rate {what}.", {"periods": periods}
    for lead, what in ((1, "one step early"), (-1, "one step late")):
        moved = {"taken_off": book.taken_off - lead}
        yield "schedule-shifted", f"The learning rate decays {what}.", moved
    for what, every in (
        ("a step", 1),
        ("an epoch", period),
        ("the whole run", total),
        ("decay_every epochs, not steps", book.every * period),
        ("one step more", book.every + 1),
        ("one step less", book.every - 1),
        ("twice as many steps", book.every * 2),
        ("half as many steps", book.every / 2),
    ):
        if every > 0 and every != book.every:
            yield "schedule-every", f"The period of the decay is {what}.", {"every": every}
    yield from _powers(book)


def _powers(book: Form) -> Iterator[tuple[str, str, Changes]]:
    default = DECAY_RATES.get(book.kind, 0.5)
    for what, rate in (
        (f"{default}, the default", default),
        ("that of the other schedule", DECAY_RATES["step" if default != 0.5 else "exponential"]),
        ("1 - decay_rate", 1 - book.rate),
        ("the square of decay_rate", book.rate**2),
        ("the root of decay_rate", book.rate**0.5),
        ("1 / decay_rate", 1 / book.rate),
    ):
        if rate != book.rate:
            yield "decay-rate", f"The factor of the decay is {what}.", {"rate": rate}
    powers: list[tuple[str, Callable[[float, float], float]]] = [
        ("exp(-decay_rate · periods)", lambda rate, k: math.exp(-rate * k)),
        ("1 / (1 + decay_rate · periods)", lambda rate, k: 1 / (1 + rate * k)),
        ("decay_rate · periods", lambda rate, k: rate * k),
        ("1 - decay_rate · periods", lambda rate, k: 1 - rate * k),
        ("decay_rate, however many periods there were", lambda rate, k: rate if k else 1.0),
        ("periods to the power of decay_rate", lambda rate, k: k**rate),
    ]
    for what, power in powers:
        yield "decay-formula", f"The learning rate decays by {what}.", {"power": power}


def _kinds(job: Job, book: Form) -> Iterator[tuple[str, str, Changes]]:
    for kind, what in KINDS.items():
        if kind == book.kind:
            continue
        rate = DECAY_RATES.get(kind, 1.0)
        rates = {rate, book.rate} if book.rate != 1 else {rate}
        for each in sorted(rates):
            if kind != "constant" or book.kind != "constant":
                sentence = f"The schedule is {what}, not {KINDS[book.kind]}."
                yield "schedule-kind", sentence, {"kind": kind, "rate": each}
    if book.kind != "constant" or book.warmup:
        flat = {"kind": "constant", "warmup": 0}
        yield "schedule-kind", "There is no schedule: the rate is that of its base.", flat
    yield from _bases(job, book)


def _bases(job: Job, book: Form) -> Iterator[tuple[str, str, Changes]]:
    default = DEFAULT_LR[job.experiment.optimizer or "sgd"]
    if default != book.base:
        what = (
            f"The learning rate is {default}, the optimizer's default, not the one that is given."
        )
        yield "lr-default", what, {"base": default}
