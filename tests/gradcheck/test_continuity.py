"""Evaluations by all ranks, and what workers do wrongly that nobody else does."""

from typing import Any

import pytest

from dptrain.exchange.engine import TrainingState
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.gradcheck.checking import Check
from dptrain.gradcheck.distributed import Way, begin
from dptrain.gradcheck.evaluation import check_replicas
from dptrain.gradcheck.ledger import check_ledger
from dptrain.gradcheck.masks import check_masks
from dptrain.gradcheck.observers import Plan
from dptrain.gradcheck.subject import Subject
from dptrain.gradcheck.verdict import Verdict
from dptrain.gradcheck.zoo.habitats import HABITATS
from dptrain.gradcheck.zoo.habitats import weights as zoo_weights
from dptrain.launch.local import Program
from tests.exchange.build import Data
from tests.gradcheck.build import FLAT, PLAIN, dense, experiment, weights
from tests.gradcheck.build import data as data

WAYS = [Way("shared", 3), Way("star", 3)]
INLINE = Way("inline", 1)


def program(change: str) -> tuple[str, ...]:
    """Return what makes a worker process run with something changed in it."""
    lines = ("import runpy, sys", change, "runpy.run_module('dptrain.worker', run_name='__main__')")
    return ("-c", "\n".join(lines))


def case(data: Data, **described: Any) -> tuple[Job, Any, TrainingState]:
    """Return what all checks begin with."""
    settings = experiment(**{"layers": PLAIN, "optimizer": "adam", "lr": 0.01} | described)
    job = data.job(settings)
    return job, data.folder(settings), begin(job, weights(job))


@pytest.mark.parametrize("way", [*WAYS, INLINE], ids=str)
@pytest.mark.parametrize(
    ("dataset", "outputs", "loss"),
    [("classes", 3, "softmax-cross-entropy"), ("regression", 2, "mean-squared-error")],
)
def test_evaluations_by_all_ranks(
    dataset: str, outputs: int, loss: str, way: Way, data: Data, workers: Program
) -> None:
    layers = [FLAT, dense(outputs)]
    job, folder, state = case(data, dataset=dataset, layers=layers, loss=loss, dtype="float32")
    found = check_replicas(job, folder, way, state, worker=workers)
    assert [c.verdict for c in found] == [Verdict.PASS] * 6
    assert [c.where for c in found[::2]] == [f"{way}, after {k} steps" for k in range(3)]
    assert [c.edge for c in found] == ["replicas", "evaluation"] * 3
    assert {c.compared for c in found} == {outputs - 1}


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_workers_that_are_wrong(way: Way, data: Data) -> None:
    """Two bugs at once: other weights in an evaluation, the first epoch's rows in all epochs."""
    worker = program(
        "from dptrain.exchange.rank import Rank; right = Rank.evaluate\n"
        "def evaluate(rank, split, first, last, version=0):\n"
        "    if first != 2: return right(rank, split, first, last, version)\n"
        "    weights = rank.versions[version]  # in shared memory: nobody else may write there\n"
        "    kept = weights.copy()\n"
        "    weights *= 1 + 1e-12\n"
        "    found = right(rank, split, first, last, version)\n"
        "    weights[:] = kept\n"
        "    return found\n"
        "Rank.evaluate = evaluate\n"
        "from dptrain.experiment.job import Job; rows = Job.minibatch\n"
        "Job.minibatch = lambda job, step: rows(job, step % job.steps_per_epoch)"
    )
    job, folder, state = case(data)
    found = check_replicas(job, folder, way, state, worker=worker)
    assert [c.verdict for c in found if c.edge == "replicas"] == [Verdict.FAIL] * 3
    found = check_ledger(job.experiment, way, worker=worker)
    assert [c.verdict for c in found[:6]] == [Verdict.PASS] * 3 + [Verdict.FAIL] * 3
    assert found[3].diagnoses[0].sentence == "Every epoch visits the rows in the same order."


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_workers_that_draw_equal_masks(way: Way, data: Data) -> None:
    worker = program(
        "import dptrain.nn.dropout as d; right = d._draw\n"
        "d._draw = lambda context, place, shard, out: right(context, place, 0, out)"
    )
    layers = [FLAT, {"layer": "dropout", "rate": 0.3}, dense(3)]
    found = check_masks(case(data, layers=layers)[0], way, worker=worker)
    assert [c.verdict for c in found] == [Verdict.FAIL]
    assert found[0].note == "Dropout: all shards draw the same mask."


def test_gradients_that_differ_from_run_to_run() -> None:
    worker = program(
        "import os, dptrain.exchange.rank as r; right = r.Rank.backward\n"
        "def backward(rank, found, ready=None):\n"
        "    right(rank, found)\n"
        "    noise = np.random.default_rng(os.getpid()).standard_normal(found.gradients.shape)\n"
        "    found.gradients[...] *= 1 + 0.1 * noise\n"
        "    for layer in reversed(range(len(rank.job.network.tensors))) if ready else ():\n"
        "        ready(layer)\n"
        "import numpy as np; r.Rank.backward = backward"
    )
    subject = Subject(build(Experiment, HABITATS["plain"], "plain"))
    points = {"plain": zoo_weights("plain", subject.job("float64"))}
    plan = Plan(
        [WAYS[0]], ("float64",), numerical=False, updates=False, beyond=False, program=worker
    )
    report = Check(subject, plan, points).run()
    best = report.failures[0].diagnoses[0]
    assert best.kind == "race"
    assert best.sentence.startswith("the same steps, done again, come to another gradient")
