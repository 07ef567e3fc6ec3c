"""Numbers that are others than they should be: which they could be, which fits, and what it is.

A constant of a rule or of a schedule that is wrong is mostly another number of the same experiment,
or this one once more, or turned round; those are tried by name. If none explains what was seen,
the value is fitted.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from dptrain.experiment.job import Job
from dptrain.gradcheck.diagnosis import Mistake
from dptrain.optim.rules import RULES

Thing = TypeVar("Thing")  # a rule or a schedule
Of = Callable[[float], float]

# Factors that agree to so much are the same; a fit to a float32 run is less certain than this
# where little of the change depends on the factor.
SAME = 1e-3
# What differs from 1 by less is 1.
EXACTLY = 1e-6
# Of a search for one number: values at first, then halvings by the golden section.
GRID, SECTIONS = 19, 40
GOLDEN = (math.sqrt(5) - 1) / 2


def same(x: float) -> float:
    """Return a number."""
    return x


def rest(x: float) -> float:
    """Return what is left of 1."""
    return 1 - x


class Constant(NamedTuple):
    """A number in a rule or a schedule.

    Attributes:
        kind: of the mistake if it is another.
        words: what it is.
        right: its value.
        fields: what is made of it, by the fields that have it.
        low: where a search begins.
        high: where it ends.
        scale: makes the value of what is searched.
    """

    kind: str
    words: str
    right: float
    fields: Mapping[str, Of]
    low: float = 0.0
    high: float = 1.0
    scale: Of = same

    def set(self, thing: Thing, value: float) -> Thing:
        """Return a rule or schedule with another value."""
        whole: Any = thing
        changed: Thing = replace(whole, **{name: of(value) for name, of in self.fields.items()})
        return changed

    def others(self, thing: Thing, numbers: Mapping[str, float]) -> Iterator[Mistake[Thing]]:
        """Yield mistakes: the constant has the value of another number, by its name."""
        x = self.right
        turned = {"1 less that": 1 - x, "its square": x * x, "minus that": -x}
        turned |= {"its root": math.sqrt(abs(x)), "1 over that": 1 / x if x else 0.0}
        tried: set[float] = {x}
        for name, value in ({"0": 0.0, "1": 1.0} | dict(numbers) | turned).items():
            if value not in tried:
                tried.add(value)
                what = "" if name in ("0", "1") else f" (= {name})"
                sentence = f"{self.words} is {value:.6g}{what}, not {x:g}."
                yield Mistake(self.kind, sentence, self.set(thing, value))

    def fitted(self, thing: Thing, score: Callable[[Thing], float]) -> Iterator[Mistake[Thing]]:
        """Yield the mistake whose value scores lowest, if it is not the right one."""
        z = lowest(lambda z: score(self.set(thing, self.scale(z))), self.low, self.high)
        value = self.scale(z)
        if not math.isclose(value, self.right, rel_tol=EXACTLY):
            sentence = f"{self.words} is {value:.6g}, not {self.right:g}."
            yield Mistake(self.kind, sentence, self.set(thing, value))


def lowest(score: Of, low: float, high: float) -> float:
    """Return the value that scores lowest, by a grid and then by the golden section."""
    width = (high - low) / (GRID - 1)
    best = min((low + i * width for i in range(GRID)), key=score)
    a, b = max(low, best - width), min(high, best + width)
    left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    at_left, at_right = score(left), score(right)
    for _ in range(SECTIONS):
        if at_left <= at_right:
            b, right, at_right = right, left, at_left
            left = b - GOLDEN * (b - a)
            at_left = score(left)
        else:
            a, left, at_left = left, right, at_right
            right = a + GOLDEN * (b - a)
            at_right = score(right)
    return (a + b) / 2


def settings_of(job: Job) -> dict[str, float]:
    """Return by name the numbers of an experiment's optimizer and penalties, and their defaults."""
    e, rule = job.experiment, RULES[job.experiment.optimizer]()
    found: dict[str, float] = {}
    for name, letter in (("momentum", "μ"), ("decay", "decay"), ("beta1", "β₁"), ("beta2", "β₂")):
        if value := e.coefficient(name):
            found |= {letter: value, f"1 - {letter}": 1 - value}
            found |= {f"√(1 - {letter})": math.sqrt(1 - value)}
    found |= {"the learning rate": e.lr, "λ": e.weight_decay, "l1": e.l1}
    found |= {"ε": e.coefficient("epsilon"), "the limit of clipping": e.clip_norm or 0.0}
    for name in rule.__struct_fields__:
        found[f"the default of {name}"] = float(getattr(rule, name))
    return {name: value for name, value in found.items() if value}


def constant(job: Job, workers: int, factor: float) -> str:
    """Return which constant of an experiment a factor is, or ``""``."""
    e = job.experiment
    known = {f"{workers} workers": float(workers), **settings_of(job)}
    known |= {
        "the learning rate squared": e.lr**2,
        "λ / l1": e.weight_decay / e.l1 if e.l1 else 0.0,
        "the workers squared": float(workers**2),
        f"the {job.batch_size} rows of a minibatch": float(job.batch_size),
        f"the {job.shards} shards": float(job.shards),
        f"the {job.steps_per_epoch} steps of an epoch": float(job.steps_per_epoch),
        "the training rows": float(len(job.dataset.train)),
    }
    for name, value in known.items():
        if value and value != 1:
            if math.isclose(factor, value, rel_tol=SAME):
                return name
            if math.isclose(factor, 1 / value, rel_tol=SAME):
                return f"1 / ({name})" if " - " in name else f"1 / {name}"
    return ""


def named_factor(job: Job, workers: int, factor: float) -> str:
    """Return a factor in words: "0.333333 times what it should be (= 1 / 3 workers)"."""
    name = constant(job, workers, factor)
    return f"{factor:.6g} times what it should be" + (f" (= {name})" if name else "")
