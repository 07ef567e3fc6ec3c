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

from dptrain.experiment.defaults import DECAY_RATES
from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry
from dptrain.gradcheck.diagnosis import Mistake
from dptrain.gradcheck.reference.bounded import FUNCTION, UNITS, Bounded
from dptrain.gradcheck.updates.numbers import Constant, same
from dptrain.optim.rules import RULES

Array = NDArray[Any]
Rates = Callable[[int], float]
Shape = Callable[[float, float], float]  # of the factor of a period, and of the periods passed
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
        rate: factor of a period of decay.
        period: steps of it, or of the half cosine.
        taken_off: steps that the schedule begins after.
        lead: steps that it is ahead.
        first: the step that it is for all steps before.
        rise: the part of the base in the warm-up, of step and warm-up.
        shape: the part of the base behind it, in the place of that of the kind.
        restarts: steps after which all begins anew.
        holds: steps in which the rate stays as it is.
    """

    kind: str
    base: float
    warmup: int
    rate: float
    period: float
    taken_off: int
    lead: int = 0
    first: int | None = None
    rise: Callable[[int, int], float] = lambda s, n: 1 - (n - s) / (n + 1)
    shape: Shape | None = None
    restarts: int | None = None
    holds: int = 1

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step."""
        step = step if self.restarts is None else step % self.restarts
        step = (step + self.lead) // self.holds * self.holds
        step = step if self.first is None else max(step, self.first)
        if step < self.warmup:
            return self.base * self.rise(step, self.warmup)
        shape = self.shape or KINDS[self.kind][1]
        return self.base * shape(self.rate, (step - self.taken_off) / self.period)


def _power(rate: float, periods: float) -> float:
    return math.exp(periods * math.log(rate))


def _cosine(x: float, turns: float = 0.5) -> float:
    return math.cos(2 * math.pi * turns * min(1.0, x))


# What each schedule is called, and its shape.
KINDS: dict[str, tuple[str, Shape]] = {
    "constant": ("a constant rate", lambda *_: 1.0),
    "step": ("a step schedule", lambda rate, x: _power(rate, math.floor(x))),
    "exponential": ("an exponential one", _power),
    "cosine": ("a cosine", lambda _, x: _cosine(x, 0.25) ** 2),
}


def schedule_of(job: Job, kind: str = "") -> Schedule:
    """Return the job's schedule as it should be, or what another kind would make of it."""
    e, kind = job.experiment, kind or job.experiment.schedule
    period = e.decay_every or epoch_length(job)
    if kind == "cosine":
        period = max(1, run_length(job) - e.warmup)
    rate = e.decay_rate or DECAY_RATES.get(kind, 1.0)
    return Schedule(kind, e.lr, e.warmup, rate, period, e.warmup)


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
    book, found = schedule_of(job), []
    steps: Any = (0.0, math.log10(10 * book.period), lambda z: 10**z)
    period = {"period": lambda x: max(1.0, x)}
    if book.kind == "cosine":
        found = [Constant("cosine-length", "The cosine's length", book.period, period, *steps)]
    if book.kind in DECAY_RATES:
        rate, what = {"rate": same}, "The period of the decay"
        found = [
            Constant("decay-rate", "The factor of the decay", book.rate, rate, TINY, 2.0),
            Constant("schedule-every", what, book.period, period, *steps),
        ]
    if n := book.warmup:
        rises, off = "The warm-up's rise", "What the schedule takes off for the warm-up"
        both = {"warmup": int, "taken_off": int}
        found += [
            Constant("warm-up", "The warm-up", n, both),
            Constant("warm-up", rises, n, {"warmup": int}),
            Constant("warm-up-not-subtracted", off, n, {"taken_off": int}),
        ]
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
    shapes = [("schedule-shape", what, {"shape": of}) for what, of in _SHAPES.get(book.kind, ())]
    constants: list[Row] = []
    for constant in constants_of(job):
        others = constant.others(book, _numbers(job, constant.right))
        constants += ((kind, sentence, vars(changed)) for kind, sentence, changed in others)
    # some of both are the same in short runs: then the likelier is named
    rows += [*shapes, *constants] if book.kind == "cosine" else [*constants, *shapes]
    for kind, (what, _) in KINDS.items():
        sentence = f"The schedule is {what}, not {KINDS[book.kind][0]}."
        rows.append(("schedule-kind", sentence, vars(schedule_of(job, kind))))
    default = RULES[job.experiment.optimizer].default_lr
    sentence = f"The learning rate is {default}, the optimizer's default, not the given one."
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
    whole = {"period": total} if book.kind == "cosine" else {}
    from_0 = "The schedule counts from step 0, not from the end of the warm-up."
    none = "There is no warm-up, and the schedule begins at once."
    for changes in ({"taken_off": 0}, {"taken_off": 0, **whole}):
        yield "warm-up-not-subtracted", from_0, changes
        yield "warm-up-missing", none, {"warmup": 0, **changes}
    for what, rise in _RISES.items():
        yield "warm-up", f"The learning rate is wrong in the warm-up: {what}.", {"rise": rise}


_RISES: dict[str, Callable[[int, int], float]] = {
    "it has the whole rate": lambda *_: 1.0,
    "it begins at 0, and rises by s / (warm-up + 1)": lambda s, n: s / (n + 1),
    "it begins at 0, and rises by s / warm-up": lambda s, n: s / n,
    "it rises by (s + 1) / warm-up": lambda s, n: (s + 1) / n,
    "it rises with the square of the steps": lambda s, n: ((s + 1) / (n + 1)) ** 2,
    "it rises with the root of the steps": lambda s, n: ((s + 1) / (n + 1)) ** 0.5,
    "it falls, upside down": lambda s, n: 1 - s / (n + 1),
    "it does not rise: it is 0 until its end": lambda *_: 0.0,
}
_DECAYS: list[tuple[str, Shape]] = [
    ("The decay goes by parts of periods, as the exponential one.", _power),
    ("The decay goes by whole periods, as the step schedule.", KINDS["step"][1]),
    ("The decay counts periods from their middle: rounded, not cut.",
     lambda rate, x: rate ** round(x)),
    ("The decay counts a period when it begins, not when it is over.",
     lambda rate, x: rate ** math.ceil(x)),
    ("The decay is a whole period ahead.", lambda rate, x: rate ** (math.floor(x) + 1)),
    ("The decay is a whole period ahead.", lambda rate, x: rate ** (x + 1)),
    ("The decay is a whole period behind.", lambda rate, x: rate ** max(0, math.floor(x) - 1)),
    ("The decay stops after one period.", lambda rate, x: rate ** min(1, math.floor(x))),
    ("The decay counts every period twice.", lambda rate, x: rate ** (2 * math.floor(x))),
    ("The decay counts every period twice.", lambda rate, x: rate ** (2 * x)),
    ("The decay is exp(-decay_rate · periods).", lambda rate, x: math.exp(-rate * x)),
    ("The decay is 1 / (1 + decay_rate · periods).", lambda rate, x: 1 / (1 + rate * x)),
    ("The decay is decay_rate · periods.", lambda rate, x: rate * x),
    ("The decay is 1 - decay_rate · periods.", lambda rate, x: 1 - rate * x),
]  # fmt: skip
_SHAPES: dict[str, list[tuple[str, Shape]]] = {
    "step": _DECAYS,
    "exponential": _DECAYS,
    "cosine": [
        ("The cosine begins again behind its end.",
         lambda _, x: (1 + math.cos(math.pi * x)) / 2),
        ("The cosine makes a whole turn, not a half one.", lambda _, x: (1 + _cosine(x, 1)) / 2),
        ("The cosine makes a quarter of a turn.", lambda _, x: _cosine(x, 0.25)),
        ("The cosine is not moved to between 0 and 1: cos(π x).", lambda _, x: _cosine(x)),
        ("The cosine rises, and does not fall.", lambda _, x: (1 - _cosine(x)) / 2),
        ("The cosine is not halved: 1 + cos(π x).", lambda _, x: 1 + _cosine(x)),
        ("The cosine lacks π: (1 + cos x) / 2.", lambda _, x: (1 + math.cos(min(1, x))) / 2),
        ("The cosine is a sine.", lambda _, x: (1 + math.sin(math.pi * min(1, x))) / 2),
        ("The cosine is a straight line.", lambda _, x: 1 - min(1, x)),
        ("The cosine is squared.", lambda _, x: ((1 + _cosine(x)) / 2) ** 2),
    ],
}  # fmt: skip
