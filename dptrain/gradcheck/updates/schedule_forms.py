"""Learning-rate schedules with one thing wrong."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from dptrain.experiment.job import Job
from dptrain.experiment.settle import DECAY_RATES
from dptrain.gradcheck.updates.rates import epoch_length, run_length
from dptrain.optim.rules import RULES

Changes = dict[str, Any]

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
        base=e.lr,
        warmup=e.warmup,
        rate=e.decay_rate or 1.0,
        every=e.decay_every or epoch_length(job),
        length=max(1, run_length(job) - e.warmup),
        taken_off=e.warmup,
    )


def wrong_schedules(job: Job, workers: int) -> Iterator[Wrong]:
    """Yield the schedules that a job could have by mistake, the likelier first."""
    book = book_form(job)
    if workers > 1:
        times = f"multiplied by the {workers} workers"
        yield Wrong("lr-multiplied", f"The learning rate is {times}.", scaled(book, workers))
        yield Wrong(
            "lr-multiplied", f"The learning rate is {times}, twice.", scaled(book, workers**2)
        )
        part = f"divided by the {workers} workers"
        yield Wrong("lr-divided", f"The learning rate is {part}.", scaled(book, 1 / workers))
    after = "The base is missing from the learning rate after the warm-up: it is the factor alone."
    yield Wrong("lr-missing", after, lambda s: book(s) / (1 if s < book.warmup else book.base))
    yield Wrong("ascends", "The weights move up the gradient, not down.", scaled(book, -1))
    changes = [*_shifts(book), *_warm_ups(job, book)]
    if book.kind == "cosine":
        changes += _cosines(job, book)
    if book.kind in ("step", "exponential"):
        changes += _decays(job, book)
    changes += [*_kinds(job, book), *_by_epoch(job)]
    for kind, sentence, changed in changes:
        yield Wrong(kind, sentence, replace(book, **changed))


def scaled(book: Callable[[int], float], factor: float) -> Callable[[int], float]:
    """Return a schedule with another factor."""
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
    default = RULES[job.experiment.optimizer].default_lr
    if default != book.base:
        what = (
            f"The learning rate is {default}, the optimizer's default, not the one that is given."
        )
        yield "lr-default", what, {"base": default}
