"""Every layer and loss against central differences in float64, with all kinds of shards."""

import numpy as np
import pytest

from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.initializers import Normal
from dptrain.nn.network import AnyLayer
from tests.nn.build import CLASSIFY, REGRESS, problem

WIDE = Normal(1.0)
NETWORKS: dict[str, list[AnyLayer]] = {
    "dense": [Dense(3)],
    "sigmoid": [Dense(5), Sigmoid(), Dense(3)],
    "tanh": [Dense(5), Tanh(), Dense(3)],
    "relu": [Dense(5), ReLU(), Dense(3)],
    "identity": [Dense(5), Identity(), Dense(3)],
    "activation on activation": [
        Dense(5),
        Sigmoid(),
        Tanh(),
        Dense(4),
        ReLU(),
        Identity(),
        Dense(3),
    ],
    "identity between": [Dense(5), Identity(), Sigmoid(), Identity(), Tanh(), Dense(3)],
    "activation first": [Tanh(), Dense(5), Sigmoid(), Dense(3)],
    "activation last": [Dense(5), Sigmoid(), Dense(3), Tanh()],
    "flatten in the middle": [Dense(5), Flatten(), Sigmoid(), Dense(3)],
    "relu last": [Dense(3), ReLU()],
}


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("loss", [CLASSIFY, REGRESS], ids=["cross-entropy", "squares"])
@pytest.mark.parametrize(("rows", "shards"), [(12, 4), (11, 4), (3, 5)])
def test_gradients_are_central_differences(name: str, loss: object, rows: int, shards: int) -> None:
    task = problem(NETWORKS[name], 4, rows, labels=True, loss=loss, seed=3)
    np.testing.assert_allclose(task.gradient(shards), task.differences(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("rows", "shards"), [(12, 4), (7, 4)])
def test_real_targets(rows: int, shards: int) -> None:
    task = problem([Dense(5), Tanh(), Dense(2)], 4, rows, labels=False)
    np.testing.assert_allclose(task.gradient(shards), task.differences(), rtol=1e-6, atol=1e-8)


def test_images_are_flattened() -> None:
    task = problem([Flatten(), Dense(5), Sigmoid(), Dense(3)], (3, 2), 6, labels=True)
    np.testing.assert_allclose(task.gradient(4), task.differences(), rtol=1e-6, atol=1e-8)


def test_the_number_of_shards_changes_only_rounding() -> None:
    task = problem([Dense(7), Tanh(), Dense(3)], 5, 23, labels=True)
    whole = task.gradient(1)
    for shards in (2, 3, 5, 23, 40):
        np.testing.assert_allclose(task.gradient(shards), whole, rtol=1e-12, atol=1e-14)


def test_the_inputs_are_left_alone() -> None:
    task = problem([Identity(), Sigmoid(), Dense(3)], 4, 8, labels=True)
    found = task.filled(4)
    before = found.inputs[0].copy()
    found.forward()
    found.backward()
    np.testing.assert_array_equal(found.inputs[0], before)
