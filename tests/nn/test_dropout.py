"""Dropout: which elements are left out, and what that does to both passes."""

from typing import Any

import numpy as np
import pytest

from dptrain.arithmetic.randomness import Purpose, SteppedUniform, generator
from dptrain.errors import UsageError
from dptrain.nn.dense import Dense
from dptrain.nn.dropout import Dropout
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.passes import Arrangement, Replica, TargetForm, evaluation
from tests.nn.build import CLASSIFY, problem

ONES = 40


def dropped(
    rate: float = 0.3,
    *,
    rows: int = 12,
    shards: int = 4,
    step: int = 0,
    seed: int = 1,
    dtype: str = "float64",
    before: list[AnyLayer] | None = None,
) -> Any:
    """Return what dropout makes of ones, ``(rows, ONES)``, and its masks."""
    network = Network(ONES, [*(before or []), Dropout(rate), Dense(2)])
    replica = Replica(
        network,
        CLASSIFY,
        [np.zeros(network.size, dtype)],
        TargetForm((), np.dtype(np.int64)),
        seed=seed,
    )
    found = replica.pass_over(Arrangement(rows, shards, 0, shards))
    for x, t in zip(found.inputs, found.targets, strict=True):
        x[...], t[...] = 1, 0
    found.moment.step = step
    found.forward()
    operation: Any = found.operations[len(before or [])].operation
    return np.concatenate([y.reshape(-1, ONES) for y in operation.outputs])


def test_what_is_kept_is_scaled_up() -> None:
    found = dropped(0.3, rows=500)
    np.testing.assert_allclose(np.unique(found), [0, 1 / 0.7], rtol=1e-15)
    # 20,000 draws: the fraction kept is off by more than 0.013 once in 10,000 seeds
    assert np.mean(found > 0) == pytest.approx(0.7, abs=0.013)
    assert np.unique(dropped(0.0)).tolist() == [1.0]


def test_masks_differ_by_shard_step_seed_and_layer() -> None:
    base = dropped()
    shards = base.reshape(4, -1)
    assert len({shard.tobytes() for shard in shards}) == 4
    others = [dropped(step=1), dropped(seed=2), dropped(before=[Dropout(0.0)])]
    assert len({each.tobytes() for each in [base, *others]}) == 4
    assert dropped().tobytes() == base.tobytes()


def test_masks_are_the_same_whoever_computes_the_shard_and_in_what_precision() -> None:
    assert np.array_equal(dropped(dtype="float32") > 0, dropped() > 0)
    task = problem([Dropout(), Dense(3)], ONES, 11, seed=1, labels=True)
    whole = task.filled(4)
    whole.moment.step = 5
    whole.forward()
    together = np.concatenate([y.reshape(-1, ONES) for y in outputs_of(whole)])
    alone = []
    for shard in range(4):
        part = task.filled(4, shard, shard + 1)
        part.moment.step = 5
        part.forward()
        alone += [y.reshape(-1, ONES) for y in outputs_of(part)]
    np.testing.assert_array_equal(np.concatenate(alone), together)


def outputs_of(found: Any) -> Any:
    return found.operations[0].operation.outputs


@pytest.mark.parametrize("shards", [1, 4, 20])
def test_the_gradient_is_that_of_the_same_mask(shards: int) -> None:
    layers: list[AnyLayer] = [Dense(5), Dropout(0.4), Dense(4), Dropout(0.4), Dense(3)]
    task = problem(layers, 4, 11, seed=3, labels=True)
    np.testing.assert_allclose(task.gradient(shards), task.differences(shards), 1e-7, 1e-9)


def test_outside_of_training_nothing_is_left_out() -> None:
    network = Network(ONES, [Dropout(0.9), Dense(ONES)])
    flat = np.concatenate([np.eye(ONES).ravel(), np.zeros(ONES)])
    replica = Replica(network, CLASSIFY, [flat], TargetForm((), np.dtype(np.int64)))
    found = replica.pass_over(evaluation(3))
    found.inputs[0][...] = np.arange(3 * ONES).reshape(3, ONES)
    np.testing.assert_array_equal(found.infer()[0][0], found.inputs[0])


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_rates_that_are_none(rate: float) -> None:
    with pytest.raises(UsageError, match="dropout rate"):
        Dropout(rate)


def test_a_stepped_stream_is_that_of_its_key() -> None:
    stream = SteppedUniform(7, Purpose.DROPOUT, 2, 1)
    first, later = np.empty(33, np.float32), np.empty(33, np.float32)
    stream.fill(0, first)
    expected = generator(7, Purpose.DROPOUT, 2, 1).random(33, dtype=np.float32)
    np.testing.assert_array_equal(first, expected)
    stream.fill(9, later)
    assert not np.intersect1d(first, later).size
    stream.fill(0, later)
    np.testing.assert_array_equal(first, later)
