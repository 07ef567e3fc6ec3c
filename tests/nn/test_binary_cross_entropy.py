"""Cross-entropy of yes or no: its corners, and the two classes that one output tells apart."""

import math
from typing import Any

import numpy as np
import pytest

from dptrain.errors import DataError, ShapeError
from dptrain.nn.functions import sigmoid, softmax
from dptrain.nn.losses import BinaryCrossEntropy, SoftmaxCrossEntropy

LOSS = BinaryCrossEntropy()
DTYPES = ["float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_output_is_as_good_as_two_of_which_one_is_zero(dtype: str) -> None:
    random = np.random.default_rng(1)
    y = 3 * random.standard_normal((4, 5, 1)).astype(dtype)
    t = random.integers(0, 2, (4, 5))
    one = LOSS.bind([y], [t])
    two = SoftmaxCrossEntropy().bind([np.concatenate([0 * y, y], axis=-1)], [t])
    roundings = 20 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(one.losses(), two.losses(), rtol=roundings)
    found, expected = one.backward(20)[0], two.backward(20)[0][..., 1:]
    np.testing.assert_allclose(found, expected, atol=roundings)
    assert one.correct() == two.correct()
    assert 0 < sum(one.correct()) < 20


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", [0, 1])
def test_confidence_is_not_rounded_to_certainty(label: int, dtype: str) -> None:
    """Also the gradient of an output that is right by 50 is 2e-22, and not 0."""
    y = np.array([[[50.0 if label else -50.0]]], dtype)
    bound = LOSS.bind([y], [np.array([[label]])])
    assert bound.losses() == pytest.approx([math.exp(-50)], rel=1e-6)
    sign = -1 if label else 1
    assert bound.backward(1)[0].item() == pytest.approx(sign * math.exp(-50), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_being_wrong_costs_what_the_output_says(dtype: str) -> None:
    y = np.array([[[1e4], [-1e4], [1e4], [-1e4]]], dtype)
    bound = LOSS.bind([y], [np.array([[0, 1, 1, 0]])])
    assert bound.losses() == [2e4]
    assert bound.backward(2)[0].ravel().tolist() == [0.5, -0.5, 0, 0]


def test_the_weight_is_of_the_positive_targets_alone() -> None:
    y = np.array([[[0.3], [-2.0]]])
    for labels, factor in (([[1, 1]], 5.0), ([[0, 0]], 1.0)):
        bound = [
            BinaryCrossEntropy(positive_weight=w).bind([y], [np.array(labels)]) for w in (1.0, 5.0)
        ]
        plain, weighted = (each.losses()[0] for each in bound)
        assert weighted == pytest.approx(factor * plain, rel=1e-14)
        gradients = [each.backward(2)[0] for each in bound]
        np.testing.assert_allclose(gradients[1], factor * gradients[0], rtol=1e-14)


def test_an_output_of_zero_is_class_0() -> None:
    y = np.array([[[0.0], [-0.0], [1e-30], [-1e-30]]])
    for labels, correct in (([0, 0, 1, 0], 4), ([1, 1, 0, 1], 0)):
        assert LOSS.bind([y], [np.array([labels])]).correct() == [correct]


def test_several_outputs_are_decided_by_the_largest() -> None:
    y = np.array([[[1.0, 3.0, 2.0], [-3.0, -2.0, -1.0]]])
    assert LOSS.bind([y], [np.array([[1, 2]])]).correct() == [2]
    assert LOSS.bind([y], [np.array([[0, 0]])]).correct() == [0]


def test_predictions_are_probabilities() -> None:
    y = np.array([[0.5], [-1e4], [1e4], [0.0]], np.float32)
    found = LOSS.predictions(y)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), [1 / (1 + math.exp(-0.5)), 0, 1, 0.5], rtol=1e-6)
    both = sigmoid(np.concatenate([-y, y], axis=1))
    pair = softmax(np.concatenate([0 * y, y], axis=1))
    np.testing.assert_allclose(both, pair, rtol=1e-6)


def test_sigmoid_of_the_notes() -> None:
    found = sigmoid([0.3, 0.7, 1.1])
    np.testing.assert_allclose(found, [0.57444252, 0.66818777, 0.75026011], atol=5e-9)


def test_what_fits() -> None:
    LOSS.check((1,), 2, ())
    LOSS.check((2,), 2, ())
    LOSS.check((5,), 5, ())
    LOSS.check((3,), 0, (3,))
    LOSS.check_values(np.array([[0.0, 1.0], [0.5, 1e-9]]), "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1,), 3, ()), r"shape \(1,\).*3 classes; end .* with 3 units; .* give --task regression"),
        (((3,), 2, ()), r"shape \(3,\).*2 classes"),
        (((1,), 0, (2,)), r"targets of shape \(2,\)"),
    ],
)
def test_what_does_not_fit(arguments: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        LOSS.check(*arguments)


def test_one_output_for_two_classes_leads_here() -> None:
    message = "with 2 units, or use --loss binary-cross-entropy"
    with pytest.raises(ShapeError, match=message):
        SoftmaxCrossEntropy().check((1,), 2, ())


@pytest.mark.parametrize("bad", [-0.1, 1.5, math.nan])
def test_targets_out_of_range(bad: float) -> None:
    targets = np.array([[0.0, 1.0], [0.2, bad]])
    with pytest.raises(DataError, match=r"from 0 to 1, but row 1 .*mean-squared-error"):
        LOSS.check_values(targets, "train")
