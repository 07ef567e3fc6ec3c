"""Schedules at their corners, and against closed forms."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.optim.schedules import AnySchedule, Constant, Cosine, Exponential, Step

STEPS = st.integers(0, 300)
EACH: list[AnySchedule] = [
    Constant(lr=0.5, warmup=4),
    Step(lr=0.5, warmup=4, rate=0.1, every=3),
    Exponential(lr=0.5, warmup=4, rate=0.1, every=3),
    Cosine(lr=0.5, warmup=4, length=8),
]
NAMES = ["constant", "step", "exponential", "cosine"]


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(lr=0.5), {0: 0.5, 1: 0.5, 10**9: 0.5}),
        (
            Step(lr=0.8, rate=0.5, every=10),
            {0: 0.8, 9: 0.8, 10: 0.4, 19: 0.4, 20: 0.2, 100: 0.8 / 1024},
        ),
        (Step(lr=0.8, rate=0.5, every=1), {0: 0.8, 1: 0.4, 2: 0.2}),
        (
            Exponential(lr=0.8, rate=0.25, every=10),
            {0: 0.8, 5: 0.4, 10: 0.2, 20: 0.05, 3: 0.8 * math.exp(math.log(0.25) * 0.3)},
        ),
        (
            Cosine(lr=0.8, length=12),
            {0: 0.8, 3: 0.4 + 0.4 * math.sqrt(0.5), 4: 0.6, 6: 0.4, 8: 0.2, 12: 0, 13: 0, 10**9: 0},
        ),
    ],
    ids=["constant", "step", "step of 1", "exponential", "cosine"],
)
def test_values(schedule: AnySchedule, values: dict[int, float]) -> None:
    for step, expected in values.items():
        assert schedule(step) == pytest.approx(expected, rel=1e-12, abs=1e-16)


@given(STEPS, st.integers(1, 50), st.floats(0.01, 1))
def test_closed_forms(step: int, period: int, rate: float) -> None:
    lr = 0.3
    stair, stairs = lr, step
    while stairs >= period:  # one factor at each boundary
        stair, stairs = stair * rate, stairs - period
    assert Step(lr=lr, rate=rate, every=period)(step) == pytest.approx(stair, rel=1e-12)
    smooth = lr * math.exp(math.log(rate) * step / period)
    assert Exponential(lr=lr, rate=rate, every=period)(step) == pytest.approx(smooth, rel=1e-9)
    wave = lr * math.cos(math.pi * min(step, period) / period / 2) ** 2  # by the half angle
    assert Cosine(lr=lr, length=period)(step) == pytest.approx(wave, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("schedule", EACH, ids=NAMES)
def test_warm_up_rises_to_the_base_then_the_schedule_begins(schedule: AnySchedule) -> None:
    assert [schedule(step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    cold = msgspec.structs.replace(schedule, warmup=0)
    assert [schedule(step) for step in range(4, 30)] == [cold(step) for step in range(26)]


@given(STEPS, st.integers(0, 20), st.integers(1, 50))
def test_rates_fall_after_the_warm_up_and_are_never_negative(
    step: int, warmup: int, period: int
) -> None:
    for schedule in (
        Step(lr=0.5, warmup=warmup, rate=0.7, every=period),
        Exponential(lr=0.5, warmup=warmup, rate=0.7, every=period),
        Cosine(lr=0.5, warmup=warmup, length=period),
    ):
        now, later = schedule(step), schedule(step + 1)
        assert 0 <= later <= 0.5
        assert later > now if step < warmup else later <= now
        assert 0 < schedule(0) <= 0.5


@pytest.mark.parametrize("schedule", EACH, ids=NAMES)
def test_rates_are_pythons_floats(schedule: AnySchedule) -> None:
    """A float64 of NumPy would turn float32 updates into float64."""
    assert all(type(schedule(step)) is float for step in range(20))


def test_the_last_step_of_a_cosine_run_still_learns() -> None:
    """A run of 10 steps has steps 0 to 9; the rate is 0 only where the eleventh would be."""
    schedule = Cosine(lr=1.0, warmup=2, length=8)
    assert schedule(9) > 0
    assert schedule(10) == 0


@pytest.mark.parametrize("schedule", EACH, ids=NAMES)
def test_schedules_travel_as_plain_data(schedule: AnySchedule) -> None:
    assert msgspec.json.decode(msgspec.json.encode(schedule), type=AnySchedule) == schedule


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"schedule": "cosin", "lr": 0.1}, "cosin"),
        ({"schedule": "constant", "lr": 0}, r"> 0.0 - at `\$\.lr`"),
        ({"schedule": "constant", "lr": 0.1, "warmup": -1}, r">= 0 - at `\$\.warmup`"),
        ({"schedule": "step", "lr": 0.1, "rate": 1.1, "every": 1}, r"<= 1.0 - at `\$\.rate`"),
        ({"schedule": "step", "lr": 0.1, "rate": 0, "every": 1}, r"> 0.0 - at `\$\.rate`"),
        ({"schedule": "exponential", "lr": 0.1, "rate": 0.5, "every": 0}, r">= 1 - at `\$\.every`"),
        ({"schedule": "cosine", "lr": 0.1}, "missing required field `length`"),
        ({"schedule": "constant", "lr": 0.1, "every": 1}, "unknown field `every`"),
    ],
)
def test_settings_have_ranges(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(plain, AnySchedule)
