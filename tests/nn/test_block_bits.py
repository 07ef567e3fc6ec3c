"""The contract's second rule: a block of shards computes what its shards compute, bit for bit."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from dptrain.arithmetic.tree import tree_sum
from dptrain.nn.activations import ReLU, Sigmoid, Tanh
from dptrain.nn.dense import Dense
from dptrain.nn.network import AnyLayer
from tests.nn.build import CLASSIFY, REGRESS, Problem, problem

ACTIVATIONS: list[AnyLayer] = [Sigmoid(), Tanh(), ReLU()]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Problem, int]:
    """A random network and minibatch, and a number of shards."""
    layers: list[AnyLayer] = [
        Dense(draw(st.integers(1, 70))),
        draw(st.sampled_from(ACTIVATIONS)),
        Dense(draw(st.integers(2, 12))),
    ]
    labels = draw(st.booleans())
    task = problem(
        layers,
        draw(st.integers(1, 130)),
        draw(st.integers(1, 60)),
        labels=labels,
        loss=CLASSIFY if labels else REGRESS,
        dtype=draw(st.sampled_from(["float32", "float64"])),
        seed=draw(st.integers(0, 999)),
    )
    return task, draw(st.integers(1, 9))


@settings(max_examples=60)
@given(problems(), st.data())
def test_blocks_equal_single_shards(case: tuple[Problem, int], data: st.DataObject) -> None:
    task, shards = case
    present = min(task.rows, shards)
    losses, gradients = [], []
    for shard in range(present):
        alone = task.filled(shards, shard, shard + 1)
        losses += alone.forward()
        alone.backward()
        gradients.append(alone.gradients[0].copy())
    first = data.draw(st.integers(0, present - 1))
    last = data.draw(st.integers(first + 1, present))
    part = task.filled(shards, first, last)
    assert part.forward() == losses[first:last]
    part.backward()
    if (first, last) == (0, present):
        assert part.gradients[0].tobytes() == tree_sum(gradients).tobytes()
    for root in part.roots:
        if root + 1 >= last - first or root + 1 in part.roots:  # a single shard
            assert part.gradients[root].tobytes() == gradients[first + root].tobytes()


def test_nothing_is_allocated_in_a_step() -> None:
    task = problem([Dense(300), ReLU(), Dense(200), Sigmoid(), Dense(10)], 400, 256, labels=True)
    task.parameters *= 0.1
    found = task.filled(4)
    found.forward()
    found.backward()
    tracemalloc.start()
    try:
        found.forward()
        found.backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The smallest buffer of the pass has 20 kB. What is left are values picked at the labels,
    # 2 kB, NumPy's buffers for casting, at most 64 kB, and Python's own small objects.
    assert peak < 100_000
