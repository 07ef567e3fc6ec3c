"""Passes over some of a minibatch's shards: what they hand in, keep, and find wrong."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from dptrain.arithmetic.tree import owned_additions, roots, tree_sum
from dptrain.nn.activations import ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.network import AnyLayer
from dptrain.nn.passes import Arrangement
from tests.nn.build import LABELLED, REGRESS, VALUED, Problem, problem, weighted
from tests.nn.reference import ACTIVATIONS

LAYERS: list[AnyLayer] = [Tanh(), Dense(4), Sigmoid(), Dense(3), ReLU(), Dense(2)]


def small(rows: int = 11, **settings: Any) -> Problem:
    return problem(LAYERS, 5, rows, labels=True, **settings)


def test_a_pass_says_where_its_rows_go() -> None:
    found = small(11).filled(4, 1, 4)
    assert found.blocks == ((1, 2, 3, 3), (3, 1, 2, 9))
    assert [x.shape for x in found.inputs] == [(6, 5), (2, 5)]
    assert [t.shape for t in found.targets] == [(6,), (2,)]
    assert [y.shape for y in found.infer()] == [(2, 3, 2), (1, 2, 2)]
    assert found.first == 1


@pytest.mark.parametrize(("first", "last"), [(0, 5), (0, 2), (1, 3), (2, 5), (4, 5)])
def test_a_pass_hands_in_the_roots_of_its_own_shards(first: int, last: int) -> None:
    found = small(11).filled(5, first, last)
    own = owned_additions(5, first, last)
    assert found.roots == tuple(i - first for i in roots(5, first, last))
    assert found.additions == [(a.into - first, a.other - first) for a in own]
    losses = found.forward()
    assert len(losses) == last - first
    assert len(found.summed_losses(losses)) == len(found.roots)


def test_losses_are_shares_of_the_global_rows_summed_by_the_tree() -> None:
    task = small(11)
    found = task.filled(5)
    losses = found.forward()
    (total,) = found.summed_losses(losses)
    assert total == tree_sum([loss / 11 for loss in losses])
    assert total == pytest.approx(task.loss(), rel=1e-14)
    # of two workers the first hands in one sum, the second one for each of its subtrees
    low, high = task.filled(5, 0, 2), task.filled(5, 2, 5)
    (a,), (b, c) = (each.summed_losses(each.forward()) for each in (low, high))
    assert (a + b) + c == total


def test_shards_without_rows_are_no_work() -> None:
    task = small(3)
    found = task.filled(5, 3, 5)
    assert (found.blocks, found.roots, found.inputs, found.infer()) == ((), (), [], [])
    assert found.forward() == found.summed_losses([]) == found.loss.correct() == []
    told: list[int] = []
    found.backward(told.append)
    assert told == [5, 4, 3, 2, 1, 0]  # whoever waits for the layers of this rank must hear of them
    assert found.trouble() is None
    half = task.filled(5, 2, 5)
    assert len(half.forward()) == 1
    assert half.roots == (0,)


def test_a_layers_gradient_is_final_when_it_is_said_to_be() -> None:
    found = small(11).filled(4)
    found.forward()
    told: list[int] = []
    copies: list[tuple[slice, Any]] = []

    def ready(layer: int) -> None:
        told.append(layer)
        spans = [slice(t.start, t.stop) for t in small().network.tensors[layer]]
        copies.extend((span, found.gradients[0, span].copy()) for span in spans)

    found.backward(ready)
    assert told == [5, 4, 3, 2, 1, 0]
    assert len(copies) == 6
    for span, copy in copies:
        np.testing.assert_array_equal(found.gradients[0, span], copy)


def test_parameters_are_read_where_they_stand() -> None:
    task = small()
    before = task.filled(4).forward()
    task.parameters *= 0.5
    after = task.filled(4).forward()
    assert before != after
    assert after == problem_with(task.parameters).filled(4).forward()


def problem_with(parameters: Any) -> Problem:
    task = small()
    task.parameters[...] = parameters
    return task


def test_gradients_that_nobody_sums() -> None:
    task = small(11)
    expected = []
    for shard in range(4):
        alone = task.filled(4, shard, shard + 1)
        alone.forward()
        alone.backward()
        expected.append(alone.gradients[0].copy())
    found = task.replica.pass_over(Arrangement(11, 4, 0, 4, sums=False))
    for into, given in ((found.inputs, task.x), (found.targets, task.t)):
        for block, array in zip(found.blocks, into, strict=True):
            array[...] = given[block.start : block.start + block.shards * block.rows]
    losses = found.forward()
    found.backward()
    assert found.roots == (0, 1, 2, 3)
    np.testing.assert_array_equal(found.gradients, expected)
    assert found.summed_losses(losses) == [each / 11 for each in losses]
    assert [name for name, _ in found.stages()] == list(task.network.names)
    for _, outputs in found.stages():
        last = [each.copy() for each in outputs]
    for one, other in zip(last, found.infer(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_pass_is_made_once_and_others_leave_it_intact() -> None:
    task = small(11)
    one = task.filled(4, 1, 2)
    expected = one.forward()
    one.backward()
    gradient = one.gradients[0].copy()
    whole = task.filled(4)  # needs more gradients than there were
    whole.forward()
    whole.backward()
    again = task.filled(4, 1, 2)
    assert again is one
    assert again is task.replica.pass_over(Arrangement(11, 4, 1, 2))
    assert task.filled(5, 1, 2) is not one
    assert again.forward() == expected
    again.backward()
    np.testing.assert_array_equal(again.gradients[0], gradient)


def test_the_reduced_gradient_stands_in_one_place_for_all_minibatches() -> None:
    """Updates are bound to it once; the ragged last minibatch is another pass."""
    replica = small().replica
    whole, ragged = (replica.pass_over(Arrangement(rows, 4, 0, 4)) for rows in (11, 3))
    assert whole.gradients[0].ctypes.data == ragged.gradients[0].ctypes.data


def test_inference_needs_no_targets_and_changes_nothing() -> None:
    task = small()
    found = task.filled(4)
    found.forward()
    outputs = [y.copy() for y in found.outputs]
    for targets in found.targets:
        targets[...] = 10**6
    assert all(map(np.array_equal, found.infer(), outputs))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("labels", "loss"),
    [
        *((True, loss) for loss in [*LABELLED.values(), weighted(60)]),
        *((False, loss) for loss in VALUED.values()),
    ],
    ids=[*LABELLED, "weighted", *(f"{name} of values" for name in VALUED)],
)
@pytest.mark.parametrize("rows", [2048, 2046], ids=["even", "uneven"])
def test_nothing_is_allocated_in_a_step(dtype: str, labels: bool, loss: Any, rows: int) -> None:
    layers: list[AnyLayer] = [Flatten(), Dense(90)]
    layers += [each for layer in ACTIVATIONS for each in (layer, Dense(60))]
    task = problem(layers, (8, 8), rows, labels=labels, loss=loss, dtype=dtype)
    task.parameters *= 0.1
    found = task.filled(4)
    found.summed_losses(found.forward())
    found.backward()
    tracemalloc.start()
    try:
        found.summed_losses(found.forward())
        found.backward()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = np.dtype(dtype).itemsize
    # What is left: NumPy's own buffer where an operation broadcasts or mixes types, one at a time
    # and of fixed size; the values picked at the labels; Python's floats and views.
    bound = np.getbufsize() * size + rows * size + 10_000
    assert peak < bound
    assert kept < 5000  # what Python keeps for itself
    # so the smallest activation would have been seen
    assert bound < 0.7 * (rows // 2) * 60 * size


class TestTrouble:
    """Where the first infinity or NaN stands."""

    def test_nothing_is_wrong(self) -> None:
        assert small().filled(4).trouble() is None

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize(("row", "shard"), [(0, 0), (2, 0), (3, 1), (8, 2), (9, 3), (10, 3)])
    def test_in_the_input(self, bad: float, row: int, shard: int) -> None:
        task = small(11)
        task.x[row, 3] = bad
        assert task.filled(4).trouble() == (shard, "input", "value")
        if shard >= 2:
            assert task.filled(4, 2, 4).trouble() == (shard, "input", "value")
        else:
            assert task.filled(4, 2, 4).trouble() is None

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("name", ["dense1.W", "dense1.b", "dense2.W", "dense3.b"])
    def test_in_the_weights(self, bad: float, name: str) -> None:
        task = small(11)
        task.network.views(task.parameters)[name].flat[-1] = bad
        layer = name.partition(".")[0]
        assert task.filled(4).trouble() == (0, layer, "weights")
        assert task.filled(4, 2, 4).trouble() == (2, layer, "weights")

    def test_bad_inputs_are_named_before_the_weights_they_ruined(self) -> None:
        task = small(11)
        task.parameters[...] = math.nan
        task.x[10] = math.nan
        assert task.filled(4).trouble() == (3, "input", "value")

    @pytest.mark.parametrize(("row", "shard"), [(0, 0), (4, 1), (8, 2), (9, 3)])
    def test_an_overflow_in_a_layer(self, row: int, shard: int) -> None:
        task = problem([Dense(4), ReLU(), Dense(3), Dense(2)], 5, 11, labels=True, dtype="float32")
        weights = task.network.views(task.parameters)
        for tensor in weights.values():
            tensor[...] = 1
        weights["dense2.W"][...] = 1e30
        task.x[...] = 0
        task.x[row] = 1e9
        with np.errstate(over="ignore"):
            assert task.filled(4).trouble() == (shard, "dense2", "output")
            assert task.filled(4, shard, shard + 1).trouble() == (shard, "dense2", "output")

    def test_an_overflow_before_a_saturating_activation_that_hides_it(self) -> None:
        task = problem([Dense(4), Sigmoid(), Dense(2)], 5, 8, labels=True, dtype="float32")
        task.parameters[...] = 1e30
        task.x[...] = 1e30
        found = task.filled(4)
        with np.errstate(over="ignore"):
            assert all(math.isfinite(loss) for loss in found.forward())
            assert found.trouble() == (0, "dense1", "output")

    @pytest.mark.parametrize(("row", "shard"), [(0, 0), (4, 1), (10, 3)])
    def test_in_the_loss_alone(self, row: int, shard: int) -> None:
        task = problem([Dense(2)], 3, 11, labels=False, loss=REGRESS)
        task.t[row] = 1e200  # its square is too large
        with np.errstate(over="ignore"):
            assert task.filled(4).trouble() == (shard, "loss", "value")
            assert task.filled(4, shard, 4).trouble() == (shard, "loss", "value")

    def test_in_the_targets(self) -> None:
        task = problem([Dense(2)], 3, 11, labels=False, loss=REGRESS)
        task.t[7, 1] = math.nan
        assert task.filled(4).trouble() == (2, "loss", "value")

    def test_after_a_whole_step_too(self) -> None:
        task = small(11)
        found = task.filled(4)
        found.forward()
        found.backward()
        assert found.trouble() is None
        task.network.views(task.parameters)["dense3.W"][0, 0] = math.nan
        assert found.trouble() == (0, "dense3", "weights")
