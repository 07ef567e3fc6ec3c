"""Every loss, by its definition, by central differences, and as PyTorch has it."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.nn.loss import BoundLoss
from dptrain.nn.losses import (
    AnyLoss,
    BinaryCrossEntropy,
    Hinge,
    Huber,
    MeanSquaredError,
    SoftmaxCrossEntropy,
    SumOfSquares,
)
from tests.nn import reference

Array = NDArray[Any]
DTYPES = ["float32", "float64"]
WEIGHTS = (0.5, 2.0, 1.0, 0.25, 3.0)


class Case(NamedTuple):
    """A loss on outputs of some units: what a row costs, and how PyTorch computes the sum."""

    loss: AnyLoss
    labelled: bool
    units: int
    rows: Callable[[Array, Array], Array]
    torch: Callable[[Any, Any, Any], Any]


def one_hot(torch: Any, y: Any, t: Any) -> Any:
    return torch.eye(y.shape[1], dtype=y.dtype)[t] if t.ndim == 1 else t


def torch_entropy(smoothing: float, weights: Any) -> Callable[[Any, Any, Any], Any]:
    def found(torch: Any, y: Any, t: Any) -> Any:
        each = None if weights is None else torch.tensor(weights, dtype=y.dtype)
        kind = torch.nn.CrossEntropyLoss(each, label_smoothing=smoothing, reduction="sum")
        return kind(y, t)

    return found


def torch_binary(weight: float) -> Callable[[Any, Any, Any], Any]:
    def found(torch: Any, y: Any, t: Any) -> Any:
        goal = t[:, None].to(y.dtype) if y.shape[1] == t.ndim == 1 else one_hot(torch, y, t)
        kind = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight, dtype=y.dtype))
        return kind(y, goal) * len(y)

    return found


CASES = {
    "cross-entropy": Case(
        SoftmaxCrossEntropy(), True, 5, reference.cross_entropies, torch_entropy(0, None)
    ),
    "smoothed": Case(
        SoftmaxCrossEntropy(label_smoothing=0.3), True, 5,
        lambda y, t: reference.cross_entropies(y, t, 0.3), torch_entropy(0.3, None),
    ),
    "weighted": Case(
        SoftmaxCrossEntropy(class_weights=WEIGHTS), True, 5,
        lambda y, t: reference.cross_entropies(y, t, 0, WEIGHTS), torch_entropy(0, WEIGHTS),
    ),
    "smoothed and weighted": Case(
        SoftmaxCrossEntropy(0.1, WEIGHTS), True, 5,
        lambda y, t: reference.cross_entropies(y, t, 0.1, WEIGHTS), torch_entropy(0.1, WEIGHTS),
    ),
    "binary": Case(
        BinaryCrossEntropy(), True, 1, reference.binary_cross_entropies, torch_binary(1)
    ),
    "binary, weighted": Case(
        BinaryCrossEntropy(positive_weight=4.0), True, 1,
        lambda y, t: reference.binary_cross_entropies(y, t, 4.0), torch_binary(4),
    ),
    "binary of classes": Case(
        BinaryCrossEntropy(), True, 5, reference.binary_cross_entropies, torch_binary(1)
    ),
    "binary of values": Case(
        BinaryCrossEntropy(positive_weight=0.3), False, 3,
        lambda y, t: reference.binary_cross_entropies(y, t, 0.3), torch_binary(0.3),
    ),
    "sum of squares": Case(
        SumOfSquares(), False, 3, reference.squared_errors,
        lambda torch, y, t: torch.nn.MSELoss(reduction="sum")(y, t) / 2,
    ),
    "mean squares": Case(
        MeanSquaredError(), False, 3, reference.mean_squared_errors,
        lambda torch, y, t: torch.nn.MSELoss()(y, t) * len(y),
    ),
    "mean squares of one": Case(
        MeanSquaredError(), False, 1, reference.mean_squared_errors,
        lambda torch, y, t: torch.nn.MSELoss()(y, t) * len(y),
    ),
    "mean squares of classes": Case(
        MeanSquaredError(), True, 5, reference.mean_squared_errors,
        lambda torch, y, t: torch.nn.MSELoss()(y, one_hot(torch, y, t)) * len(y),
    ),
    "huber": Case(
        Huber(), False, 3, reference.hubers, lambda torch, y, t: torch.nn.HuberLoss()(y, t) * len(y)
    ),
    "wide huber of classes": Case(
        Huber(huber_delta=2.5), True, 5, lambda y, t: reference.hubers(y, t, 2.5),
        lambda torch, y, t: torch.nn.HuberLoss(delta=2.5)(y, one_hot(torch, y, t)) * len(y),
    ),
    "hinge": Case(
        Hinge(), True, 5, reference.hinges,
        lambda torch, y, t: torch.nn.MultiMarginLoss()(y, t) * y.shape[1] * len(y),
    ),
    "hinge of two": Case(
        Hinge(), True, 1, reference.hinges,
        lambda torch, y, t: torch.relu(1 - (2 * t[:, None] - 1) * y).sum(),
    ),
}  # fmt: skip
every_loss = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# (shards, rows of each shard) of every block
BLOCKS = {"even": [(4, 3)], "uneven": [(2, 3), (3, 2)], "one row": [(1, 1)], "nothing": []}


def drawn(case: Case, shapes: list[tuple[int, int]], dtype: str) -> tuple[list[Array], list[Array]]:
    """Return outputs and targets in blocks."""
    random = np.random.default_rng(7)
    outputs = [2 * random.standard_normal((*s, case.units)).astype(dtype) for s in shapes]
    if case.labelled:
        return outputs, [random.integers(0, max(2, case.units), s) for s in shapes]
    values = [3 * random.standard_normal(y.shape).astype(dtype) for y in outputs]
    if isinstance(case.loss, BinaryCrossEntropy):  # soft targets among them
        values = [np.clip(t, 0, 1) for t in values]
    return outputs, values


def flat(blocks: list[Array], axes: int) -> Array:
    """Return the rows of all blocks as one batch, of as many axes after the first."""
    return np.concatenate([b.reshape(-1, *b.shape[2:][:axes]) for b in blocks])


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", BLOCKS.values(), ids=BLOCKS)
def test_values_are_sums_over_each_shard(
    case: Case, shapes: list[tuple[int, int]], dtype: str
) -> None:
    outputs, targets = drawn(case, shapes, dtype)
    before = [y.copy() for y in outputs]
    found = case.loss.bind(outputs, targets).losses()
    expected = [
        case.rows(y.astype(float), t).sum()
        for outputs_, targets_ in zip(outputs, targets, strict=True)
        for y, t in zip(outputs_, targets_, strict=True)
    ]
    roundings = 30 * float(np.finfo(dtype).eps)
    assert found == pytest.approx(expected, rel=roundings, abs=roundings)
    assert all(map(np.array_equal, outputs, before))


def differences(bound: BoundLoss, outputs: list[Array], step: float = 1e-5) -> list[Array]:
    """Return central differences of the sum of all losses in every output."""
    found = [np.empty_like(y) for y in outputs]
    for block, slopes in zip(outputs, found, strict=True):
        for place in np.ndindex(block.shape):
            value = block[place]
            block[place] = value + step
            above = math.fsum(bound.losses())
            block[place] = value - step
            slopes[place] = (above - math.fsum(bound.losses())) / (2 * step)
            block[place] = value
    return found


@every_loss
@pytest.mark.parametrize("shapes", BLOCKS.values(), ids=BLOCKS)
def test_gradients_are_central_differences_over_the_global_rows(
    case: Case, shapes: list[tuple[int, int]]
) -> None:
    outputs, targets = drawn(case, shapes, "float64")
    bound = case.loss.bind(outputs, targets)
    expected = differences(bound, outputs)
    for rows in (1, 12, 1000):  # of the whole minibatch; here may be only some of its shards
        bound.losses()
        for found, slopes in zip(bound.backward(rows), expected, strict=True):
            np.testing.assert_allclose(found, slopes / rows, rtol=1e-7, atol=1e-9 / rows)


@every_loss
@pytest.mark.parametrize("shapes", BLOCKS.values(), ids=BLOCKS)
def test_weights_multiply_what_rows_cost_and_their_gradients(
    case: Case, shapes: list[tuple[int, int]]
) -> None:
    outputs, targets = drawn(case, shapes, "float64")
    weights = [np.arange(n * m).reshape(n, m) / 2 for n, m in shapes]
    bound = case.loss.bind(outputs, targets)
    sums = [
        float(weight @ case.rows(y, t))
        for block in zip(outputs, targets, weights, strict=True)
        for y, t, weight in zip(*block, strict=True)
    ]
    assert bound.weighted_losses(weights) == pytest.approx(sums, rel=1e-13, abs=1e-13)
    plain = [g.copy() for g in bound.backward(12)]
    bound.weighted_losses(weights)
    for found, each, w in zip(bound.weighted_backward(12, weights), plain, weights, strict=True):
        np.testing.assert_allclose(found, each * w[..., np.newaxis], rtol=1e-14)


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_one_give_the_bits_of_none(case: Case, dtype: str) -> None:
    outputs, targets = drawn(case, BLOCKS["uneven"], dtype)
    bound = case.loss.bind(outputs, targets)
    ones = [np.ones(y.shape[:2], dtype) for y in outputs]
    assert bound.weighted_losses(ones) == bound.losses()
    plain = [g.copy() for g in bound.backward(12)]
    bound.losses()
    assert all(map(np.array_equal, bound.weighted_backward(12, ones), plain))


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 1e4])
def test_values_and_gradients_are_those_of_pytorch(case: Case, size: float, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    outputs, targets = drawn(case, [(2, 30), (3, 29)], dtype)
    for y in outputs:
        y *= size
    there = torch.tensor(flat(outputs, 1), requires_grad=True)
    value = case.torch(torch, there, torch.tensor(flat(targets, 1)))
    value.backward()
    bound = case.loss.bind(outputs, targets)
    roundings = 50 * float(np.finfo(dtype).eps)
    assert sum(bound.losses()) == pytest.approx(value.item(), rel=roundings)
    found = flat(bound.backward(1), 1)
    np.testing.assert_allclose(found, there.grad.numpy(), rtol=roundings, atol=roundings)


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_extreme_outputs_stay_finite(case: Case, size: float, dtype: str) -> None:
    outputs, targets = drawn(case, [(2, 3), (3, 2)], dtype)
    for y in outputs:
        np.copysign(size, y, out=y)
    bound = case.loss.bind(outputs, targets)
    found = bound.losses()  # a warning would fail the test
    assert np.isfinite(found).all()
    assert max(found) > size / 10
    assert all(np.isfinite(g).all() for g in bound.backward(12))


@every_loss
def test_rows_are_accumulated_in_float64(case: Case) -> None:
    outputs, targets = drawn(case, [(1, 30_000)], "float32")
    bound = case.loss.bind(outputs, targets)
    (found,) = bound.losses()
    exact = math.fsum(bound.rows[0].ravel().tolist())
    assert found == pytest.approx(exact, rel=1e-13)
    assert float(np.add.reduce(bound.rows[0][0])) != pytest.approx(exact, rel=1e-9)


@every_loss
def test_a_nan_reaches_the_loss(case: Case) -> None:
    outputs, targets = drawn(case, [(2, 3)], "float32")
    outputs[0][1, 2, -1] = np.nan
    first, second = case.loss.bind(outputs, targets).losses()
    assert math.isfinite(first)
    assert math.isnan(second)


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_can_be_computed_again(case: Case, dtype: str) -> None:
    """A pass keeps its buffers, and evaluates without a backward pass now and then."""
    outputs, targets = drawn(case, [(2, 3), (3, 2)], dtype)
    bound = case.loss.bind(outputs, targets)
    first = bound.losses()
    gradients = [g.copy() for g in bound.backward(12)]
    assert bound.losses() == bound.losses() == first
    assert all(map(np.array_equal, bound.backward(12), gradients))
