"""The learning rate by the book, and the run's schedule against it over the whole experiment.

A check trains for a few steps, of an experiment that was made small; a schedule that ends too early
or counts from the wrong step may be right in all of them. So it is asked for the rate of every step
of the experiment as it was given, which costs nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.experiment.job import Job
from dptrain.gradcheck.comparison import Comparison, compare, entry
from dptrain.gradcheck.reference.bounded import FUNCTION, Bounded
from dptrain.gradcheck.updates.numbers import DOUBLE

Array = NDArray[Any]

# Steps that are compared one by one; of longer experiments these at the beginning, around the end
# of the warm-up and at the end of the run, and as many evenly chosen.
STEPS, ENDS = 10_000, 500
# What underflow can do: after thousands of periods the rate has no digits left.
TINY = float(np.finfo(float).smallest_subnormal)
# The run may arrange the formula otherwise and so round at other places.
FACTOR = 4.0


def epoch_length(job: Job) -> int:
    """Return the steps of an epoch, of which the last may have fewer rows."""
    return math.ceil(len(job.dataset.train) / job.batch_size)


def run_length(job: Job) -> int:
    """Return the steps of a whole run."""
    e = job.experiment
    return e.total_steps(epoch_length(job))


def learning_rate(job: Job, step: int) -> Bounded:
    """Return the learning rate of a step, in double precision.

    The warm-up rises in equal parts to the base, and the schedule counts from its end. The half
    cosine is ``cos²(π x / 2)``, the exponential ``exp(x ln rate)``.
    """
    e = job.experiment
    base, past = e.lr, step - e.warmup
    if past < 0:
        value = base - base * (e.warmup - step) / (e.warmup + 1)
    elif e.schedule == "cosine":
        length = max(1, run_length(job) - e.warmup)
        value = base * math.cos(math.pi / 2 * min(1.0, past / length)) ** 2
    elif e.schedule == "constant":
        value = base
    elif e.schedule not in ("step", "exponential"):
        raise NotImplementedError(e.schedule)
    else:
        periods = past / (e.decay_every or epoch_length(job))
        periods = math.floor(periods) if e.schedule == "step" else periods
        value = base * math.exp(periods * math.log(e.decay_rate or 1.0))
        # the error of the exponent becomes a relative one of the power
        exponent = abs(periods * math.log(e.decay_rate or 1.0))
        error = value * FUNCTION * DOUBLE * (2 + exponent) + FUNCTION * TINY
        return Bounded(np.array(value), np.array(error), DOUBLE)
    return Bounded(np.array(value), np.array(base * FUNCTION * DOUBLE), DOUBLE)


def chosen_steps(job: Job) -> list[int]:
    """Return the steps whose rates are compared, ascending, with one beyond the end."""
    total = run_length(job)
    if total < STEPS:
        return list(range(total + 1))
    warm = job.experiment.warmup
    ends = {*range(ENDS), *range(max(0, warm - ENDS), warm + ENDS), *range(total - ENDS, total + 1)}
    evenly = np.linspace(0, total, STEPS, dtype=int).tolist()
    return sorted(ends.union(evenly))


def used_rates(job: Job, numbers: Sequence[int]) -> Array:
    """Return the learning rates that the job's updater goes by."""
    return np.array([float(job.updater.schedule(number)) for number in numbers])


def check_rates(job: Job) -> Comparison:
    """Compare the schedule that the job's updater goes by with the book's, step by step."""
    numbers = chosen_steps(job)
    wanted = [learning_rate(job, number) for number in numbers]
    tolerance = np.array([FACTOR * float(_error(each)) for each in wanted])
    tensor = entry("learning rate", (len(numbers),))
    found = used_rates(job, numbers)
    values = np.array([float(each.value) for each in wanted])
    name = "learning rate = schedule by the book"
    where = f"{run_length(job):,} steps of the whole experiment"
    return compare(name, "update", where, [tensor], found, values, tolerance)


def _error(rate: Bounded) -> Any:
    assert rate.error is not None
    return rate.error
