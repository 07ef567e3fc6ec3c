"""Jobs made to see something: data and a network in which the gradient shows what was done.

A probe has the seed, minibatches, shards and dtype of the experiment that is checked. Its weights
are 0 and stay so, because the learning rate is smaller than anything the sums could notice, and its
optimizer's state is the reduced gradient of the step.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.prepared import prepare_arrays
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data
from dptrain.experiment.own_code import MEMORY
from dptrain.experiment.schema import Experiment, Settled
from dptrain.experiment.settling import settled_for
from dptrain.gradcheck.distributed import Way, begin, engine, gradient_of, recording, steps
from dptrain.launch.local import WORKER, Program
from dptrain.nn.dense import Dense
from dptrain.nn.initializers import Zeros
from dptrain.nn.network import AnyLayer, Network

Array = NDArray[Any]

STILL = 1e-300
EPOCHS = 2


def probe(
    folder: Path,
    experiment: Settled,
    layers: Sequence[AnyLayer],
    x: Array,
    t: Array,
    batch_size: int,
    weights: Array | None = None,
    **settings: Any,
) -> Job:
    """Return a job on its own data, with a linear layer behind some layers.

    It is for two epochs, and trains on all rows, unless it is told otherwise.

    Args:
        folder: where the data go.
        experiment: settled; the one that is checked.
        layers: before the linear one.
        x: inputs ``(rows, features)``.
        t: targets ``(rows, outputs)``, of a squared error.
        batch_size: of the probe.
        weights: of its rows, ``(rows,)``.
        settings: of the probe's experiment besides, such as ``train_rows``.
    """
    prepare_arrays(
        folder, x_train=x, t_train=t, w_train=weights, dtype=experiment.dtype, task="regression"
    )
    network = Network(x.shape[1:], [*layers, Dense(t.shape[1], Zeros())])
    described: dict[str, Any] = {
        "dataset": MEMORY,
        "layers": network.description(),
        "input_shape": list(x.shape[1:]),
        "loss": "mean-squared-error",
        "optimizer": "momentum",
        "lr": STILL,
        "batch_size": batch_size,
        "shards": experiment.shards,
        "dtype": experiment.dtype,
        "seed": experiment.seed,
        "epochs": EPOCHS,
        "validation": 0.0,
        "test": 0.0,
    }
    found = Experiment(**(described | settings))
    dataset = opened_data(found, folder)
    settled = settled_for(found, dataset, 1, None)
    return Job(recording(settled), dataset)


def weight_gradients(
    job: Job,
    folder: Path,
    way: Way,
    *,
    worker: Program = WORKER,
    timeout: float = 30.0,
) -> Array:
    """Return the gradient of the linear layer's weights, ``(steps, inputs, outputs)``.

    Args:
        job: a probe.
        folder: of its data.
        way: exchange and workers.
        worker: as of `engine`.
        timeout: likewise.
    """
    tensor = next(t for t in job.network.all_tensors() if t.name == "dense1.W")
    state = begin(job, np.zeros(job.network.size))
    with engine(job, folder, way, state, worker=worker, timeout=timeout) as found:
        seen = [gradient_of(step) for step in steps(found, 0, job.total_steps)]
    return np.array([g[tensor.start : tensor.stop].reshape(tensor.shape) for g in seen], float)
