"""The star's buckets and its reducer, without a socket."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dptrain.arithmetic.shards import assign, present_shards
from dptrain.arithmetic.tree import owned_additions, roots, tree_sum
from dptrain.data.dataset import open_dataset
from dptrain.data.prepared import prepare_arrays
from dptrain.errors import ProtocolError
from dptrain.exchange.buckets import BUCKET_BYTES, buckets
from dptrain.exchange.rank import initial_state
from dptrain.exchange.star import StarReducer
from dptrain.experiment.defaults import settle
from dptrain.experiment.job import Job
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.nn.activations import ReLU
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.network import AnyLayer, Network

WIDE = "mlp:20-700-700-3"  # two layers of more than a bucket


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    return prepare_arrays(
        tmp_path_factory.mktemp("data") / "data",
        x_train=random.standard_normal((30, 20)),
        t_train=np.arange(30) % 3,
        dtype="float32",
    )


def job(data: Path, **settings: Any) -> Job:
    dataset = open_dataset(data, validation=0.0, test=0.2, seed=0)
    values = {"model": WIDE, "optimizer": "momentum", "shards": 6} | settings
    experiment = build(Experiment, values, "the test")
    return Job(settle(experiment, 1, 3, len(dataset.train), dataset.digest), dataset)


def test_buckets_cover_the_vector_from_its_end() -> None:
    layers: list[AnyLayer] = [
        Flatten(),
        Dense(500),
        ReLU(),
        Dense(10),
        ReLU(),
        Dense(900),
        ReLU(),
        Dense(3),
    ]
    network = Network((10, 20), layers)
    found = buckets(network, 4)
    assert found[0].stop == network.size
    assert [b.start for b in found[:-1]] == [b.stop for b in found[1:]]
    assert found[-1].start == 0
    assert [b.layer for b in found] == sorted((b.layer for b in found), reverse=True)
    assert all((b.stop - b.start) * 4 >= BUCKET_BYTES for b in found[:-1])
    for bucket in found:
        assert network.tensors[bucket.layer][0].start == bucket.start


def hand_in(
    reducer: StarReducer, gradients: np.ndarray, world_size: int, rows: int, bucket: int
) -> None:
    """Hand in the sums that the ranks would send of single-shard gradients."""
    shards = reducer.job.shards
    leaves = present_shards(rows, shards)
    _, start, stop = reducer.buckets[bucket]
    for first, last in reversed(assign(shards, world_size)):
        own = gradients[:, start:stop].copy()
        for into, other, _ in owned_additions(leaves, first, last):
            own[into] += own[other]
        at = roots(leaves, first, last)
        reducer.take(bucket, at, [own[root].tobytes() for root in at])


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(1, 24), st.integers(0, 99))
def test_any_number_of_ranks_gives_the_weights_of_the_tree_sum(
    data: Path, world_size: int, rows: int, seed: int
) -> None:
    task = job(data)
    parameters, slots = initial_state(task)
    random = np.random.default_rng(seed)
    leaves = present_shards(rows, task.shards)
    gradients = random.standard_normal((leaves, task.network.size)).astype(np.float32)
    reducer = StarReducer(task, world_size, parameters.copy(), slots)
    for bucket in range(len(reducer.buckets)):
        hand_in(reducer, gradients, world_size, rows, bucket)
        assert reducer.reduce(0, bucket, rows) == [bucket]
        assert reducer.state().parameters.tobytes() == parameters.tobytes()
    reducer.commit()
    expected = parameters - np.float32(0.01) * tree_sum(list(gradients))
    assert reducer.state().parameters.tobytes() == expected.tobytes()
    sent = b"".join(
        bytes(reducer.weights(bucket, committed=True))
        for bucket in reversed(range(len(reducer.buckets)))
    )
    assert sent == expected.tobytes()


def test_clipping_waits_for_the_last_bucket(data: Path) -> None:
    task = job(data, clip_norm=0.5, optimizer="sgd", lr=1.0)
    parameters, slots = initial_state(task)
    reducer = StarReducer(task, 1, parameters.copy(), slots)
    gradients = np.ones((6, task.network.size), np.float32)
    count = len(reducer.buckets)
    assert count > 1
    for bucket in range(count):
        hand_in(reducer, gradients, 1, 24, bucket)
        assert reducer.reduce(0, bucket, 24) == (list(range(count)) if bucket == count - 1 else [])
    reducer.commit()
    moved = parameters.astype(float) - reducer.state().parameters
    assert np.linalg.norm(moved) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("frames", [[], [b"short"], [b"", b""]])
def test_frames_that_do_not_fit_are_refused(data: Path, frames: list[bytes]) -> None:
    task = job(data)
    reducer = StarReducer(task, 1, *initial_state(task))
    with pytest.raises(ProtocolError, match="frames of"):
        reducer.take(0, (0,), frames)
