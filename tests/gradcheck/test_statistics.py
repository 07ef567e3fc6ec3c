"""Running averages of real workers against two passes over the same rows."""

from typing import Any

import pytest

from dptrain.gradcheck.distributed import Way, begin, engine, steps
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

APART = [*LAYERS[:2], {"layer": "batchnorm", "sync": False}, *LAYERS[3:]]
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
    with engine(
        job, data.folder(described), Way(exchange, 3), begin(job, weights(job)), worker=workers
    ) as found:
        compared = check_statistics(job, list(steps(found, 0, 3)), exchange)
    assert [c.verdict for c in compared] == [Verdict.PASS] * 3
    assert [t.tensor for t in compared[0].tensors] == ["batchnorm1.mean", "batchnorm1.variance"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kind_of_batch_norm(dtype: str, data: Data) -> None:
    job = data.job(experiment(layers=IMAGES, dtype=dtype))
    compared = check_statistics(job, wrong_steps(job, untouched, 6), "inline")
    assert [c.verdict for c in compared] == [Verdict.PASS] * 6
    assert compared[0].compared == 2 * (3 + 4)
    assert diagnose_statistics(job, wrong_steps(job, untouched, 2)) == []


def test_nothing_to_compare(data: Data) -> None:
    for settings in ({"layers": PLAIN}, {"freeze": ["batchnorm1"]}):
        job = data.job(experiment(**settings))
        assert check_statistics(job, wrong_steps(job, untouched), "inline") == []


def moved(rate: Any) -> Any:
    def spoil(engine: Wrong) -> None:
        found = engine.job.updater
        found.moving = [(low, high, rate(own)) for low, high, own in found.moving]

    return spoil


def times(name: str, factor: float) -> Any:
    def spoil(engine: Wrong) -> None:
        tensor = next(t for t in engine.job.network.all_tensors() if t.name == name)

        def change(_: int, gradient: Any) -> None:
            gradient[tensor.start : tensor.stop] *= factor

        engine.before_update = change

    return spoil


@pytest.mark.parametrize(
    ("spoil", "ran", "said"),
    [
        (moved(lambda rate: 1 - rate), LAYERS, "Running averages keep what they should take"),
        (moved(lambda _: 0.0), LAYERS, "Running averages are not updated."),
        (times("batchnorm1.variance", 12 / 13), LAYERS, "The running variance takes the biased"),
        (times("batchnorm1.mean", 3), LAYERS, "batchnorm1.mean"),
        # a network whose batch norm is not synchronised, taken for one whose batch norm is
        (untouched, APART, "Every shard has statistics of its own, and their averages are taken."),
    ],
)
def test_what_is_wrong_is_named(spoil: Any, ran: Any, said: str, data: Data) -> None:
    done = wrong_steps(data.job(experiment(layers=ran)), spoil, 2)
    job = data.job(experiment())
    compared = check_statistics(job, done, "inline")
    assert [c.verdict for c in compared] == [Verdict.FAIL] * 2
    assert said in diagnose_statistics(job, done)[0].sentence
