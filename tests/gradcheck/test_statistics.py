"""Running averages of real workers against two passes over the same rows."""

from typing import Any

import numpy as np
import pytest

from dptrain.gradcheck.distributed import Step, Way, begin, engine, steps
from dptrain.gradcheck.statistics import check_statistics, diagnose_statistics
from dptrain.gradcheck.verdict import Verdict
from dptrain.launch.local import Program
from tests.exchange.build import WITH_WORKERS, Data
from tests.gradcheck.build import (
    FLAT,
    LAYERS,
    PLAIN,
    Wrong,
    dense,
    experiment,
    untouched,
    weights,
    wrong_steps,
)
from tests.gradcheck.build import data as data

IMAGES = [
    {"layer": "conv2d", "filters": 3, "size": 2},
    {"layer": "residual", "layers": [{"layer": "batchnorm", "momentum": 0.5}]},
    FLAT,
    dense(4),
    {"layer": "batchnorm", "sync": False},
    dense(3),
]


@pytest.mark.parametrize("exchange", WITH_WORKERS)
@pytest.mark.parametrize("batch_size", [13, 3])  # shards of 3 or 2 rows; of 1 or none
def test_statistics_of_real_workers(
    exchange: str, batch_size: int, data: Data, workers: Program
) -> None:
    described = experiment(dtype="float32", batch_size=batch_size)
    job = data.job(described)
    way, state = Way(exchange, 3), begin(job, weights(job))
    with engine(job, data.folder(described), way, state, worker=workers) as found:
        done = list(steps(found, 0, 3))
    compared = check_statistics(job, done, exchange)
    assert [c.verdict for c in compared] == [Verdict.PASS] * 3
    assert [t.tensor for t in compared[0].tensors] == ["batchnorm1.mean", "batchnorm1.variance"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kind_of_batch_norm(dtype: str, data: Data) -> None:
    job = data.job(experiment(layers=IMAGES, dtype=dtype))
    compared = check_statistics(job, wrong_steps(job, untouched, 6), "inline")
    assert [c.verdict for c in compared] == [Verdict.PASS] * 6
    assert compared[0].compared == 2 * (3 + 4)


def test_nothing_to_compare(data: Data) -> None:
    for settings in ({"layers": PLAIN}, {"freeze": ["batchnorm1"]}):
        job = data.job(experiment(**settings))
        assert check_statistics(job, wrong_steps(job, untouched), "inline") == []


@pytest.mark.parametrize("name", ["mean", "variance"])
def test_local_statistics_show(name: str, data: Data) -> None:
    """What a mean of the shards' means, or of their variances, would be, in one step."""
    job = data.job(experiment())
    ghost = data.job(
        experiment(layers=[*LAYERS[:2], {"layer": "batchnorm", "sync": False}, *LAYERS[3:]])
    )
    right, local = (wrong_steps(each, untouched, 1)[0] for each in (job, ghost))
    compared = check_statistics(job, [_with(job, right, local, f"batchnorm1.{name}")], "inline")
    failed = [t.tensor for t in compared[0].tensors if t.failed]
    # weighted by rows, the mean of the shards' means is the mean
    assert failed == ([] if name == "mean" else ["batchnorm1.variance"])


def _with(job: Any, step: Step, other: Step, name: str) -> Step:
    tensor = next(t for t in job.network.all_tensors() if t.name == name)
    after = np.array(step.after.parameters)
    after[tensor.start : tensor.stop] = other.after.parameters[tensor.start : tensor.stop]
    return step._replace(after=step.after._replace(parameters=after))


def test_swapped_momentum_and_averages_that_stand_still(data: Data) -> None:
    job = data.job(experiment())
    right = wrong_steps(job, untouched, 2)
    for kind, change in (("average-momentum-swapped", swapped), ("average-not-updated", still)):
        done = wrong_steps(data.job(experiment()), change, 2)
        assert {c.verdict for c in check_statistics(job, done, "inline")} == {Verdict.FAIL}
        best = diagnose_statistics(job, done)[0]
        assert (best.kind, best.residual) == (kind, 0)
    assert diagnose_statistics(job, right) == []


def swapped(engine: Wrong) -> None:
    found = engine.job.updater
    found.moving = [(low, high, 1 - rate) for low, high, rate in found.moving]


def still(engine: Wrong) -> None:
    found = engine.job.updater
    found.moving = [(low, high, 0.0) for low, high, _ in found.moving]


def test_workers_with_statistics_of_their_own(data: Data, workers: Program) -> None:
    """A network whose batch norm is not synchronised, taken for one whose batch norm is."""
    apart = [*LAYERS[:2], {"layer": "batchnorm", "sync": False}, *LAYERS[3:]]
    described = experiment(layers=apart)
    ghost, job = data.job(described), data.job(experiment())
    way, state = Way("shared", 3), begin(ghost, weights(ghost))
    with engine(ghost, data.folder(described), way, state, worker=workers) as found:
        done = list(steps(found, 0, 2))
    compared = check_statistics(job, done, "shared")
    assert [c.verdict for c in compared] == [Verdict.FAIL] * 2
    sentence = "Every shard has statistics of its own, and their averages are taken."
    assert {c.note for c in compared} == {sentence}


def test_the_biased_variance(data: Data) -> None:
    job = data.job(experiment())

    def bias(engine: Wrong) -> None:
        tensor = next(t for t in job.network.all_tensors() if t.name == "batchnorm1.variance")

        def change(step: int, gradient: Any) -> None:
            gradient[tensor.start : tensor.stop] *= 12 / 13

        engine.before_update = change

    found = check_statistics(job, wrong_steps(job, bias, 2), "inline")
    assert found[0].note == (
        "The running variance takes the biased one: divided by n, not by n - 1."
    )
