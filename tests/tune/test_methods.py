"""Grid, random draws and the estimator."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.errors import UsageError
from dptrain.tune.methods import Grid, Method, Random, combinations
from dptrain.tune.search import method_for
from dptrain.tune.space import SearchParameter, ValueChoices, ValueRange, parse_parameter
from dptrain.tune.trial import Status, Trial

SPACE = [
    SearchParameter("lr", ValueRange(1e-3, 1.0, log=True)),
    SearchParameter("momentum", ValueRange(0.1, 0.9, log=False)),
    SearchParameter("batch_size", ValueChoices((10, 20, 40, 80), ordered=True)),
    SearchParameter("optimizer", ValueChoices(("sgd", "adam", None), ordered=False)),
]


def proposals(method: Method, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        found.append(method.parameters(number, [], list(found)))
    return found


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_a_grid_has_all_combinations_in_order(counts: list[int]) -> None:
    lists = [tuple(range(count)) for count in counts]
    space = [SearchParameter(str(i), ValueChoices(v, ordered=True)) for i, v in enumerate(lists)]
    total = combinations(space)
    assert total is not None
    found = [tuple(each.values()) for each in proposals(Grid(space), total)]
    assert found == list(itertools.product(*lists))


def test_a_grid_needs_lists() -> None:
    space = [parse_parameter("lr=loguniform:1e-3:1e-1")]
    assert combinations(space) is None
    with pytest.raises(UsageError, match=r"lr=loguniform:0\.001:0\.1:5, or use --method random"):
        Grid(space)


def test_random_draws_are_keyed() -> None:
    found = proposals(Random(SPACE, seed=3), 50)
    assert proposals(Random(SPACE, seed=3), 50) == found
    assert proposals(Random(SPACE, seed=4), 50) != found
    # a trial's draw needs none of those before it, and a parameter's none of the others
    assert Random(SPACE, seed=3).parameters(17, [], []) == found[16]
    alone = Random(SPACE[:1], seed=3).parameters(17, [], [])
    assert alone == {"lr": found[16]["lr"]}


def test_random_draws_are_spread_as_asked() -> None:
    found = proposals(Random(SPACE, seed=0), 600)
    assert all(0.001 <= each["lr"] <= 1 and 0.1 <= each["momentum"] <= 0.9 for each in found)
    decades = [sum(low <= each["lr"] < 10 * low for each in found) for low in (1e-3, 1e-2, 1e-1)]
    assert all(160 < count < 240 for count in decades)
    assert 260 < sum(each["momentum"] < 0.5 for each in found) < 340
    for name, values in (("batch_size", (10, 20, 40, 80)), ("optimizer", ("sgd", "adam", None))):
        counts = [sum(each[name] == value for each in found) for value in values]
        assert all(0.7 < count * len(values) / 600 < 1.3 for count in counts)


def test_random_draws_exhaust_a_grid_without_repeats() -> None:
    space = [SearchParameter(name, ValueChoices(tuple(range(12)), ordered=True)) for name in "ab"]
    found = {tuple(each.values()) for each in proposals(Random(space, seed=1), 144)}
    assert len(found) == 144


def test_an_interval_of_a_few_roundings_repeats_rather_than_hangs() -> None:
    space = [SearchParameter("lr", ValueRange(0.1, 0.1001, log=False))]
    assert len(proposals(Random(space, seed=0), 5)) == 5


def trial(number: int, parameters: dict[str, Any], value: float, status: Status = "done") -> Trial:
    curve = [(1.0, value)]
    return Trial(number=number, parameters=parameters, status=status, value=value, curve=curve)


def distance(parameters: dict[str, Any]) -> float:
    """Return how far parameters are from lr=0.1, momentum=.7, batch_size=40, adam."""
    rate = ValueRange(1e-3, 1.0, log=True)
    at = next(i / 100 for i in range(101) if rate.at(i / 100) >= parameters["lr"])
    wrong = int(parameters["batch_size"] != 40) + int(parameters["optimizer"] != "adam")
    return abs(at - 2 / 3) + abs(float(parameters["momentum"]) - 0.7) + 0.3 * wrong


def searched(method: Method, count: int, sign: float) -> list[Trial]:
    found: list[Trial] = []
    for number in range(1, count + 1):
        earlier = [each.parameters for each in found]
        parameters = method.parameters(number, found, earlier)
        status: Status = "failed" if parameters["optimizer"] == "sgd" else "done"
        found.append(trial(number, parameters, sign * distance(parameters), status))
    return found


@pytest.mark.parametrize("higher", [True, False])
def test_the_estimator_finds_what_is_good(higher: bool) -> None:
    tpe = method_for("tpe", SPACE, 0, higher=higher)
    found = searched(tpe, 60, -1.0 if higher else 1.0)
    early = [distance(each.parameters) for each in found[:10]]
    late = [distance(each.parameters) for each in found[-20:]]
    assert sum(late) / 20 < 0.6 * sum(early) / 10
    assert sum(each.parameters["optimizer"] == "sgd" for each in found[-20:]) < 5
    for each in found:
        assert 0.001 <= each.parameters["lr"] <= 1
        assert each.parameters["batch_size"] in (10, 20, 40, 80)


def test_the_estimator_carries_nothing_along() -> None:
    found = searched(method_for("tpe", SPACE, 5, higher=True), 24, -1.0)
    earlier = [each.parameters for each in found]
    other = method_for("tpe", SPACE, 5, higher=True)
    assert other.parameters(24, found[:23], earlier[:23]) == earlier[23]
    assert method_for("tpe", SPACE, 6, higher=True).parameters(1, [], []) != earlier[0]


def test_the_estimator_does_not_repeat_itself() -> None:
    space = [SearchParameter(name, ValueChoices((0, 1, 2), ordered=True)) for name in "ab"]
    tpe = method_for("tpe", space, 0, higher=True)
    found: list[Trial] = []
    for number in range(1, 10):
        parameters = tpe.parameters(number, found, [each.parameters for each in found])
        found.append(trial(number, parameters, float(parameters["a"] == 1)))
    assert len({tuple(each.parameters.values()) for each in found}) == 9
