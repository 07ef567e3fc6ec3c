"""Networks that are trained by differences of losses: a check knows how coarse they are."""

import numpy as np
import pytest

from dptrain.gradcheck.calls import check
from dptrain.gradcheck.verdict import Verdict
from dptrain.nn import numerical
from dptrain.nn.activations import Tanh
from dptrain.nn.dense import Dense
from dptrain.nn.network import Network

ROWS = np.random.default_rng(0).standard_normal((40, 2))
DATA = (ROWS, (ROWS[:, 0] > 0).astype(int))


def verdict(seed: int) -> Verdict:
    network = Network(2, [Dense(3), Tanh(), Dense(2)])
    how = {"exchange": ("inline",), "workers": (1,), "check_seed": seed}
    return check(network, DATA, gradient="numerical", **how).verdict  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [1, 2])
def test_right_differences_pass_in_both_dtypes(seed: int) -> None:
    assert verdict(seed) is Verdict.PASS


def test_steps_that_are_too_long_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerical, "STEP", 0.1)
    assert verdict(1) is Verdict.FAIL
