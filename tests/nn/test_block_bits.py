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

from dptrain.errors import ShapeError
from dptrain.nn import convolution
from dptrain.nn.activations import ReLU, Sigmoid, Tanh
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from tests.nn.build import LABELLED, VALUED, Problem, problem, weighted
from tests.nn.losses import CASES
from tests.nn.reference import ACTIVATIONS

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
    between = [*ACTIVATIONS, Flatten()]
    for units in draw(st.lists(SIZES, min_size=1, max_size=3)):
        layers += [Dense(units), *draw(st.lists(st.sampled_from(between), max_size=2))]
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


EXTENTS = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 5), st.integers(1, 5)))
POOLS = st.one_of(
    st.builds(MaxPool2D, EXTENTS, st.one_of(st.none(), EXTENTS)),
    st.builds(AvgPool2D, EXTENTS, st.one_of(st.none(), EXTENTS)),
)
CONVOLUTIONS = st.builds(
    Conv2D,
    st.one_of(st.integers(1, 9), st.integers(1, 40)),
    EXTENTS,
    EXTENTS,
    st.one_of(st.just(0), st.integers(0, 2)),
)


@st.composite
def image_problems(draw: st.DrawFn) -> Problem:
    """A random network over images: as many of the layers drawn as fit."""
    side = st.integers(1, 14)
    channels = st.one_of(st.just(()), st.tuples(st.integers(1, 20)))
    shape = draw(st.tuples(side, side)) + draw(channels)
    kinds = st.one_of(CONVOLUTIONS, POOLS, st.sampled_from(ACTIVATIONS))
    layers: list[AnyLayer] = []
    for layer in draw(st.lists(kinds, min_size=1, max_size=5)):
        try:
            Network(shape, [*layers, layer, Flatten(), Dense(1)])
        except ShapeError:
            continue
        layers.append(layer)
    found = problem(
        [*layers, Flatten(), Dense(draw(st.integers(1, 5)))],
        shape,
        draw(st.integers(1, 25)),
        labels=True,
        dtype=draw(st.sampled_from(["float32", "float64"])),
        seed=draw(st.integers(0, 999)),
        misaligned=draw(st.integers(0, 15)),
    )
    if draw(st.booleans()):  # equal values, and zeros of both signs
        np.rint(found.x, out=found.x)
        np.rint(found.parameters, out=found.parameters)
    return found


@settings(max_examples=150)
@given(
    image_problems(),
    st.integers(1, 9),
    st.sampled_from([convolution.PIECE_BYTES, 30_000, 1000]),
    st.data(),
)
def test_blocks_of_images_equal_single_shards(
    task: Problem, shards: int, piece: int, data: st.DataObject
) -> None:
    present = min(task.rows, shards)
    first = data.draw(st.integers(0, present - 1))
    last = data.draw(st.integers(first + 1, present))
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):
        patch.setattr(convolution, "PIECE_BYTES", piece)
        assert_equal(task, first, last, shards)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "shards"), [(100, 4), (97, 4), (300, 2)])
def test_large_blocks_of_images(dtype: str, rows: int, shards: int) -> None:
    """Sizes at which BLAS copies its operands, and shards of several pieces."""
    layers: list[AnyLayer] = [Conv2D(30, 5), ReLU(), MaxPool2D(2), Conv2D(20, 3, padding=1)]
    layers += [ReLU(), AvgPool2D(3, 2), Flatten(), Dense(10)]
    task = problem(layers, (28, 28), rows, labels=True, dtype=dtype, misaligned=3)
    task.parameters *= 0.05
    assert_equal(task, 0, shards, shards)
    assert_equal(task, 1, shards, shards)


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
@pytest.mark.parametrize("name", [*LABELLED, "weighted"])
def test_long_blocks(name: str, dtype: str, rows: int) -> None:
    """More rows in a shard than NumPy's buffer has places, where sums mix float32 and float64."""
    loss = weighted(2) if name == "weighted" else LABELLED[name]
    units = min(2, CASES[name].units)
    task = problem([Dense(3), Tanh(), Dense(units)], 2, rows, labels=True, loss=loss, dtype=dtype)
    assert rows // 5 > np.getbufsize()
    assert_equal(task, 0, 5, 5)
