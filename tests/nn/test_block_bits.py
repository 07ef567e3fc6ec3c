"""The contract's second rule: a block of shards computes what its shards compute, bit for bit.

It is no law of nature but was found by trying: BLAS and NumPy may choose other kernels for other
shapes, strides and alignments. So the properties here are tried anew, at random, in every run.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dptrain.nn.activations import Identity, ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.gelu import GELU
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.rectifiers import LeakyReLU, Softplus
from tests.nn.build import LABELLED, VALUED, Problem, problem, weighted

ACTIVATIONS: list[AnyLayer] = [Sigmoid(), Tanh(), ReLU(), Identity(), Flatten()]
ACTIVATIONS += [LeakyReLU(), Softplus(), GELU(), GELU("tanh")]
# Vectors take other paths than matrices, so sizes of one come up often.
SIZES = st.one_of(st.just(1), st.integers(1, 9), st.integers(1, 130))


def summed(terms: list[NDArray[Any]]) -> NDArray[Any]:
    """Sum in the order of the tree, by its definition."""
    if len(terms) == 1:
        return terms[0]
    half = 1 << (len(terms) - 1).bit_length() - 1
    return np.asarray(summed(terms[:half]) + summed(terms[half:]))


def one_by_one(task: Problem, shards: int) -> tuple[list[float], list[Any], list[Any], list[int]]:
    """Return each shard's loss, outputs, gradient and correct rows, from a pass of its own."""
    losses, outputs, gradients, correct = [], [], [], []
    for shard in range(min(task.rows, shards)):
        alone = task.filled(shards, shard, shard + 1)
        losses += alone.forward()
        outputs.append(alone.outputs[0][0].copy())
        if task.labels:
            correct += alone.loss.correct()
        alone.backward()
        gradients.append(alone.gradients[0].copy())
    return losses, outputs, gradients, correct


def assert_equal(task: Problem, first: int, last: int, shards: int) -> None:
    """Compare a pass over the shards ``first`` to ``last - 1`` with those shards alone."""
    losses, outputs, gradients, correct = one_by_one(task, shards)
    part = task.filled(shards, first, last)
    assert part.forward() == losses[first:last]
    stacked = [shard for block in part.outputs for shard in block]
    assert [y.tobytes() for y in stacked] == [y.tobytes() for y in outputs[first:last]]
    if task.labels:
        assert part.loss.correct() == correct[first:last]
    part.backward()
    for root, end in pairwise([*part.roots, last - first]):
        expected = summed(gradients[first + root : first + end])
        assert part.gradients[root].tobytes() == expected.tobytes()


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """A random network and minibatch."""
    layers: list[AnyLayer] = []
    for units in draw(st.lists(SIZES, min_size=1, max_size=3)):
        layers += [Dense(units), *draw(st.lists(st.sampled_from(ACTIVATIONS), max_size=2))]
    labels = draw(st.booleans())
    units = Network(1, layers).output_shape[0]
    losses = [*LABELLED.values(), weighted(units)] if labels else list(VALUED.values())
    return problem(
        layers,
        draw(SIZES),
        draw(SIZES),
        labels=labels,
        loss=draw(st.sampled_from(losses)),
        dtype=draw(st.sampled_from(["float32", "float64"])),
        seed=draw(st.integers(0, 999)),
        misaligned=draw(st.integers(0, 15)),
    )


@settings(max_examples=150)
@given(problems(), st.integers(1, 9), st.data())
def test_blocks_equal_single_shards(task: Problem, shards: int, data: st.DataObject) -> None:
    present = min(task.rows, shards)
    first = data.draw(st.integers(0, present - 1))
    last = data.draw(st.integers(first + 1, present))
    with np.errstate(over="ignore"):  # exp, on the way to a sigmoid of 0
        assert_equal(task, first, last, shards)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "shards"), [(512, 4), (509, 4)])
def test_large_blocks(dtype: str, rows: int, shards: int) -> None:
    """Sizes at which BLAS copies its operands into tiles."""
    layers: list[AnyLayer] = [Dense(512), ReLU(), Dense(510), Sigmoid(), Dense(10)]
    task = problem(layers, 784, rows, labels=True, dtype=dtype, misaligned=3)
    task.parameters *= 0.05
    with np.errstate(over="ignore"):
        assert_equal(task, 0, shards, shards)
        assert_equal(task, 1, 3, shards)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [45_000, 44_999])
@pytest.mark.parametrize("name", [*LABELLED, "weighted", "binary-single", "hinge-single"])
def test_long_blocks(name: str, dtype: str, rows: int) -> None:
    """More rows in a shard than NumPy's buffer has places, where sums mix float32 and float64."""
    loss = weighted(2) if name == "weighted" else LABELLED[name.removesuffix("-single")]
    units = 1 if name.endswith("single") else 2
    task = problem([Dense(3), Tanh(), Dense(units)], 2, rows, labels=True, loss=loss, dtype=dtype)
    assert rows // 5 > np.getbufsize()
    assert_equal(task, 0, 5, 5)
