"""What runs begin with: initial weights, optimizer states, R² and the rates of running averages."""

import math
from typing import Any

import pytest

from dptrain.exchange.inline import InlineEngine
from dptrain.gradcheck.beginnings import check_beginning
from dptrain.gradcheck.distributed import begin, steps
from dptrain.gradcheck.updates.one_step import check_updates
from dptrain.gradcheck.verdict import Verdict
from tests.exchange.build import OPTIMIZERS, Data
from tests.gradcheck.build import FLAT, LAYERS, experiment, weights
from tests.gradcheck.build import data as data
from tests.gradcheck.slips import Slip

STATE, DRAWN, CONSTANT, R2 = (
    "optimizer's state of a new run = 0",
    "deviation of initial weights = their initializer's",
    "initial biases, scales and averages = 0 or 1",
    "R² = 1 - error / variance",
)


def init(name: str, units: int = 7, **more: Any) -> dict[str, Any]:
    return {"layer": "dense", "units": units, "init": {"init": name, **more}}


BOTH = [FLAT, init("he"), {"layer": "tanh"}, init("xavier", 3)]
REGRESSION = {"dataset": "regression", "layers": [FLAT, init("he", 2)]}
REGRESSION |= {"loss": "mean-squared-error"}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_right_ones_pass(optimizer: str, data: Data) -> None:
    layers = [*BOTH[:3], init("xavier"), init("normal", std=0.3), init("zeros", 3)]
    found = list(check_beginning(data.job(experiment(layers=layers, optimizer=optimizer))))
    names = [STATE] * (optimizer != "sgd") + [DRAWN, CONSTANT]
    assert [(c.name, c.verdict) for c in found] == [(name, Verdict.PASS) for name in names]
    found = list(check_beginning(data.job(experiment(**REGRESSION))))
    assert [(c.name, c.verdict) for c in found][-1] == (R2, Verdict.PASS)


def test_convolutions_have_fans_of_their_windows(data: Data) -> None:
    layers = [
        {"layer": "conv2d", "filters": 9, "size": [2, 3], "init": {"init": "he"}},
        {"layer": "conv2d", "filters": 2, "size": [2, 1], "init": {"init": "xavier"}},
        FLAT,
        init("he", 3),
    ]
    found, constant = check_beginning(data.job(experiment(layers=layers)))
    assert {found.verdict, constant.verdict} == {Verdict.PASS}
    spread = [each.worst.wanted for each in found.tensors if each.worst is not None]
    assert spread[:2] == [math.sqrt(2 / 6), math.sqrt(2 / (2 * 9 + 2 * 2))]


SLIPS: list[tuple[dict[str, Any], str, Slip]] = [
    ({"layers": LAYERS}, CONSTANT,
     Slip("nn.initializers:Zeros.scale", "return 0.0", "return 0.5", "dense1.b is ")),
    ({"layers": LAYERS}, CONSTANT,
     Slip("nn.initializers:draw", "np.ones(shape)", "2 * np.ones(shape)",
          "batchnorm1.gamma is 2 instead of 1, 2 times that")),
    ({"layers": BOTH}, DRAWN,
     Slip("nn.initializers:He.scale", "2.0 / fan_in", "1.0 / fan_in", "dense1.W is 0.")),
    ({"layers": BOTH}, DRAWN,
     Slip("nn.initializers:Xavier.scale", "2.0 / (fan_in + fan_out)", "1.0 / fan_out", "dense2")),
    ({"optimizer": "adagrad"}, STATE,
     Slip("exchange.rank:initial_state", "np.zeros_like(parameters)", "0.1 + 0 * parameters",
          "squares is 0.1 instead of 0.")),
    (REGRESSION, R2,
     Slip("experiment.job:Job._target_variance", "self.split(name)", "self.split('train')",
          "test is ")),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "name", "slip"), SLIPS, ids=[str(each) for *_, each in SLIPS])
def test_slips_are_named(
    changes: dict[str, Any], name: str, slip: Slip, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    slip.let_loose(monkeypatch)
    found = check_beginning(data.job(experiment(**changes)))
    (failed,) = [each for each in found if each.verdict is Verdict.FAIL]
    assert failed.name == name
    assert f": {slip.told}" in failed.diagnoses[0].sentence


def test_running_averages_move_by_the_momentum_of_their_layer(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate is the layer's own, and not what the network's tensors are told."""
    right, wrong = (f"Zeros(), fans, decays=False, average={rate}" for rate in ("rate", "1 - rate"))
    Slip("nn.batchnorm:BatchNorm.parameters", right, wrong, "").let_loose(monkeypatch)
    job = data.job(experiment(layers=LAYERS))
    state = begin(job, weights(job))
    done = list(steps(InlineEngine(job, state.parameters, list(state.slots)), 0, 3))
    assert any(c.verdict is Verdict.FAIL for c in check_updates(job, done, ""))
