"""Every layer and loss against derivatives from elsewhere, in float64, with all kinds of shards."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.gelu import GELU
from dptrain.nn.network import AnyLayer
from dptrain.nn.rectifiers import LeakyReLU, Softplus
from tests.nn import reference
from tests.nn.build import CLASSIFY, REGRESS, Problem, problem
from tests.nn.losses import CASES, cross_entropies, squared_errors

NETWORKS: dict[str, list[AnyLayer]] = {
    "dense": [Dense(3)],
    "dense on dense": [Dense(5), Dense(3)],
    "rectifier on rectifier": [Dense(5), GELU(), Softplus(), Dense(4), LeakyReLU(), Sigmoid()],
    "rectifier first": [Softplus(), Dense(5), GELU(), Dense(3), GELU()],
    "activation on activation": [Dense(5), Sigmoid(), Tanh(), Dense(4), ReLU(), Identity()],
    "identity before activation": [Dense(5), Identity(), Sigmoid(), Dense(3)],
    "identity between activations": [Dense(5), Tanh(), Identity(), Sigmoid(), Dense(3)],
    "activation first": [Tanh(), Dense(5), Sigmoid(), Dense(3)],
    "identity first": [Identity(), Sigmoid(), Dense(3)],
    "activation last": [Dense(5), Sigmoid(), Dense(3), Tanh()],
    "relu last": [Dense(3), ReLU()],
    "flatten first": [Flatten(), Sigmoid(), Dense(3)],
    "flatten in the middle": [Dense(5), Flatten(), Sigmoid(), Flatten(), Dense(3)],
    "flatten last": [Dense(5), Tanh(), Dense(3), Flatten()],
}
NETWORKS |= {str(each): [Dense(5), each, Dense(3)] for each in reference.ACTIVATIONS}
KINDS: dict[str, tuple[dict[str, Any], Any]] = {
    "cross-entropy": ({"labels": True, "loss": CLASSIFY}, cross_entropies),
    "squares": ({"labels": False, "loss": REGRESS}, squared_errors),
    "squares of labels": ({"labels": True, "loss": REGRESS}, squared_errors),
}
SHARDS = {"even": (12, 4), "uneven": (11, 4), "empty": (3, 5), "one": (5, 1), "single rows": (4, 4)}
# Central differences with h = 1e-5 are off by h² f''' / 6 and 1e-16 f / h, both near 1e-11 here.
DIFFERENCES: Any = {"rtol": 1e-7, "atol": 1e-9}


def expected(task: Problem, kind: str) -> Any:
    rows = KINDS[kind][1] if kind in KINDS else CASES[kind].rows
    return reference.gradient(task.network.layers, task.parameters, task.x, task.t, rows)


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_gradients_are_those_of_the_plain_network(name: str, kind: str) -> None:
    for what, (rows, shards) in SHARDS.items():
        task = problem(NETWORKS[name], 4, rows, seed=3, **KINDS[kind][0])
        np.testing.assert_allclose(
            task.gradient(shards), expected(task, kind), rtol=1e-11, atol=1e-13, err_msg=what
        )


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_gradients_are_central_differences(name: str, kind: str) -> None:
    for what in ("even", "uneven", "empty"):
        rows, shards = SHARDS[what]
        task = problem(NETWORKS[name], 4, rows, seed=3, **KINDS[kind][0])
        assert reference.margin(task.network.layers, task.parameters, task.x) > 1e-3
        np.testing.assert_allclose(
            task.gradient(shards), task.differences(shards), **DIFFERENCES, err_msg=what
        )


@pytest.mark.parametrize("kind", [name for name in CASES if name not in KINDS])
def test_gradients_of_the_other_losses(kind: str) -> None:
    loss, labels, units, *_ = CASES[kind]
    layers: list[AnyLayer] = [Dense(5), Tanh(), Dense(units)]
    for what, (rows, shards) in SHARDS.items():
        task = problem(layers, 4, rows, seed=3, labels=labels, loss=loss)
        found = task.gradient(shards)
        assert found.any()
        np.testing.assert_allclose(
            found, expected(task, kind), rtol=1e-11, atol=1e-13, err_msg=what
        )
        np.testing.assert_allclose(found, task.differences(shards), **DIFFERENCES, err_msg=what)


@pytest.mark.parametrize("kind", list(KINDS))
def test_images_are_flattened(kind: str) -> None:
    task = problem(
        [Flatten(), Dense(5), Sigmoid(), Dense(3)], (1, 3, 2), 7, seed=1, **KINDS[kind][0]
    )
    np.testing.assert_allclose(task.gradient(4), task.differences(4), **DIFFERENCES)
    np.testing.assert_allclose(task.gradient(4), expected(task, kind), rtol=1e-11, atol=1e-13)


@st.composite
def rows_of_layers(draw: st.DrawFn) -> list[AnyLayer]:
    """Any row of layers, so that any of them may wish to overwrite what another still needs."""
    known: list[AnyLayer] = [*reference.ACTIVATIONS, Flatten(), Dense(1), Dense(3)]
    some = st.lists(st.sampled_from(known), max_size=4)
    return [*draw(some), Dense(2), *draw(some)]


@settings(max_examples=150)
@given(rows_of_layers(), st.sampled_from(list(KINDS)), st.integers(1, 7), st.integers(1, 5))
def test_no_layer_overwrites_what_another_needs(
    layers: list[AnyLayer], kind: str, rows: int, shards: int
) -> None:
    task = problem(layers, 3, rows, seed=4, **KINDS[kind][0])
    found = task.filled(shards)
    before = [x.copy() for x in found.inputs]
    sums = found.forward()
    plain = reference.activations(layers, task.parameters, task.x)[-1]
    outputs = np.concatenate([y.reshape(-1, y.shape[-1]) for y in found.outputs])
    np.testing.assert_allclose(outputs, plain, rtol=1e-11, atol=1e-13)
    found.backward()
    first = found.gradients[0].copy()
    np.testing.assert_allclose(first, expected(task, kind), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.concatenate(found.inputs), np.concatenate(before))
    assert found.forward() == sums
    found.backward()
    assert found.gradients[0].tobytes() == first.tobytes()


def test_the_number_of_shards_changes_only_rounding() -> None:
    task = problem([Dense(7), Tanh(), Dense(3)], 5, 23, labels=True)
    whole = task.gradient(1)
    for shards in (2, 3, 5, 23, 40):
        np.testing.assert_allclose(task.gradient(shards), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_float32_is_the_same_up_to_its_rounding(name: str, kind: str) -> None:
    double = problem(NETWORKS[name], 4, 11, seed=3, **KINDS[kind][0])
    single = problem(NETWORKS[name], 4, 11, seed=3, dtype="float32", **KINDS[kind][0])
    found = single.gradient(4)
    assert found.dtype == np.float32
    exact = double.gradient(4)
    # sums of at most 11 rows and 5 units of numbers near 1, in two or three layers
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-5 * np.abs(exact).max())
