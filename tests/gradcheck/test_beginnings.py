"""What runs begin with: initial weights, optimizer states, R² and the rates of running averages."""

import math
from typing import Any

import numpy as np
import pytest

from dptrain.exchange.inline import InlineEngine
from dptrain.experiment.job import Job
from dptrain.gradcheck import beginnings
from dptrain.gradcheck.beginnings import check_beginning
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.distributed import begin, steps
from dptrain.gradcheck.updates.one_step import check_updates
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn import initializers, network
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.initializers import He, Xavier
from tests.exchange.build import OPTIMIZERS, Data
from tests.gradcheck.build import FLAT, LAYERS, experiment, weights
from tests.gradcheck.build import data as data

STATE, DRAWN, CONSTANT, R2 = (
    "optimizer's state of a new run = 0",
    "deviation of initial weights = their initializer's",
    "initial biases, scales and averages = 0 or 1",
    "R² = 1 - error / variance",
)


def failed(job: Job) -> dict[str, Comparison]:
    return {c.name: c for c in check_beginning(job) if c.verdict is Verdict.FAIL}


def init(name: str, units: int = 7, **more: Any) -> dict[str, Any]:
    return {"layer": "dense", "units": units, "init": {"init": name, **more}}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_right_ones_pass(optimizer: str, data: Data) -> None:
    layers = [FLAT, init("he"), {"layer": "relu"}, init("xavier"), init("normal", std=0.3)]
    job = data.job(experiment(layers=[*layers, init("zeros", 3)], optimizer=optimizer))
    names = {each.name for each in check_beginning(job)}
    assert names - {STATE} == {DRAWN, CONSTANT}
    assert (STATE in names) is (optimizer != "sgd")
    assert not failed(job)


def test_convolutions_have_fans_of_their_windows(data: Data) -> None:
    layers = [
        {"layer": "conv2d", "filters": 9, "size": [2, 3], "init": {"init": "he"}},
        {"layer": "conv2d", "filters": 2, "size": [2, 1], "init": {"init": "xavier"}},
        FLAT,
        init("he", 3),
    ]
    job = data.job(experiment(layers=layers))
    found, constant = check_beginning(job)
    assert {found.verdict, constant.verdict} == {Verdict.PASS}
    spread = [each.worst.wanted for each in found.tensors if each.worst is not None]
    assert spread[:2] == [math.sqrt(2 / 6), math.sqrt(2 / (2 * 9 + 2 * 2))]


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (initializers.Zeros, 0.5, "dense1.b begins at "),
        (initializers.Ones, 2.0, "batchnorm1.gamma begins at 2, not at 1"),
    ],
)
def test_another_constant_is_named(
    kind: Any, value: float, said: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = initializers.draw

    def drawn(init: Any, shape: Any, *others: Any) -> Any:
        found = right(init, shape, *others)
        return np.full(shape, value) if isinstance(init, kind) else found

    monkeypatch.setattr(network, "draw", drawn)
    found = failed(data.job(experiment(layers=LAYERS)))
    assert found[CONSTANT].diagnoses[0].sentence.startswith(said)


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        (He, lambda fan_in, _: math.sqrt(1 / fan_in), "dense1.W has 0.7"),
        (Xavier, lambda _, fan_out: math.sqrt(1 / fan_out), "dense2.W has "),
    ],
)
def test_another_spread_is_named(
    kind: Any, wrong: Any, said: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "scale", lambda _, *fans: wrong(*fans))
    job = data.job(experiment(layers=[FLAT, init("he"), {"layer": "tanh"}, init("xavier", 3)]))
    (why,) = failed(job)[DRAWN].diagnoses
    assert why.kind == "initial-weights"
    assert why.sentence.startswith(said)


def test_a_state_that_is_not_empty_is_named(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    job = data.job(experiment(optimizer="adagrad"))
    monkeypatch.setattr(beginnings, "initial_state", lambda _: (None, [np.full(4, 0.1)]))
    (why,) = failed(job)[STATE].diagnoses
    assert why.sentence == "A new run's optimizer state is not 0: squares is 0.1."


def test_the_variance_of_another_split_is_named(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [FLAT, init("he", 2)]
    values = experiment(dataset="regression", layers=layers, loss="mean-squared-error")
    job = data.job(values)
    assert [c.name for c in check_beginning(job)] == [DRAWN, CONSTANT, R2]
    assert not failed(job)
    right = Job._target_variance
    monkeypatch.setattr(Job, "_target_variance", lambda job, _: right(job, "train"))
    (why,) = failed(data.job(values))[R2].diagnoses
    assert why.sentence == "R² of test is not 1 - error / variance of its own targets."


def test_running_averages_move_by_the_momentum_of_their_layer(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate is the layer's own, and not what the network's tensors are told."""
    right = BatchNorm.parameters

    def swapped(layer: BatchNorm, *shape: Any) -> Any:
        found = right(layer, *shape)
        return [p if p.average is None else p._replace(average=1 - p.average) for p in found]

    monkeypatch.setattr(BatchNorm, "parameters", swapped)
    job = data.job(experiment(layers=LAYERS))
    state = begin(job, weights(job))
    done = list(steps(InlineEngine(job, state.parameters, list(state.slots)), 0, 3))
    assert any(c.verdict is Verdict.FAIL for c in check_updates(job, done, ""))
