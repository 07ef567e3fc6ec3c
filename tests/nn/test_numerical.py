"""Gradients by central differences, against backpropagation."""

from typing import Any

import numpy as np
import pytest

from dptrain.errors import UsageError
from dptrain.nn import numerical
from dptrain.nn.activations import Sigmoid, Tanh
from dptrain.nn.batchnorm import BatchNorm
from dptrain.nn.dense import Dense
from dptrain.nn.dropout import Dropout
from dptrain.nn.network import Network
from dptrain.nn.numerical import NumericalPass
from dptrain.nn.passes import Arrangement, Pass, Replica, TargetForm
from tests.nn.build import CLASSIFY

NETWORK = Network(4, [Dense(5), Sigmoid(), Dropout(0.3), Dense(4), Tanh(), Dense(3)], ["dense2.b"])
ROWS = 11


def gradients(kind: Any, shards: int, first: int, last: int) -> Any:
    """Return what a rank with these shards hands in."""
    random = np.random.default_rng(2)
    w = random.standard_normal(NETWORK.size)
    before = w.copy()
    replica = Replica(NETWORK, CLASSIFY, [w], TargetForm((), np.dtype(np.int64)), kind=kind)
    x, t = random.standard_normal((ROWS, 4)), random.integers(0, 3, ROWS)
    found = replica.pass_over(Arrangement(ROWS, shards, first, last))
    found.moment.step = 3
    for block, inputs, targets in zip(found.blocks, found.inputs, found.targets, strict=True):
        rows = slice(block.start, block.start + block.shards * block.rows)
        inputs[...], targets[...] = x[rows], t[rows]
    losses = found.forward()
    told: list[int] = []
    found.backward(told.append)
    assert told == [5, 4, 3, 2, 1, 0]
    np.testing.assert_array_equal(w, before)  # other ranks compute with the very same weights
    return losses, found.gradients[list(found.roots)].copy()


@pytest.mark.parametrize(
    ("shards", "first", "last"), [(1, 0, 1), (4, 0, 4), (4, 1, 3), (20, 9, 20)]
)
def test_differences_are_backpropagations_gradients(shards: int, first: int, last: int) -> None:
    losses, found = gradients(NumericalPass, shards, first, last)
    expected_losses, expected = gradients(Pass, shards, first, last)
    assert losses == expected_losses
    for tensor in NETWORK.all_tensors():
        part = slice(tensor.start, tensor.stop)
        if tensor.frozen:
            np.testing.assert_array_equal(found[:, part], 0)
        else:
            np.testing.assert_allclose(found[:, part], expected[:, part], rtol=1e-6, atol=1e-8)


def test_a_long_step_shows_life_after_every_parameter() -> None:
    w, calls = np.ones(NETWORK.size), []
    replica = Replica(
        NETWORK, CLASSIFY, [w], TargetForm((), np.dtype(np.int64)), kind=NumericalPass
    )
    found = replica.pass_over(Arrangement(ROWS, 2, 0, 1))
    found.alive = lambda: calls.append(1)
    found.forward()
    assert not calls
    found.backward()
    assert len(calls) == sum(t.stop - t.start for t in NETWORK.all_tensors() if t.trained)


def test_running_averages_have_no_difference() -> None:
    with pytest.raises(UsageError, match="running averages"):
        numerical.check(Network(4, [Dense(3), BatchNorm()]))
    numerical.check(NETWORK)
