"""Settings of a rule as a run must have had them: the momentum, β, ρ or ε that explains it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from dptrain.experiment.job import Job
from dptrain.gradcheck.updates.rule_slips import Moments, book_moments, book_velocity
from dptrain.gradcheck.updates.textbook import Slip
from dptrain.optim.rules import RULES

Score = Callable[[Slip], float]
Make = Callable[[float], Any]

# Of a search over the logarithm: values at first, then halvings by the golden section.
GRID, SECTIONS = 19, 40
GOLDEN = (math.sqrt(5) - 1) / 2


def setting_fits(job: Job, score: Score) -> Iterator[Slip]:
    """Yield the rule with another value of each of its settings, the one that explains most.

    Args:
        job: settled.
        score: what a mistake leaves unexplained.
    """
    for name, letter, right, make in _settings(job):
        default = getattr(RULES[job.experiment.optimizer](), name)
        known = {default: ", the default", **_others(job, name)}
        for value, what in known.items():
            if value != right:
                yield _slip(name, letter, right, value, what, make)
        value = _best(lambda x, m=make: score(Slip(rule=m(x))), below_one=name != "epsilon")  # type: ignore[misc]
        if not math.isclose(value, right, rel_tol=1e-6):
            yield _slip(name, letter, right, value, "", make)


def _slip(name: str, letter: str, right: float, value: float, what: str, make: Make) -> Slip:
    sentence = f"{letter} is {value:.6g}{what}, not {right:g} as the experiment has it."
    return Slip(f"setting-{name}", sentence, rule=make(value))


def _settings(job: Job) -> Iterator[tuple[str, str, float, Make]]:
    """Yield name, letter, value and the rule with another value, for each setting."""
    e = job.experiment
    if e.optimizer in ("momentum", "nesterov"):
        velocity = book_velocity(job)
        looks = e.optimizer == "nesterov"
        yield (
            "momentum",
            "The momentum",
            e.coefficient("momentum"),
            lambda mu: replace(velocity, kept=mu, of_v=mu if looks else 1.0),
        )
    if e.epsilon is None:
        return
    book: Moments = book_moments(job)
    if e.beta1 is not None and e.beta2 is not None:
        a, b = e.beta1, e.beta2
        yield "beta1", "β₁", a, lambda x: replace(book, kept=x, taken=1 - x, corrects=x)
        yield "beta1", "β₁, where the first moment keeps it,", a, lambda x: replace(book, kept=x)
        yield "beta2", "β₂", b, lambda x: replace(book, kept2=x, taken2=1 - x, corrects2=x)
        yield "beta2", "β₂, where the second moment keeps it,", b, lambda x: replace(book, kept2=x)
    if e.decay is not None:
        yield "decay", "The decay", e.decay, lambda x: replace(book, kept2=x, taken2=1 - x)
        kept = "The decay, where the mean of squares keeps it,"
        yield "decay", kept, e.decay, lambda x: replace(book, kept2=x)
    yield "epsilon", "ε", e.epsilon, lambda x: replace(book, epsilon=x)


def _others(job: Job, name: str) -> dict[float, str]:
    """Return values of other settings, and what they are."""
    e, found = job.experiment, {}
    for other in ("lr", "momentum", "decay", "beta1", "beta2", "epsilon", "weight_decay"):
        value = getattr(e, other)
        if other != name and value and (name == "epsilon" or value < 1):
            found[float(value)] = f", the value of {other}"
    return found


def _best(score: Callable[[float], float], *, below_one: bool) -> float:
    """Return the value that scores lowest: of ε, or of a part that lies below 1."""

    def value(z: float) -> float:
        return 1 - 10**z if below_one else float(10**z)

    low, high = (-6.0, 0.0) if below_one else (-16.0, 1.0)
    grid = [low + (high - low) * i / (GRID - 1) for i in range(GRID)]
    best = min(grid, key=lambda z: score(value(z)))
    width = (high - low) / (GRID - 1)
    a, b = max(low, best - width), min(high, best + width)
    left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    at_left, at_right = score(value(left)), score(value(right))
    for _ in range(SECTIONS):
        if at_left <= at_right:
            b, right, at_right = right, left, at_left
            left = b - GOLDEN * (b - a)
            at_left = score(value(left))
        else:
            a, left, at_left = left, right, at_right
            right = a + GOLDEN * (b - a)
            at_right = score(value(right))
    return value((a + b) / 2)
