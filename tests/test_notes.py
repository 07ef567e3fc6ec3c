"""The computations of the study notes, with the results that they print."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.errors import ShapeError
from dptrain.nn.activations import Identity, Sigmoid
from dptrain.nn.dense import Dense
from dptrain.nn.functions import cross_entropy, softmax, sum_of_squares
from dptrain.nn.losses import SumOfSquares
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.passes import Arrangement, Replica, Targets

W1, B1 = [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]], [0.1, 0.2, 0.3]
W2, B2 = [[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]], [0.1, 0.2]
W3, B3 = [[0.1, 0.3], [0.2, 0.4]], [0.1, 0.2]
Y1 = [0.1, 0.05, 0.6, 0, 0.05, 0.1, 0, 0.1, 0, 0]
Y2 = [0.1, 0.05, 0.1, 0, 0.05, 0.1, 0, 0.6, 0, 0]
ONE_HOT = np.eye(10)[2]


def outputs(layers: list[AnyLayer], *tensors: object) -> NDArray[np.float64]:
    """Return what layers with these parameters make of the notes' x = [1, .5]."""
    network = Network(2, layers)
    flat = np.concatenate([np.ravel(np.asarray(t, float)) for t in tensors])
    target = Targets(network.output_shape, np.dtype(float))
    found = Replica(network, SumOfSquares(), flat, target).pass_over(Arrangement(1, 1, 0, 1))
    found.inputs[0][...] = [[1.0, 0.5]]
    return np.array(found.infer()[0][0, 0])


def test_affine_layer() -> None:
    np.testing.assert_allclose(outputs([Dense(3)], W1, B1), [0.3, 0.7, 1.1], atol=1e-9)


def test_affine_layer_and_sigmoid() -> None:
    np.testing.assert_allclose(
        outputs([Dense(3), Sigmoid()], W1, B1), [0.57444252, 0.66818777, 0.75026011], atol=5e-9
    )


@pytest.mark.parametrize(
    ("w3", "expected"),
    [
        (W3, [0.31682708, 0.69627909]),
        ([[0.1, 0.3], [0.2, 0.5]], [0.31682708, 0.77338016]),
    ],
)
def test_three_layer_network(w3: object, expected: list[float]) -> None:
    layers: list[AnyLayer] = [Dense(3), Sigmoid(), Dense(2), Sigmoid(), Dense(2), Identity()]
    np.testing.assert_allclose(outputs(layers, W1, B1, W2, B2, w3, B3), expected, atol=5e-9)


def test_softmax() -> None:
    y = softmax([0.5, 3, 5])
    np.testing.assert_allclose(y, [0.00968996, 0.11804785, 0.87226219], atol=5e-9)
    assert y.sum() == pytest.approx(1, abs=1e-15)


def test_softmax_of_a_batch_treats_every_row_alone() -> None:
    batch = softmax(np.array([[0.5, 3, 5], [1000, 1002, 1001]]))
    np.testing.assert_allclose(batch[0], softmax([0.5, 3, 5]))
    np.testing.assert_allclose(batch[1], softmax([0, 2, 1]))


@pytest.mark.parametrize(("y", "expected"), [(Y1, 0.0975), (Y2, 0.5975)])
def test_sum_of_squared_errors(y: list[float], expected: float) -> None:
    assert sum_of_squares(y, ONE_HOT) == pytest.approx(expected, abs=1e-9)
    assert sum_of_squares(y, 2) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("y", "expected"), [(Y1, 0.510825457099338), (Y2, 2.302584092994546)])
def test_cross_entropy_error(y: list[float], expected: float) -> None:
    assert cross_entropy(y, ONE_HOT) == pytest.approx(expected, abs=1e-14)
    assert cross_entropy(y, 2) == pytest.approx(expected, abs=1e-14)


def test_losses_average_over_a_batch() -> None:
    labels = [2, 2]
    expected = (0.510825457099338 + 2.302584092994546) / 2
    assert cross_entropy([Y1, Y2], labels) == pytest.approx(expected, abs=1e-14)
    assert cross_entropy([Y1, Y2], np.eye(10)[labels]) == pytest.approx(expected, abs=1e-14)
    assert sum_of_squares([Y1, Y2], labels) == pytest.approx((0.0975 + 0.5975) / 2, abs=1e-9)


@pytest.mark.parametrize("target", [[2, 3], [0.5], [10], [-1]])
def test_losses_refuse_targets_that_do_not_fit(target: list[float]) -> None:
    with pytest.raises(ShapeError, match=r"targets of shape|class numbers"):
        cross_entropy(Y1, target)
