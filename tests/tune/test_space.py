"""Specifications of parameters."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.errors import UsageError
from dptrain.tune.space import ValueChoices, ValueRange, parse_parameter


def values(text: str) -> tuple[object, ...]:
    space = parse_parameter(text).space
    assert isinstance(space, ValueChoices)
    return space.values


def test_the_learning_rates_of_the_notes_are_clean() -> None:
    # np.arange(.001, .02, .001) has .003 as .0030000000000000001 by luck, and .006 as .0060000…01
    wanted = [f".{i:03}" for i in range(1, 20)]
    assert values("lr=range:.001:.02:.001") == tuple(map(float, wanted))


def test_the_hidden_sizes_of_the_notes_include_both_ends() -> None:
    assert values("model.hidden=int:5:15") == tuple(range(5, 16))
    assert values("batch_size=int:20:100:30") == (20, 50, 80)


@given(st.integers(-50, 50), st.integers(1, 80), st.integers(1, 40), st.integers(0, 4))
def test_a_range_is_half_open_and_exact(start: int, length: int, step: int, digits: int) -> None:
    unit = Fraction(1, 10**digits)
    texts = [f"{n}e-{digits}" for n in (start, start + length, step)]
    found = values(f"x=range:{':'.join(texts)}")
    wanted = [n * unit for n in range(start, start + length, step)]
    assert found == tuple(map(float, wanted))
    assert not digits or start % 10**digits == 0 == step % 10**digits or type(found[0]) is float


def test_lists() -> None:
    assert values("optimizer=sgd,adam") == ("sgd", "adam")
    assert values("model.hidden=50-30-20,100") == ("50-30-20", "100")
    assert values("model=mlp:784-50-10,mlp:784-100-10") == ("mlp:784-50-10", "mlp:784-100-10")


def test_points_between_bounds() -> None:
    assert values("lr=loguniform:1e-4:1:5") == (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    assert values("lr=uniform:0:1:5") == (0, 0.25, 0.5, 0.75, 1)
    assert parse_parameter("lr=uniform:.1:.5") == ("lr", ValueRange(0.1, 0.5, log=False))


@given(st.floats(1e-12, 1e12), st.floats(1.001, 1e9), st.floats(0, 1))
def test_an_interval_holds_its_numbers_and_shows_them_in_full(
    low: float, ratio: float, fraction: float
) -> None:
    for log in (False, True):
        interval = ValueRange(low, low * ratio, log)
        found = interval.at(fraction)
        assert low <= found <= low * ratio
        assert found in (low, low * ratio) or float(f"{found:.4g}") == found
    middle = ValueRange(low, low * ratio, log=True).at(0.5)
    assert middle == pytest.approx(math.sqrt(low * low * ratio), rel=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "needs a name and its values"),
        ("lr=", "needs a name and its values"),
        ("=1,2", "needs a name and its values"),
        ("lr=uniform:1", "give uniform:LOW:HIGH"),
        ("lr=uniform:1:2:3:4", "give uniform:LOW:HIGH"),
        ("lr=uniform:a:b", "in numbers"),
        ("lr=uniform:nan:2", "in numbers"),
        ("lr=uniform:2:1", "2 must be less than 1"),
        ("lr=loguniform:0:1", "0 has no logarithm"),
        ("lr=loguniform:1:2:1", "at least 2"),
        ("lr=range:1:2", "give range:START:STOP:STEP"),
        ("lr=range:1:2:0", "the step 0"),
        ("lr=range:2:1:1", "nothing from 2 to 1"),
        ("lr=range:0:1:1e-9", "1,000,000,000 values"),
        ("lr=int:1:2.5", "in whole numbers"),
        ("lr=int:5:4", "nothing from 5 to 4"),
        ("optimizer=sgd,,adam", "empty value"),
        ("optimizer=sgd,adam,sgd", "names a value twice"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_parameter(text)
