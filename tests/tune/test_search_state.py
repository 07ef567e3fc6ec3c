"""The course of a search: it does not depend on how many trials run at a time, or how fast."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dptrain.tune.methods import Grid
from dptrain.tune.objective import metric_name, parse_goals
from dptrain.tune.pruning import FEWEST, falls_behind
from dptrain.tune.search_state import SearchState
from dptrain.tune.space import SearchParameter, ValueChoices
from dptrain.tune.trial import Trial, merits
from tests.tune.build import Simulation

METRIC = metric_name("test")
CURVES = st.lists(
    st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=5),
    min_size=1,
    max_size=12,
)


def course(total: int, **ways: Any) -> SearchState:
    grid = Grid([SearchParameter("seed", ValueChoices(tuple(range(total)), ordered=True))])
    return SearchState(total, grid, METRIC, **ways)


def first(numbers: Sequence[int]) -> int:
    return numbers[0]


MANY = st.lists(
    st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=1, max_size=3),
    min_size=FEWEST + 1,
    max_size=FEWEST + 6,
)


@given(MANY, st.data(), st.integers(2, 6), st.booleans(), st.sampled_from(["", "test>=.9"]))
def test_any_number_side_by_side_and_any_speeds(
    curves: list[list[float]], data: st.DataObject, lanes: int, prune: bool, until: str
) -> None:
    goals = parse_goals(until) if until else ()
    fails = data.draw(st.sets(st.integers(1, len(curves)), max_size=2))
    ways: dict[str, Any] = {"goals": goals, "prune": prune}
    alone = Simulation(course(len(curves), **ways), curves, 1, sorted(fails)).run(first)
    together = Simulation(course(len(curves), **ways), curves, lanes, sorted(fails)).run(
        lambda numbers: data.draw(st.sampled_from(numbers))
    )
    assert together == alone


@given(CURVES)
def test_alone_it_does_what_the_rule_says(curves: list[list[float]]) -> None:
    found = Simulation(course(len(curves), prune=True), curves, 1).run(first)
    before: list[Trial] = []
    for trial, curve in zip(found, curves, strict=True):
        points = list(enumerate(curve, 1))
        others = [merits(each.curve, METRIC) for each in before]
        behind = [n for n in range(1, len(curve)) if falls_behind(points[:n], others)]
        assert trial.status == ("pruned" if behind else "done")
        assert trial.curve == points[: behind[0] if behind else None]
        assert trial.value == max(value for _, value in trial.curve)
        before.append(trial)


def test_the_first_by_number_to_reach_the_goals_ends_the_search() -> None:
    curves = [[0.1, 0.1, 0.1], [0.1, 0.2, 0.95, 1.0], [0.95, 0.95], [1.0], [1.0]]
    ways = {"goals": parse_goals("test>=.9")}
    # trial 3 is there first, and trial 2, which began before, is still allowed to be
    simulation = Simulation(course(5, **ways), curves, 3)
    found = simulation.run(lambda numbers: numbers[-1])
    assert [(t.number, t.status, t.epochs) for t in found] == [(1, "done", 3), (2, "target", 3)]
    assert found[1].digest == "2-3"


def test_what_has_ended_is_not_repeated() -> None:
    curves = [[0.1], [0.3], [0.2]]
    whole = Simulation(course(3), curves, 1).run(first)
    begun: list[int] = []

    def noted(numbers: Sequence[int]) -> int:
        begun.extend(numbers)
        return numbers[0]

    again = Simulation(course(3, ended=[whole[0], whole[2]]), curves, 2).run(noted)
    assert again == whole
    assert set(begun) == {2}


def test_a_trial_that_learns_waits_for_what_it_learns_from() -> None:
    known: list[list[int]] = []

    class Learner:
        def parameters(self, number: int, trials: Any, earlier: Any) -> dict[str, Any]:
            known.append([trial.number for trial in trials])
            assert len(earlier) == number - 1
            return {"seed": number}

    curves = [[0.1, 0.1, 0.1], [0.1], [0.1], [0.1]]
    learning = SearchState(4, Learner(), METRIC, behind=2)
    assert [learning.next() is not None for _ in range(3)] == [True, True, False]
    learning.end(2, finished=True)
    assert learning.next() is None  # trial 3 learns from trial 1, which goes on
    learning.end(1, finished=True)
    assert learning.next() is not None
    known.clear()
    Simulation(SearchState(4, Learner(), METRIC, behind=2), curves, 2).run(lambda n: n[-1])
    assert known == [[], [], [1], [1, 2]]


def test_cut_off_by_the_user_is_no_result() -> None:
    stopped = course(2)
    stopped.next()
    assert stopped.end(1, finished=False) == (None, [])
    assert stopped.counted() == []
