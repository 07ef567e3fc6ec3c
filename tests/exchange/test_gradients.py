"""The gradient that real workers' optimizer applies, against central differences of the loss.

One step of plain gradient descent with a rate of 1 in float64 moves every weight by its gradient,
so the weights before and after tell it, whatever it went through on its way.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import to_builtins
from numpy.typing import NDArray

from dptrain.arithmetic.shards import blocks
from dptrain.exchange.engine import TrainingState
from dptrain.experiment.job import Job
from dptrain.launch.local import Program
from dptrain.nn.passes import Arrangement
from tests.exchange.build import LOSSES, UNITS, WITH_WORKERS, Data
from tests.exchange.test_contract import cluster
from tests.exchange.test_contract import data as data
from tests.nn.reference import ACTIVATIONS

XAVIER = {"init": {"init": "xavier"}}
FLAT: dict[str, Any] = {"layer": "flatten"}
BATCH, SHARDS, WORKERS = 13, 5, 3  # shards of 3, 3, 3, 2 and 2 rows


def dense(units: int) -> dict[str, Any]:
    return {"layer": "dense", "units": units, **XAVIER}


NETWORKS: dict[str, list[dict[str, Any]]] = {
    "normalisations": [
        FLAT, {"layer": "batchnorm"}, dense(6), {"layer": "batchnorm", "epsilon": 0.1},
        {"layer": "tanh"}, dense(4), {"layer": "layernorm"}, dense(3),
    ],
    "ghost": [FLAT, dense(6), {"layer": "batchnorm", "sync": False}, {"layer": "tanh"}, dense(3)],
    "dropout": [FLAT, {"layer": "dropout", "rate": 0.2}, dense(6), {"layer": "dropout"}, dense(3)],
    "residual": [
        FLAT,
        {"layer": "residual", "layers": [{"layer": "tanh"}, dense(20), {"layer": "batchnorm"}]},
        {
            "layer": "chain",
            "layers": [
                {
                    "layer": "residual",
                    "layers": [dense(4), {"layer": "dropout", "rate": 0.3}],
                    "shortcut": [dense(4), {"layer": "sigmoid"}],
                },
            ],
        },
        dense(3),
    ],
    "images": [
        {"layer": "conv2d", "filters": 3, "size": 2, "padding": 1, **XAVIER},
        {"layer": "batchnorm"},
        {"layer": "maxpool2d", "size": 2, "stride": 1},
        {"layer": "residual", "layers": [{"layer": "conv2d", "filters": 3, "size": 1, **XAVIER}]},
        {"layer": "layernorm"},
        {"layer": "avgpool2d", "size": 2},
        FLAT,
        dense(3),
    ],
}  # fmt: skip
# Every activation, a few in a network.
NETWORKS |= {
    f"activations {first}": [
        FLAT,
        *(
            each
            for layer in ACTIVATIONS[first : first + 3]
            for each in (dense(5), to_builtins(layer))
        ),
        dense(3),
    ]
    for first in range(0, len(ACTIVATIONS), 3)
}


def experiment(layers: list[dict[str, Any]], loss: str, kind: str) -> dict[str, Any]:
    return {
        "dataset": kind, "dtype": "float64", "layers": layers, "input_shape": [4, 5],
        "loss": loss, "optimizer": "sgd", "lr": 1.0, "batch_size": BATCH, "shards": SHARDS,
        "steps": 1, "seed": 3,
    }  # fmt: skip


def gradient(job: Job, before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
    """Return what the step took off; for a running average, NaN."""
    found: NDArray[Any] = before - after
    for tensor in job.network.all_tensors():
        if not tensor.trained:
            found[tensor.start : tensor.stop] = np.nan
    return found


def differences(job: Job, w: NDArray[Any]) -> NDArray[Any]:
    """Return central differences of the minibatch's mean loss, of one process; NaN likewise."""
    moved = w.copy()
    found = job.replica([moved]).pass_over(Arrangement(BATCH, SHARDS, 0, SHARDS))
    order = job.minibatch(0)
    for block, x, t in zip(
        blocks(BATCH, SHARDS, 0, SHARDS), found.inputs, found.targets, strict=True
    ):
        job.dataset.train.gather(order[block.start : block.start + len(x)], x, t)
    weights = job.dataset.train.weights
    if weights is not None:
        cuts = np.cumsum([len(each) for each in found.row_weights])[:-1]
        for place, own in zip(found.row_weights, np.split(weights[order], cuts), strict=True):
            place[...] = own
    slopes = np.full(job.network.size, np.nan)
    for tensor in job.network.all_tensors():
        for i in range(tensor.start, tensor.stop) if tensor.trained else ():
            losses = []
            for step in (1e-5, -1e-5):
                moved[i] = w[i] + step
                losses.append(sum(found.forward()) / BATCH)
            moved[i] = w[i]
            slopes[i] = (losses[0] - losses[1]) / 2e-5
    return slopes


def assert_gradient(
    data: Data, described: dict[str, Any], logs: Path, exchange: str, workers: Program
) -> None:
    job = data.job(described)
    random = np.random.default_rng(8)
    w = job.initial_parameters() + 0.1 * random.standard_normal(job.network.size)
    folder, state = data.folder(described), TrainingState(w.copy(), [])
    with cluster(job, folder, logs, exchange, WORKERS, state, workers) as (found, _):
        list(found.train(0, 1, lambda: False, 1))
        applied = gradient(job, w, found.state().parameters)
    np.testing.assert_allclose(applied, differences(job, w), rtol=1e-6, atol=2e-9)


@pytest.mark.parametrize("exchange", WITH_WORKERS)
@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_layer(
    name: str, exchange: str, data: Data, tmp_path: Path, workers: Program
) -> None:
    described = experiment(NETWORKS[name], "softmax-cross-entropy", "classes")
    assert_gradient(data, described, tmp_path, exchange, workers)


@pytest.mark.parametrize(
    ("dataset", "settings"), [(name, each) for name, some in LOSSES.items() for each in some]
)
def test_every_loss(
    dataset: str, settings: dict[str, Any], data: Data, tmp_path: Path, workers: Program
) -> None:
    layers = [FLAT, dense(5), {"layer": "tanh"}, dense(UNITS[dataset])]
    described = experiment(layers, "hinge", dataset) | settings
    assert_gradient(data, described, tmp_path, "shared", workers)
