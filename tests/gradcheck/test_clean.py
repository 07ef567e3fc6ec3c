"""No false alarms: random experiments, none of which is wrong.

Every minibatch is compared by everything that needs no processes of its own: formulas, ranks in
threads that share memory, optimizers by the book, evaluations; of one experiment in ten also the
complex step, differences, projections and the Taylor test.

``DPTRAIN_CLEAN_CHECKS=10000`` makes as many checks; `scripts/nightly` does.
"""

import os
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from dptrain.exchange.inline import InlineEngine
from dptrain.gradcheck.analytic import Local
from dptrain.gradcheck.beginnings import check_beginning
from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.distributed import begin, steps
from dptrain.gradcheck.evaluation import check_score
from dptrain.gradcheck.gradients import Triangle
from dptrain.gradcheck.numerical import with_formulas
from dptrain.gradcheck.statistics import check_statistics
from dptrain.gradcheck.updates.one_step import check_updates
from dptrain.gradcheck.verdict import Verdict
from tests.exchange.build import Data, experiments, lockstep_steps

CHECKS = int(os.environ.get("DPTRAIN_CLEAN_CHECKS", "500"))
STEPS = 4
# The optimizer's state is the gradient, as in `dptrain.gradcheck.distributed.recording`.
RECORDING = {
    "optimizer": "momentum", "momentum": 0.0, "weight_decay": 0.0, "l1": 0.0, "clip_norm": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data(tmp_path_factory.mktemp("data"))


@settings(max_examples=-(-CHECKS // STEPS), suppress_health_check=list(HealthCheck))
@given(st.data(), st.integers(0, 2**32))
def test_no_false_alarm(data: Data, draws: st.DataObject, seed: int) -> None:
    described = draws.draw(experiments(st.integers(1, 7))) | {"steps": STEPS}
    for found in compared(data, described, seed):
        assert found.verdict is not Verdict.FAIL, (found.name, found.where, found.worst)


def compared(data: Data, described: dict[str, Any], seed: int) -> Iterator[Comparison]:
    random = Random(seed)
    job = data.job(described)
    triangle = Triangle(Local(job))
    w = job.initial_parameters()
    w += (0.1 * np.random.default_rng(seed).standard_normal(len(w))).astype(w.dtype)
    if not np.isfinite(triangle.local.loss(w, 0)):
        reject()
    for number in range(STEPS):
        yield from triangle.against_formulas(w, number, "")
    if job.dtype == np.float64 and seed % 10 == 0:
        some = np.random.default_rng(seed).choice(len(w), min(len(w), 50), replace=False)
        trained = np.concatenate([np.arange(t.start, t.stop) for t in triangle.tensors])
        some = np.intersect1d(some, trained)
        number = seed // 10 % STEPS
        yield from triangle.against_complex_step(w, number, "", some)
        yield from with_formulas(triangle, w, number, "", seed).all()
    yield from check_beginning(job)
    workers, barrier = random.randint(1, 4), random.choice(("flags", "events"))
    recorded = described | RECORDING
    other = Triangle(Local(data.job(recorded)))
    jobs = iter([data.job(recorded) for _ in range(workers + 1)])
    ranks = lockstep_steps(jobs.__next__, workers, barrier, random)
    for step in ranks:
        yield from other.against_processes(step, f"{workers} ranks, {barrier}")
    yield from check_statistics(other.job, ranks, "")
    engine = InlineEngine(job, *begin(job, w))
    with np.errstate(all="ignore"):
        done = list(steps(engine, 0, STEPS))
    yield from check_updates(job, done, "")
    after = done[-1].after.parameters
    rows = np.arange(len(job.dataset.train))
    score = check_score(job, engine.evaluate("train"), after, rows, "")
    if score is not None:
        yield score


def test_a_taylor_test_at_a_kink_is_no_alarm(data: Data) -> None:
    xavier = {"init": "xavier"}
    layers = [
        {"layer": "flatten"},
        {"layer": "dense", "units": 6, "init": xavier},
        {"layer": "batchnorm"},  # of a single row everything is 0, where ReLU has its kink
        {"layer": "relu"},
        {"layer": "dense", "units": 3, "init": xavier},
    ]
    job = data.job(
        {
            "dataset": "classes", "layers": layers, "input_shape": [4, 5], "dtype": "float64",
            "loss": "softmax-cross-entropy", "batch_size": 1, "shards": 1, "steps": 4,
        }
    )  # fmt: skip
    triangle = Triangle(Local(job))
    found = list(with_formulas(triangle, job.initial_parameters(), 0, "", 1).all())
    assert all(each.verdict is not Verdict.FAIL for each in found), found
    assert found[-1].verdict is Verdict.KINK
