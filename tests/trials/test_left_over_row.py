"""Batch norm where a minibatch or a shard has one row, whose variance says nothing."""

from pathlib import Path

import numpy as np
import pytest

import dptrain
from dptrain import BatchNorm, Dense, Flatten, Network
from dptrain.arithmetic.shards import shard_sizes
from dptrain.coordinator.outcome import Outcome
from tests.sessions import run, write_dataset

STEPS = 12  # of 7 in an epoch


def trained(out: Path, data: Path, layer: BatchNorm, rows: int, workers: int) -> Outcome:
    layers = Network((4, 5), [Flatten(), layer, Dense(3)]).description()
    experiment = {"dataset": str(data), "model": "network", "layers": layers, "steps": STEPS}
    experiment |= {"input_shape": [4, 5], "train_rows": rows, "batch_size": 20, "dtype": "float64"}
    return run(experiment, out, workers=workers)


def expected(outcome: Outcome, *, sync: bool) -> np.ndarray:
    """Return the running variance by its definition, from the rows of every minibatch."""
    job = outcome.job
    variance = np.ones(20)
    for step in range(STEPS):
        x = np.asarray(job.dataset.train.take(job.minibatch(step), np.dtype(np.float64))[0])
        x = x.reshape(len(x), -1)
        sizes = [len(x)] if sync else shard_sizes(len(x), job.shards)
        found = np.zeros(20)
        for part in np.split(x, np.cumsum(sizes)[:-1]):
            own = part.var(axis=0, ddof=1) if len(part) > 1 else variance
            found += own * len(part) / len(x)
        variance = 0.9 * variance + 0.1 * found
    return variance


@pytest.mark.filterwarnings("ignore:.*one row:RuntimeWarning")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("sync", "rows"),
    [(True, 121), (True, 122), (False, 121), (False, 124), (False, 126)],
)
def test_the_running_variance_is_of_minibatches_that_have_one(
    tmp_path: Path, sync: bool, rows: int, workers: int
) -> None:
    data = write_dataset(tmp_path / "small.npz")
    layer = BatchNorm(sync=sync)
    outcome = trained(tmp_path / "run", data, layer, rows, workers)
    loaded = dptrain.load_run(outcome.folder.path)[0]
    found = loaded.weights["batchnorm1.variance"]
    np.testing.assert_allclose(found, expected(outcome, sync=sync), rtol=1e-12)
