"""Label smoothing and class weights, and what the sum is divided by."""

import math

import numpy as np
import pytest

from dptrain.errors import ShapeError
from dptrain.nn.dense import Dense
from dptrain.nn.losses import SoftmaxCrossEntropy
from tests.nn.build import Problem, problem, weighted

DTYPES = ["float32", "float64"]


def outputs(dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(8)
    return 2 * random.standard_normal((3, 4, 3)).astype(dtype), random.integers(0, 3, (3, 4))


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_weights_are_a_factor(dtype: str) -> None:
    y, t = outputs(dtype)
    plain = SoftmaxCrossEntropy().bind([y], [t])
    twice = SoftmaxCrossEntropy(class_weights=(2.0, 2.0, 2.0)).bind([y], [t])
    roundings = 10 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(twice.losses(), 2 * np.array(plain.losses()), rtol=roundings)
    expected = 2 * plain.backward(12)[0]
    np.testing.assert_allclose(twice.backward(12)[0], expected, atol=roundings)


def test_a_row_costs_the_same_whoever_is_beside_it() -> None:
    """The sum is divided by the rows, not by their weights."""
    y, t = outputs()
    loss = weighted(3)
    whole = loss.bind([y], [t])
    sums = whole.losses()
    gradient = whole.backward(12)[0].copy()
    for shard in range(3):
        alone = loss.bind([y[shard : shard + 1]], [t[shard : shard + 1]])
        assert alone.losses() == sums[shard : shard + 1]
        assert alone.backward(12)[0].tobytes() == gradient[shard : shard + 1].tobytes()


def test_shards_of_a_weighted_loss_add_up() -> None:
    def task(shards: int) -> tuple[Problem, np.ndarray]:
        found = problem([Dense(3)], 2, 11, labels=True, loss=weighted(3))
        return found, found.gradient(shards)

    whole, gradient = task(1)
    for shards in (2, 3, 4, 11, 20):
        part, same = task(shards)
        assert part.loss(shards) == pytest.approx(whole.loss(1), rel=1e-14)
        np.testing.assert_allclose(same, gradient, rtol=1e-12, atol=1e-15)


def test_a_smoothed_loss_is_least_at_the_smoothed_probabilities() -> None:
    """There it is the entropy of q = (0.8 + 0.2/4, 0.05, 0.05, 0.05), and flat."""
    q = np.array([0.85, 0.05, 0.05, 0.05])
    bound = SoftmaxCrossEntropy(label_smoothing=0.2).bind(
        [np.log(q).reshape(1, 1, 4)], [np.array([[0]])]
    )
    assert bound.losses() == pytest.approx([-(q * np.log(q)).sum()], rel=1e-14)
    np.testing.assert_allclose(bound.backward(1)[0], 0, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_smoothing_keeps_extreme_outputs_finite(dtype: str) -> None:
    y = np.array([[[1e4, 0, -1e4, 1e4]]], dtype)
    bound = SoftmaxCrossEntropy(label_smoothing=0.4).bind([y], [np.array([[2]])])
    # log 2 + (1e4 - y) in the means of q = (.1, .1, .7, .1)
    assert bound.losses() == pytest.approx([math.log(2) + 0.1 * 1e4 + 0.7 * 2e4], rel=1e-6)
    np.testing.assert_allclose(bound.backward(1)[0], [[[0.4, -0.1, -0.7, 0.4]]], atol=1e-6)


def test_nothing_given_is_the_plain_loss() -> None:
    y, t = outputs("float32")
    plain = SoftmaxCrossEntropy().bind([y], [t])
    given = SoftmaxCrossEntropy(0.0, None).bind([y], [t])
    assert plain.losses() == given.losses()
    assert plain.backward(12)[0].tobytes() == given.backward(12)[0].tobytes()


def test_a_weight_for_each_class() -> None:
    SoftmaxCrossEntropy(class_weights=(1.0, 2.0)).check((2,), 2, ())
    with pytest.raises(ShapeError, match=r"class_weights has 2 numbers, .* 3 classes; give one"):
        SoftmaxCrossEntropy(class_weights=(1.0, 2.0)).check((3,), 3, ())
