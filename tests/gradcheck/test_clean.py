"""No false alarms: random experiments, none of which is wrong.

``DPTRAIN_CLEAN_CHECKS=10000`` makes as many checks; `scripts/nightly` does.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.verdict import Verdict
from tests.exchange.build import Data, experiments

CHECKS = int(os.environ.get("DPTRAIN_CLEAN_CHECKS", "500"))
STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


@settings(max_examples=-(-CHECKS // STEPS), suppress_health_check=list(HealthCheck))
@given(st.data(), st.integers(0, 2**32))
def test_no_false_alarm(data: Data, draws: st.DataObject, seed: int) -> None:
    local = Local(data.job(draws.draw(experiments(st.integers(1, 7)))))
    triangle = Triangle(local)
    w = local.job.initial_parameters()
    w += (0.1 * np.random.default_rng(seed).standard_normal(len(w))).astype(w.dtype)
    if not np.isfinite(local.loss(w, 0)):
        reject()
    for step in range(STEPS):
        for found in triangle.against_formulas(w, step, ""):
            assert found.verdict is not Verdict.FAIL, (found.name, found.worst)
