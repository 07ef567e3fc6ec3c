"""The cost model: what it is made of, and that it finds the costs it was made with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dptrain.exchange.engine import StepSplit
from dptrain.scaling.model import CostModel, Load, fit_costs, load_of


def load(workers: int, *, cores: int = 4, shared: bool = True) -> Load:
    return load_of(workers, shards=8, parameter_bytes=1000, cores=cores, meetings=2, shared=shared)


def test_what_a_number_of_workers_has_to_do() -> None:
    assert load(1) == Load(8, 1000, 0, 0)
    assert load(2) == Load(4, 500, 2, 0)
    assert load(3) == Load(3, 1000 * (1 / 3), 2, 0)
    assert load(4) == Load(2, 250, 2, 0)
    # 8 ranks on 4 cores take two turns of one shard each
    assert load(8) == Load(2, 250, 2, 2)
    # where one process updates everything, more workers do not help it
    assert load(4, shared=False) == Load(2, 1000, 2, 0)


def split_of(costs: CostModel, what: Load) -> StepSplit:
    return StepSplit(
        compute=costs.per_shard * what.shards,
        exchange=0.25 * costs.per_meeting * what.meetings,
        wait=0.75 * costs.per_meeting * what.meetings + costs.per_switch * what.switches,
        update=costs.per_byte * what.bytes,
    )


@given(*[st.floats(1e-9, 1e-1)] * 4)
def test_exact_measurements_give_the_costs_back(
    shard: float, byte: float, meeting: float, switch: float
) -> None:
    costs = CostModel(shard, byte, meeting, switch)
    loads = [load(workers) for workers in (1, 2, 3, 4, 6, 8)]
    found = fit_costs([(each, split_of(costs, each)) for each in loads])
    assert found[:3] == pytest.approx(costs[:3], rel=1e-9)
    for each in loads:
        assert found.seconds(each) == pytest.approx(sum(split_of(costs, each)), rel=1e-6)


def test_errors_are_relative() -> None:
    # 1 and 3 seconds a shard: the fit minimises (1 - a/1)² + (1 - a/3)², at a = 1.2
    measured = [
        (Load(1, 0, 0, 0), StepSplit(1, 0, 0, 0)),
        (Load(10, 0, 0, 0), StepSplit(30, 0, 0, 0)),
    ]
    assert fit_costs(measured).per_shard == pytest.approx(1.2)


def test_one_process_alone_tells_nothing_of_meetings() -> None:
    found = fit_costs([(load(1), StepSplit(8.0, 0.5, 0.0, 1.0))])
    assert found == CostModel(1.0, 0.001, 0.0, 0.0)
