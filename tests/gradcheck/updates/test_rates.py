"""The learning rate of every step against the book, and what a wrong schedule is put down to."""

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from dptrain.experiment.schema import Experiment
from dptrain.gradcheck.subject import as_given, shrunk
from dptrain.gradcheck.updates.fits import EXPLAINS, diagnose_rates, explained
from dptrain.gradcheck.updates.numbers import constant
from dptrain.gradcheck.updates.rates import (
    STEPS,
    check_rates,
    chosen_steps,
    learning_rate,
    schedule_of,
    values_of,
    wrong_schedules,
)
from dptrain.gradcheck.verdict import Verdict
from tests.exchange.build import Data
from tests.gradcheck.build import data as data
from tests.gradcheck.build import experiment

WORKERS = 3
SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "constant"},
    {"schedule": "constant", "warmup": 7},
    {"schedule": "cosine"},
    {"schedule": "cosine", "warmup": 7},
    {"schedule": "step", "decay_rate": 0.3, "decay_every": 9, "warmup": 7},
    {"schedule": "step", "decay_rate": 0.5},
    {"schedule": "exponential", "decay_rate": 0.8, "decay_every": 6, "warmup": 7},
    {"schedule": "exponential", "decay_rate": 0.95},
]


@pytest.mark.parametrize("described", SCHEDULES)
def test_right_schedules_pass(described: dict[str, Any], data: Data) -> None:
    for length in ({"steps": 43}, {"steps": None, "epochs": 9}, {"steps": 40_000}):
        found = check_rates(data.job(experiment(**described) | length))
        assert found.verdict is Verdict.PASS
        assert found.edge == "update"


def test_powers_with_fifty_digits_lie_within_their_bounds(data: Data) -> None:
    job = data.job(experiment(**SCHEDULES[6], steps=4300))
    e = job.experiment
    with localcontext() as context:
        context.prec = 50
        for step in range(7, 4300, 61):
            exact = Decimal(e.lr) * Decimal(e.decay_rate or 1) ** (Decimal(step - 7) / 6)
            found = learning_rate(job, step)
            assert found.error is not None
            assert abs(Decimal(float(found.value)) - exact) <= Decimal(float(found.error))


@pytest.mark.parametrize("described", SCHEDULES)
def test_every_wrong_schedule_is_told_from_all_others(
    described: dict[str, Any], data: Data
) -> None:
    job, steps = data.job(experiment(**described, steps=43)), range(44)
    known = [values_of(schedule_of(job), steps)]
    for kind, sentence, wrong in wrong_schedules(job, WORKERS):
        rates = values_of(wrong, steps)
        if not np.isfinite(rates).all() or any(np.allclose(rates, each) for each in known):
            continue  # the same as one before, in this experiment
        known.append(rates)
        found, schedule = explained(job, WORKERS, steps, rates)
        assert (found.kind, found.sentence) == (kind, sentence)
        assert schedule is not None
        assert values_of(schedule, steps) == pytest.approx(rates)


@pytest.mark.parametrize(
    ("described", "change", "sentence"),
    [
        (1, lambda lr, n: 0.3 * lr(n), "The learning rate is 0.3 times what it should be in every"),
        (1, lambda lr, n: 0.01 * lr(n), "(= the learning rate squared)"),
        (2, lambda lr, n: lr(min(n, 20)), "wrong in 23 of 44 steps: the learning rate"),
        (6, lambda lr, n: lr(n) * 0.9 ** max(0, (n - 7) / 6), "factor of the decay is 0.72, not"),
        (3, lambda _, n: 0.0125 * (n + 1) if n < 7 else 0.05 * (1 + math.cos(math.pi * min(
            1, (n - 7) / 31))), "The cosine's length is 31, not 36"),
        (2, lambda _, n: 0.04 * (1 - n / 43), "The cosine is a straight line. And it is 0.4 times"),
    ],
)  # fmt: skip
def test_numbers_are_found_that_no_mistake_has(
    described: int, change: Callable[..., float], sentence: str, data: Data
) -> None:
    job = data.job(experiment(**SCHEDULES[described], steps=43))
    right = job.updater.schedule
    setattr(job.updater, "schedule", lambda step: change(right, step))  # noqa: B010 - of another type
    assert check_rates(job).verdict is Verdict.FAIL
    (found,) = diagnose_rates(job, WORKERS)
    assert sentence in found.sentence
    assert found.residual <= EXPLAINS


def test_a_schedule_that_ends_too_early_shows_though_no_step_is_trained(data: Data) -> None:
    job = data.job(experiment(schedule="cosine", steps=100_000))
    wrong = data.job(experiment(schedule="cosine", steps=99_999))
    job.updater.schedule = wrong.updater.schedule
    assert check_rates(job).verdict is Verdict.FAIL
    assert "99999 (= one step less)" in diagnose_rates(job, WORKERS)[0].sentence


def test_of_a_long_run_the_ends_are_compared_and_some_between(data: Data) -> None:
    steps = chosen_steps(data.job(experiment(schedule="cosine", steps=10**6, warmup=5000)))
    assert steps == sorted(set(steps))
    assert {0, 1, 499, 4999, 5000, 5001, 10**6 - 1, 10**6} <= set(steps)
    assert STEPS <= len(steps) < STEPS + 3000


def test_the_experiment_as_it_was_given() -> None:
    settings = {"dataset": "iris", "batch_size": 200, "epochs": 4}
    small = Experiment(**{"dataset": "iris"} | shrunk(settings, 120))
    found = as_given(small, settings, 120)
    assert small.steps is not None
    assert (found.steps, found.epochs, found.train_rows, found.shards) == (None, 4, None, None)
    assert found.batch_size == 120
    assert as_given(small, {}, 120).batch_size is None


def test_constants_of_an_experiment_are_recognised(data: Data) -> None:
    job = data.job(experiment(optimizer="momentum", momentum=0.8))
    for factor, name in ((1 / 3, "1 / 3 workers"), (0.2, "1 - μ"), (0.37, "")):
        assert constant(job, WORKERS, factor) == name
