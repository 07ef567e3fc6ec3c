"""Losses bound to outputs and targets: values, gradients, corners, and what does not fit."""

import math
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.errors import ShapeError
from dptrain.experiment.schema import LOSS_FIELDS
from dptrain.experiment.setting_types import LossName
from dptrain.nn.dense import Dense
from dptrain.nn.loss import BoundLoss
from dptrain.nn.losses import LOSSES, AnyLoss, SoftmaxCrossEntropy, SumOfSquares
from tests.nn.build import CLASSIFY, REGRESS, problem

Array = NDArray[Any]
DTYPES = ["float32", "float64"]
# (shards, rows of each shard) of every block: even, uneven, a single row, nothing
BLOCKS = {"even": [(4, 3)], "uneven": [(2, 3), (3, 2)], "one row": [(1, 1)], "nothing": []}


def case(shapes: list[tuple[int, int]], units: int, dtype: str) -> tuple[list[Array], list[Array]]:
    """Return random outputs and labels in blocks."""
    random = np.random.default_rng(2)
    outputs = [random.standard_normal((*s, units)).astype(dtype) * 3 for s in shapes]
    return outputs, [random.integers(0, units, s) for s in shapes]


def shards_of(blocks: list[Array]) -> list[Array]:
    return [shard for block in blocks for shard in block]


def minus_log_softmax(row: Array, label: int) -> float:
    """By the definition, in Python's floats, rounded once in the sum."""
    powers = [math.exp(float(v)) for v in row]
    return -math.log(powers[label] / math.fsum(powers))


def half_squares(row: Array, goal: Array) -> float:
    return math.fsum((float(y) - float(t)) ** 2 for y, t in zip(row, goal, strict=True)) / 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("units", [1, 2, 7])
def test_cross_entropy_is_minus_log_softmax_summed_over_each_shard(
    shapes: list[tuple[int, int]], units: int, dtype: str
) -> None:
    outputs, labels = case(shapes, units, dtype)
    before = [y.copy() for y in outputs]
    found = CLASSIFY.bind(outputs, labels).losses()
    expected = [
        math.fsum(minus_log_softmax(*row) for row in zip(y, t, strict=True))
        for y, t in zip(shards_of(outputs), shards_of(labels), strict=True)
    ]
    # log Σ exp has an error of a few roundings of the shifted outputs, which are below 30
    assert found == pytest.approx(expected, rel=1e-14, abs=60 * float(np.finfo(dtype).eps))
    assert all(map(np.array_equal, outputs, before))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "values"])
def test_squares_are_summed_over_each_shard(
    shapes: list[tuple[int, int]], labelled: bool, dtype: str
) -> None:
    outputs, labels = case(shapes, 5, dtype)
    values = [
        np.eye(5)[t] if labelled else y[..., ::-1] for y, t in zip(outputs, labels, strict=True)
    ]
    found = REGRESS.bind(outputs, labels if labelled else values).losses()
    expected = [
        math.fsum(half_squares(*row) for row in zip(y, t, strict=True))
        for y, t in zip(shards_of(outputs), shards_of(values), strict=True)
    ]
    assert found == pytest.approx(expected, rel=20 * float(np.finfo(dtype).eps))


def differences(loss: BoundLoss, outputs: list[Array], step: float = 1e-5) -> list[Array]:
    """Return central differences of the sum of all losses in every output."""
    found = [np.empty_like(y) for y in outputs]
    for block, slopes in zip(outputs, found, strict=True):
        for place in np.ndindex(block.shape):
            value = block[place]
            block[place] = value + step
            above = math.fsum(loss.losses())
            block[place] = value - step
            slopes[place] = (above - math.fsum(loss.losses())) / (2 * step)
            block[place] = value
    return found


@pytest.mark.parametrize("loss", [CLASSIFY, REGRESS], ids=["cross-entropy", "squares"])
@pytest.mark.parametrize("shapes", BLOCKS.values(), ids=BLOCKS)
def test_gradients_are_central_differences_over_the_global_rows(
    loss: AnyLoss, shapes: list[tuple[int, int]]
) -> None:
    outputs, labels = case(shapes, 4, "float64")
    bound = loss.bind(outputs, labels)
    expected = differences(bound, outputs)
    for rows in (1, 12, 1000):  # of the whole minibatch; here may be only some of its shards
        bound.losses()
        for found, slopes in zip(bound.backward(rows), expected, strict=True):
            np.testing.assert_allclose(found, slopes / rows, rtol=1e-7, atol=1e-9 / rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_cross_entropy_sum_to_nothing(dtype: str) -> None:
    outputs, labels = case([(3, 20)], 10, dtype)
    bound = CLASSIFY.bind(outputs, labels)
    bound.losses()
    (gradient,) = bound.backward(60)
    assert np.abs(gradient.sum(axis=-1)).max() <= 10 * float(np.finfo(dtype).eps) / 60


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("large", [1e4, 1e30])
def test_extreme_logits_neither_overflow_nor_vanish(dtype: str, large: float) -> None:
    y = np.array([[[large, -large, 0], [-large, large, 0], [large, large, -large]]], dtype)
    size = float(y[0, 0, 0])
    bound = CLASSIFY.bind([y], [np.array([[0, 0, 1]])])
    (found,) = bound.losses()  # a warning would fail the test
    assert found == pytest.approx(0 + 2 * size + math.log(2), rel=1e-6)
    (gradient,) = bound.backward(1)
    np.testing.assert_array_equal(gradient[0], [[0, 0, 0], [-1, 1, 0], [0.5, -0.5, 0]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_confidence_is_not_rounded_to_certainty(dtype: str) -> None:
    """A logit ahead by 20 leaves a probability of 2e-9 for the other, not 0."""
    bound = CLASSIFY.bind([np.array([[[20.0, 0.0]]], dtype)], [np.array([[1]])])
    assert bound.losses() == pytest.approx([20 + math.exp(-20)], rel=1e-7)
    assert bound.backward(1)[0][0, 0, 0] == pytest.approx(1)


def test_extreme_weights_stay_finite_through_a_network() -> None:
    for dtype in DTYPES:
        task = problem([Dense(3)], 2, 6, labels=True, dtype=dtype)
        task.parameters *= 1e4
        assert np.isfinite(task.gradient(4)).all()
        assert np.isfinite(task.loss(4))


@pytest.mark.parametrize("loss", [CLASSIFY, REGRESS], ids=["cross-entropy", "squares"])
def test_rows_are_accumulated_in_float64(loss: AnyLoss) -> None:
    random = np.random.default_rng(3)
    y = random.standard_normal((1, 30_000, 2)).astype(np.float32)
    bound = loss.bind([y], [np.zeros((1, 30_000), np.int64)])
    (found,) = bound.losses()
    exact = math.fsum(bound.rows[0].ravel().tolist())
    assert found == pytest.approx(exact, rel=1e-13)
    assert float(np.add.reduce(bound.rows[0][0])) != pytest.approx(exact, rel=1e-9)


def test_correct_counts_the_rows_whose_largest_output_is_at_the_label() -> None:
    outputs, labels = case([(2, 30), (3, 29)], 3, "float32")
    bound = CLASSIFY.bind(outputs, labels)
    expected = [
        sum(
            max(range(3), key=row.tolist().__getitem__) == label
            for row, label in zip(y, t, strict=True)
        )
        for y, t in zip(shards_of(outputs), shards_of(labels), strict=True)
    ]
    assert bound.correct() == expected
    assert 0 < sum(expected) < 147
    bound.losses()
    bound.backward(147)
    assert bound.correct() == expected


def test_of_equal_outputs_the_first_is_the_answer() -> None:
    y = np.ones((2, 3, 4))
    assert CLASSIFY.bind([y], [np.array([[0, 0, 0], [3, 0, 1]])]).correct() == [3, 1]


def test_cross_entropy_in_a_pass_over_uneven_shards() -> None:
    task = problem([Dense(6)], 3, 11, labels=True, loss=CLASSIFY)
    found = task.filled(4)
    sums = found.forward()
    W, b = (task.parameters[:18].reshape(3, 6), task.parameters[18:])
    outputs = task.x @ W + b
    rows = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(11), task.t]
    expected = [part.sum() for part in np.array_split(rows, 4)]
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
    assert sum(found.loss.correct()) == int((outputs.argmax(axis=1) == task.t).sum())


def test_a_nan_reaches_the_loss() -> None:
    for loss in (CLASSIFY, REGRESS):
        y = np.zeros((2, 3, 4))
        y[1, 2, 3] = np.nan
        first, second = loss.bind([y], [np.zeros((2, 3), np.int64)]).losses()
        assert math.isfinite(first)
        assert math.isnan(second)


def test_losses_by_name() -> None:
    assert {name: kind().kind for name, kind in LOSSES.items()} == {name: name for name in LOSSES}
    assert tuple(LOSSES.values()) == get_args(AnyLoss)
    assert tuple(LOSSES) == get_args(LossName)
    fields = {field for kind in LOSSES.values() for field in kind.__struct_fields__}
    assert fields == set(LOSS_FIELDS)


def test_what_fits_is_accepted() -> None:
    SoftmaxCrossEntropy().check((10,), 10, ())
    SumOfSquares().check((10,), 10, ())
    SumOfSquares().check((2,), 0, (2,))


@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        (CLASSIFY, ((2,), 0, (2,)), r"class labels.*real numbers of shape \(2,\).*sum-of-squares"),
        (CLASSIFY, ((3,), 10, ()), r"output has shape \(3,\).*10 classes; end .* with 10 units"),
        (REGRESS, ((3,), 10, ()), r"output has shape \(3,\).*10 classes; end .* with 10 units"),
        (REGRESS, ((3,), 0, (2,)), r"shape \(3,\).*targets of shape \(2,\); end .* with 2 units$"),
        (
            REGRESS,
            ((3,), 0, (1,)),
            "end .* with 1 unit; .* of classes, give --task classification",
        ),
        (REGRESS, ((3, 1), 0, (3,)), r"output has shape \(3, 1\)"),
    ],
)
def test_what_does_not_fit_is_named_with_its_remedy(
    loss: AnyLoss, arguments: Any, message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        loss.check(*arguments)
