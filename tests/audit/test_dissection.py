"""A step taken apart computes what a step of training does, shard by shard."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from dptrain.audit.difference import Array
from dptrain.audit.dissection import parts
from dptrain.exchange.engine import TrainingState
from dptrain.exchange.inline import InlineEngine
from dptrain.exchange.rank import Rank, Share, initial_state
from dptrain.experiment.defaults import settle
from dptrain.experiment.job import Job, open_job
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from tests.sessions import write_dataset

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch-norm": {"norm": "batch", "clip_norm": 0.1},
    "moved": {"augment_shift": 1, "augment_noise": 0.1, "dropout": 0.2, "weight_decay": 0.1},
    "momentum": {"optimizer": "momentum", "l1": 0.1},
    "numerical": {"gradient": "numerical", "dtype": "float64", "model": "mlp:20-3"},
    "frozen": {"freeze": ["dense1"], "shards": 3},
}


@pytest.fixture(scope="module", params=SETTINGS)
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    data = write_dataset(tmp_path_factory.mktemp("data") / "small.npz")
    settings = {"dataset": str(data), "model": "mlp:20-7-3", "batch_size": 22, "steps": 9}
    experiment = build(Experiment, settings | SETTINGS[request.param], "the test")
    folder = prepared_data(experiment)
    digest = opened_data(experiment, folder).digest
    return open_job(settle(experiment, 2, 3, 137, digest), folder)


def taken_apart(job: Job, state: TrainingState, step: int) -> dict[tuple[str, str], list[Array]]:
    frozen = {t.name for t in job.network.all_tensors() if t.frozen}
    found: dict[tuple[str, str], list[Array]] = defaultdict(list)
    for part in parts(job, state, step, frozen):
        found[part.phase, part.where].append(np.array(part.value))
    return found


@pytest.mark.parametrize("step", [0, 6], ids=["whole", "ragged"])
def test_it_computes_what_training_does(job: Job, step: int) -> None:
    engine = InlineEngine(job, *initial_state(job))
    list(engine.train(0, step, lambda: False, 1))
    before = TrainingState(
        engine.state().parameters.copy(), [s.copy() for s in engine.state().slots]
    )
    found = taken_apart(job, before, step)
    again = taken_apart(job, before, step)
    assert {k: [a.tobytes() for a in v] for k, v in found.items()} == {
        k: [a.tobytes() for a in v] for k, v in again.items()
    }, "the state stays as it is"
    (done,) = engine.train(step, step + 1, lambda: False, 1)
    for name, tensor in job.network.views(engine.state().parameters).items():
        np.testing.assert_array_equal(found["update", name][0], tensor)
    for slot, array in zip(job.updater.rule.slots, engine.state().slots, strict=True):
        for name, tensor in job.network.views(array).items():
            np.testing.assert_array_equal(found["update", f"{name}, {slot}"][0], tensor)
    rows = job.rows(step)
    assert sum(found["loss", "loss"]) / rows == pytest.approx(done.loss, rel=1e-6)
    order = job.minibatch(step)
    np.testing.assert_array_equal(np.concatenate(found["rows", "minibatch"]), order)
    samples, _ = job.dataset.train.take(order, job.dtype)
    np.testing.assert_array_equal(np.concatenate(found["data", "inputs"]), samples)
    if not job.augmentation:
        np.testing.assert_array_equal(np.concatenate(found["inputs", "inputs"]), samples)


def test_each_shards_gradients_are_its_own(job: Job) -> None:
    """As a rank computes them that has this one shard; with batch norm none can."""
    parameters, slots = initial_state(job)
    found = taken_apart(job, TrainingState(parameters, slots), 0)
    learning = [t for t in job.network.all_tensors() if not t.frozen]
    for shard in () if job.network.tables else range(job.shards):
        alone = Rank(job, [parameters])
        own = alone.gather(Share(0, shard, shard + 1))
        loss = own.forward()
        own.backward()
        assert loss == [found["loss", "loss"][shard]]
        for t in learning:
            expected = own.gradients[0, t.start : t.stop].reshape(t.shape)
            np.testing.assert_array_equal(found["shard gradient", t.name][shard], expected)
    for t in learning:
        assert len(found["shard gradient", t.name]) == job.shards
        total = np.sum(found["shard gradient", t.name], axis=0, dtype=np.float64)
        np.testing.assert_allclose(found["gradient", t.name][0], total, rtol=1e-4, atol=1e-6)


def test_the_layers_are_all_there_in_order(job: Job) -> None:
    found = taken_apart(job, TrainingState(*initial_state(job)), 0)
    assert tuple(name for phase, name in found if phase == "outputs") == job.network.names  # type: ignore[union-attr]
    assert list(dict.fromkeys(phase for phase, _ in found)) == [
        "rows", "data", "inputs", "outputs", "loss", "shard gradient", "gradient", "update",
    ]  # fmt: skip
