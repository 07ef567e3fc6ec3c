"""The learning rate by the book, and the run's schedule against it over the whole experiment.

A check trains for a few steps, of an experiment that was made small; a schedule that ends too early
or counts from the wrong step may be right in all of them. So it is asked for the rate of every step
of the experiment as it was given, which costs nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.experiment.settle import DECAY_RATES
from dptrain.gradcheck.comparison import Comparison, compare, entry
from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.reference.bounded import FUNCTION, UNITS, Bounded
from dptrain.gradcheck.updates.numbers import Constant, same
from dptrain.optim.rules import RULES

Array = NDArray[Any]
Rates = Callable[[int], float]
Row = tuple[str, str, dict[str, Any]]  # a kind, a sentence, and what is otherwise

DOUBLE = UNITS["float64"]
# Steps that are compared one by one; of longer experiments these at the beginning, around the end
# of the warm-up and at the end of the run, and as many evenly chosen.
STEPS, ENDS = 10_000, 500
# What underflow can do: after thousands of periods the rate has no digits left.
TINY = float(np.finfo(float).smallest_subnormal)
# The run may arrange the formula otherwise and so round at other places.
FACTOR = 4.0


@dataclass(frozen=True)
class Schedule:
    """The learning rate by step, with all constants and pieces open.

    The warm-up rises in equal parts to the base, and the schedule counts from its end.

    Attributes:
        kind: a name of `KINDS`.
        base: the rate at the end of the warm-up.
        warmup: its steps.
        rate: factor of a period.
        every: steps of a period.
        length: steps of the cosine.
        taken_off: steps that the schedule begins after.
        lead: steps that it is ahead.
        rise: the part of the base in the warm-up, of step and warm-up.
        periods: what is made of the periods that have passed.
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
    rise: Callable[[int, int], float] = lambda s, n: 1 - (n - s) / (n + 1)
    periods: Callable[[float], float] | None = None
    wave: Callable[[float], float] = lambda x: math.cos(math.pi / 2 * min(1.0, x)) ** 2
    power: Callable[[float, float], float] = lambda rate, k: math.exp(k * math.log(rate))
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
        return self.base * KINDS[self.kind][1](self, step - self.taken_off)

    def decayed(self, past: int, whole: Callable[[float], float]) -> float:
        """Return the power of the rate, by the periods that have passed, whole or in part."""
        return self.power(self.rate, (self.periods or whole)(past / self.every))


# What each schedule is called, and its factor after so many steps.
KINDS: dict[str, tuple[str, Callable[[Schedule, int], float]]] = {
    "constant": ("a constant rate", lambda *_: 1.0),
    "step": ("a step schedule", lambda s, past: s.decayed(past, math.floor)),
    "exponential": ("an exponential one", lambda s, past: s.decayed(past, float)),
    "cosine": ("a cosine", lambda s, past: s.wave(past / s.length)),
}


def schedule_of(job: Job) -> Schedule:
    """Return the job's schedule as it should be."""
    e = job.experiment
    return Schedule(
        kind=e.schedule,
        base=e.lr,
        warmup=e.warmup,
        rate=e.decay_rate or 1.0,
        every=e.decay_every or epoch_length(job),
        length=max(1, run_length(job) - e.warmup),
        taken_off=e.warmup,
    )


def epoch_length(job: Job) -> int:
    """Return the steps of an epoch, of which the last may have fewer rows."""
    return math.ceil(len(job.dataset.train) / job.batch_size)


def run_length(job: Job) -> int:
    """Return the steps of a whole run."""
    return job.experiment.total_steps(epoch_length(job))


def learning_rate(job: Job, step: int) -> Bounded:
    """Return the learning rate of a step, in double precision."""
    return bounded_rate(schedule_of(job), step)


def bounded_rate(rates: Rates, step: int) -> Bounded:
    """Return a learning rate; of a schedule's rate the rounding is bounded."""
    value, error = float(rates(step)), 0.0
    if isinstance(rates, Schedule):
        error = rates.base * FUNCTION * DOUBLE
        if step >= rates.warmup and rates.kind in DECAY_RATES:
            # the error of the exponent becomes a relative one of the power
            exponent = abs(math.log(value / rates.base)) if value > 0 else 0.0
            error = value * FUNCTION * DOUBLE * (2 + exponent) + FUNCTION * TINY
    return Bounded(np.array(value), np.array(error), DOUBLE)


def chosen_steps(job: Job) -> list[int]:
    """Return the steps whose rates are compared, ascending, with one beyond the end."""
    total = run_length(job)
    if total < STEPS:
        return list(range(total + 1))
    warm = job.experiment.warmup
    ends = {*range(ENDS), *range(max(0, warm - ENDS), warm + ENDS), *range(total - ENDS, total + 1)}
    evenly = np.linspace(0, total, STEPS, dtype=int).tolist()
    return sorted(ends.union(evenly))


def check_rates(job: Job) -> Comparison:
    """Compare the schedule that the job's updater goes by with the book's, step by step."""
    numbers = chosen_steps(job)
    book = schedule_of(job)
    wanted = [bounded_rate(book, number) for number in numbers]
    tolerance = FACTOR * np.array([each.error for each in wanted], float)
    tensor = entry("learning rate", (len(numbers),))
    values = np.array([float(each.value) for each in wanted])
    name = "learning rate = schedule by the book"
    where = f"{run_length(job):,} steps of the whole experiment"
    found = values_of(job.updater.schedule, numbers)
    return compare(name, "update", where, [tensor], found, values, tolerance)


def values_of(rates: Rates, steps: Sequence[int]) -> Array:
    """Return the rates of steps, NaN where they cannot be computed."""
    found = np.full(len(steps), math.nan)
    for i, step in enumerate(steps):
        try:
            found[i] = rates(step)
        except (OverflowError, ZeroDivisionError, ValueError, TypeError):
            continue
    return found


def scaled(rates: Rates, factor: float) -> Rates:
    """Return a schedule with another factor."""
    return lambda step: factor * rates(step)


def constants_of(job: Job) -> list[Constant]:
    """Return the numbers of the job's schedule that may be others by mistake."""
    book = schedule_of(job)
    top = math.log10(10 * max(book.length, book.every))
    steps: Any = (0.0, top, lambda z: 10**z)
    found: list[Constant] = []
    if book.kind == "cosine":
        length = {"length": lambda x: max(1.0, x)}
        found.append(Constant("cosine-length", "The cosine's length", book.length, length, *steps))
    if book.kind in DECAY_RATES:
        rate, every = {"rate": same}, {"every": lambda x: max(x, TINY)}
        found.append(Constant("decay-rate", "The factor of the decay", book.rate, rate, TINY, 2.0))
        what = "The period of the decay"
        found.append(Constant("schedule-every", what, book.every, every, *steps))
    if n := book.warmup:
        both: dict[str, Callable[[float], float]] = {"warmup": int, "taken_off": int}
        rises = "The warm-up, as far as the rate rises,"
        off = "What the schedule takes off for the warm-up"
        found.append(Constant("warm-up", "The warm-up", n, both))
        found.append(Constant("warm-up", rises, n, {"warmup": int}))
        found.append(Constant("warm-up-not-subtracted", off, n, {"taken_off": int}))
    return found


def _numbers(job: Job, x: float) -> dict[str, float]:
    """Return by name what a number of steps, or the factor of a decay, could be by mistake."""
    total, period, n = run_length(job), epoch_length(job), job.experiment.warmup
    factors = {f"the default of {kind}": rate for kind, rate in DECAY_RATES.items()}
    return factors | {
        "one step more": x + 1,
        "one step less": x - 1,
        "twice": 2 * x,
        "half": x / 2,
        "the steps of the run": total,
        "the steps of an epoch": period,
        "the steps of an epoch without the warm-up": period - n,
        "the epochs of the run": total / period,
        "the steps of the run and of the warm-up": total + n,
        "the steps of the warm-up": n,
        "counted in epochs": x * period,
    }


def wrong_schedules(job: Job, workers: int) -> Iterator[Mistake[Rates]]:
    """Yield the schedules that a job could have by mistake, the likelier first."""
    book = schedule_of(job)
    if workers > 1:
        times = f"multiplied by the {workers} workers"
        for factor, kind, what in (
            (workers, "lr-multiplied", times),
            (workers**2, "lr-multiplied", f"{times}, twice"),
            (1 / workers, "lr-divided", f"divided by the {workers} workers"),
        ):
            yield Mistake(kind, f"The learning rate is {what}.", scaled(book, factor))
    after = "The base is missing from the learning rate after the warm-up: it is the factor alone."
    alone = lambda step: book(step) / (1 if step < book.warmup else book.base)  # noqa: E731
    yield Mistake("lr-missing", after, alone)
    yield Mistake("ascends", "The weights move up the gradient, not down.", scaled(book, -1))
    rows = [*_shifted(job, book)]
    rows += _WAVES if book.kind == "cosine" else []
    for constant in constants_of(job):
        others = constant.others(book, _numbers(job, constant.right))
        rows += ((kind, sentence, vars(changed)) for kind, sentence, changed in others)
    rows += _DECAYS if book.kind in DECAY_RATES else []
    for kind, (what, _) in KINDS.items():
        for rate in sorted({DECAY_RATES.get(kind, 1.0), book.rate}) if kind != book.kind else ():
            sentence = f"The schedule is {what}, not {KINDS[book.kind][0]}."
            rows.append(("schedule-kind", sentence, {"kind": kind, "rate": rate}))
    default = RULES[job.experiment.optimizer].default_lr
    sentence = (
        f"The learning rate is {default}, the optimizer's default, not the one that is given."
    )
    rows.append(("lr-default", sentence, {"base": default}))
    for kind, sentence, changes in rows:
        changed = replace(book, **changes)
        if changed != book:
            yield Mistake(kind, sentence, changed)


def _shifted(job: Job, book: Schedule) -> Iterator[Row]:
    n, total, period = book.warmup, run_length(job), epoch_length(job)
    for lead in (1, -1, 2, -2):
        off = "one step" if abs(lead) == 1 else "two steps"
        sentence = f"The schedule is {off} {'ahead' if lead > 0 else 'behind'}."
        yield "schedule-shifted", sentence, {"lead": lead}
        yield "schedule-shifted", sentence, {"lead": lead, "first": 0}
    flat = "There is no schedule: the rate is that of its base."
    yield "schedule-kind", flat, {"kind": "constant", "warmup": 0}
    again = "The schedule begins anew with every epoch."
    yield "schedule-restarts", again, {"restarts": period}
    holds = "The schedule moves on only where an epoch begins, not with every step."
    yield "schedule-holds", holds, {"holds": period}
    if not n:
        return
    whole: dict[str, Any] = {"taken_off": 0, "length": max(1, total)}
    from_0 = "The schedule counts from step 0, not from the end of the warm-up."
    yield "warm-up-not-subtracted", from_0, {"taken_off": 0}
    yield "warm-up-not-subtracted", from_0, whole
    none = "There is no warm-up, and the schedule begins at once."
    yield "warm-up-missing", none, {"warmup": 0, "taken_off": 0}
    yield "warm-up-missing", none, {"warmup": 0, **whole}
    rises: list[tuple[str, Callable[[int, int], float]]] = [
        ("it has the whole rate", lambda *_: 1.0),
        ("it begins at 0, and rises by s / (warm-up + 1)", lambda s, n: s / (n + 1)),
        ("it begins at 0, and rises by s / warm-up", lambda s, n: s / n),
        ("it rises by (s + 1) / warm-up, so its last step has the whole rate",
         lambda s, n: (s + 1) / n),
        ("it rises with the square of the steps", lambda s, n: ((s + 1) / (n + 1)) ** 2),
        ("it rises with the root of the steps", lambda s, n: ((s + 1) / (n + 1)) ** 0.5),
        ("it falls, upside down", lambda s, n: 1 - s / (n + 1)),
        ("it does not rise: it is 0 until its end", lambda *_: 0.0),
    ]  # fmt: skip
    for what, rise in rises:
        yield "warm-up", f"The learning rate is wrong in the warm-up: {what}.", {"rise": rise}


def _cosine(x: float, turns: float = 1.0) -> float:
    return math.cos(math.pi * turns * min(1.0, x))


_WAVES: list[Row] = [
    ("cosine", "The cosine begins again behind its end.",
     {"wave": lambda x: (1 + math.cos(math.pi * x)) / 2}),
    ("cosine", "The cosine makes a whole turn, not a half one.",
     {"wave": lambda x: (1 + _cosine(x, 2)) / 2}),
    ("cosine", "The cosine makes a quarter of a turn: cos(π x / 2).",
     {"wave": lambda x: _cosine(x, 0.5)}),
    ("cosine", "The cosine is not moved to between 0 and 1: cos(π x).", {"wave": _cosine}),
    ("cosine", "The cosine rises, and does not fall.", {"wave": lambda x: (1 - _cosine(x)) / 2}),
    ("cosine", "The cosine is not halved: 1 + cos(π x).", {"wave": lambda x: 1 + _cosine(x)}),
    ("cosine", "The cosine lacks π: (1 + cos x) / 2.",
     {"wave": lambda x: (1 + _cosine(x, 1 / math.pi)) / 2}),
    ("cosine", "The cosine is a sine.",
     {"wave": lambda x: (1 + math.sin(math.pi * min(1, x))) / 2}),
    ("cosine", "The cosine is a straight line.", {"wave": lambda x: 1 - min(1, x)}),
    ("cosine", "The cosine is squared.", {"wave": lambda x: ((1 + _cosine(x)) / 2) ** 2}),
]  # fmt: skip


_PERIODS: list[tuple[str, str, Callable[[float], float]]] = [
    ("floor", "goes by parts of periods, as the exponential one", float),
    ("floor", "goes by whole periods, as the step schedule", math.floor),
    ("floor", "counts periods from their middle: rounded, not cut", round),
    ("floor", "counts a period when it begins, not when it is over", math.ceil),
    ("period", "is a whole period ahead", lambda x: math.floor(x) + 1),
    ("period", "is a whole period ahead", lambda x: x + 1),
    ("period", "is a whole period behind", lambda x: max(0, math.floor(x) - 1)),
    ("period", "stops after one period", lambda x: min(1, math.floor(x))),
    ("period", "counts every period twice", lambda x: 2 * math.floor(x)),
    ("period", "counts every period twice", lambda x: 2 * x),
]
_POWERS: list[tuple[str, Callable[[float, float], float]]] = [
    ("exp(-decay_rate · periods)", lambda rate, k: math.exp(-rate * k)),
    ("1 / (1 + decay_rate · periods)", lambda rate, k: 1 / (1 + rate * k)),
    ("decay_rate · periods", lambda rate, k: rate * k),
    ("1 - decay_rate · periods", lambda rate, k: 1 - rate * k),
    ("decay_rate, however many periods there were", lambda rate, k: rate if k else 1.0),
    ("periods to the power of decay_rate", lambda rate, k: k**rate),
]
_DECAYS: list[Row] = [
    *((f"schedule-{kind}", f"The decay of the learning rate {what}.", {"periods": of})
      for kind, what, of in _PERIODS),
    *(("decay-formula", f"The learning rate decays by {what}.", {"power": of})
      for what, of in _POWERS),
]  # fmt: skip
