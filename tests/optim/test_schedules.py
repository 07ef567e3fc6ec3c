"""Schedules at their corners, and against closed forms."""

import math

import pytest

from dptrain.optim.schedules import AnySchedule, Constant, Cosine, Exponential, Step


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(lr=0.5), {0: 0.5, 999: 0.5}),
        (Step(lr=0.8, rate=0.5, every=10), {0: 0.8, 9: 0.8, 10: 0.4, 19: 0.4, 20: 0.2}),
        (
            Exponential(lr=0.8, rate=0.25, every=10),
            {0: 0.8, 5: 0.4, 10: 0.2, 3: 0.8 * math.exp(math.log(0.25) * 0.3)},
        ),
        (Cosine(lr=0.8, length=10), {0: 0.8, 5: 0.4, 10: 0.0, 11: 0.0}),
    ],
)
def test_values(schedule: AnySchedule, values: dict[int, float]) -> None:
    for step, expected in values.items():
        assert schedule(step) == pytest.approx(expected, rel=1e-12, abs=1e-16)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(lr=0.5, warmup=4),
        Step(lr=0.5, warmup=4, rate=0.1, every=3),
        Exponential(lr=0.5, warmup=4, rate=0.1, every=3),
        Cosine(lr=0.5, warmup=4, length=8),
    ],
)
def test_warm_up_rises_to_the_base_then_the_schedule_begins(schedule: AnySchedule) -> None:
    assert [schedule(step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert schedule(4) >= schedule(5)
