"""The computations of the study notes, with the results that they print."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dptrain.errors import ShapeError
from dptrain.nn.activations import Identity, Sigmoid
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.functions import cross_entropy, numerical_gradient, softmax, sum_of_squares
from dptrain.nn.initializers import Normal
from dptrain.nn.losses import AnyLoss, SoftmaxCrossEntropy, SumOfSquares
from dptrain.nn.network import AnyLayer, Network
from dptrain.nn.numerical import NumericalPass
from dptrain.nn.passes import Arrangement, Pass, Replica, TargetForm
from dptrain.optim.links import Arrays, UpdateMoment
from dptrain.optim.rules import RULES, SGD, AnyRule
from dptrain.optim.schedules import Cosine
from dptrain.optim.updater import Updater

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
    target = TargetForm(network.output_shape, np.dtype(float))
    found = Replica(network, SumOfSquares(), [flat], target).pass_over(Arrangement(1, 1, 0, 1))
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


def test_convolution() -> None:
    image = [[1.0, 2, 3, 0], [0, 1, 2, 3], [3, 0, 1, 2], [2, 3, 0, 1]]
    kernel = [[2, 0, 1], [0, 1, 2], [1, 0, 2]]
    flat = np.array([*np.ravel(kernel), 0], float)
    network = Network((4, 4), [Conv2D(1, 3), Flatten()])
    replica = Replica(network, SumOfSquares(), [flat], TargetForm((4,), np.dtype(float)))
    found = replica.pass_over(Arrangement(1, 1, 0, 1))
    found.inputs[0][...] = [image]
    assert found.infer()[0].reshape(2, 2).tolist() == [[15, 16], [6, 15]]


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


def descended(lr: float) -> NDArray[np.float64]:
    """Return where gradient descent on x0² + x1² is after 100 steps from (-3, 4)."""
    x, g = np.array([-3.0, 4.0]), np.empty(2)
    for step in range(100):
        g[...] = 2 * x
        SGD().update(Arrays(x, g, [], x, [], np.empty(2)), UpdateMoment(step, lr))
    return x


@pytest.mark.parametrize(("x", "expected"), [(5, 0.1999999999990898), (10, 0.2999999999986347)])
def test_central_difference(x: float, expected: float) -> None:
    found = numerical_gradient(lambda x: float(0.01 * x**2 + 0.1 * x), x)
    assert float(found) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("x", "expected"), [((3, 4), (6, 8)), ((0, 2), (0, 4)), ((3, 0), (6, 0))])
def test_numerical_gradient(x: tuple[float, float], expected: tuple[float, float]) -> None:
    found = numerical_gradient(lambda x: float(np.sum(x**2)), x)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_training_by_numerical_gradients_is_training_by_backpropagation() -> None:
    network = Network(6, [Dense(5), Sigmoid(), Dense(3)])
    random = np.random.default_rng(0)
    x, t = random.random((20, 6)), np.arange(20) % 3
    trained = []
    for kind in (Pass, NumericalPass):
        w = network.initial_parameters(1, np.dtype(float))
        replica = Replica(network, SoftmaxCrossEntropy(), [w], TargetForm((), t.dtype), kind=kind)
        found = replica.pass_over(Arrangement(20, 4, 0, 4))
        found.inputs[0][...], found.targets[0][...] = x, t
        for _ in range(100):
            found.forward()
            found.backward()
            w -= 0.1 * found.gradients[0]
        trained.append(w)
    np.testing.assert_allclose(trained[0], trained[1], atol=1e-8)


def test_gradient_descent() -> None:
    expected = [-6.11110793e-10, 8.14814391e-10]
    np.testing.assert_allclose(descended(0.1), expected, rtol=1e-8)


def test_gradient_descent_with_too_large_a_learning_rate_diverges() -> None:
    assert (np.abs(descended(10.0)) > 1e12).all()


def test_gradient_descent_with_too_small_a_learning_rate_hardly_moves() -> None:
    np.testing.assert_allclose(descended(1e-10), [-2.99999994, 3.99999992], atol=5e-9)


def test_two_layer_net_begins_with_small_weights_and_no_biases() -> None:
    network = Network(784, [Dense(50, Normal(0.01)), Sigmoid(), Dense(10, Normal(0.01))])
    assert network.size == 39_760
    tensors = network.views(network.initial_parameters(0, np.dtype("float64")))
    shapes = {name: values.shape for name, values in tensors.items()}
    assert shapes == {
        "dense1.W": (784, 50),
        "dense1.b": (50,),
        "dense2.W": (50, 10),
        "dense2.b": (10,),
    }
    for name in ("dense1", "dense2"):
        assert tensors[f"{name}.W"].std() == pytest.approx(0.01, rel=0.1)
        assert not tensors[f"{name}.b"].any()


def regressed(
    rule: AnyRule, lr: float, loss: AnyLoss, units: int, x: NDArray[Any], t: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the weights and biases of one affine layer after 400 steps over all rows."""
    network = Network(x.shape[1], [Dense(units)])
    w = np.zeros(network.size)
    replica = Replica(network, loss, [w], TargetForm(t.shape[1:], t.dtype))
    found = replica.pass_over(Arrangement(len(x), 4, 0, 4))
    found.inputs[0][...], found.targets[0][...] = x, t
    updater = Updater(
        rule,
        Cosine(lr=lr, length=400),  # the adaptive rules circle the minimum at a constant rate
        weight_decay=0,
        clip_norm=None,
        decaying=[],
        dtype=w.dtype,
    )
    slots = [np.zeros_like(w) for _ in rule.slots]
    pieces = updater.bind(0, w.size, w, found.gradients[0], slots, w, slots)
    for step in range(400):
        found.forward()
        found.backward()
        updater.update(step, pieces)
    return w


LEARNING_RATES = {
    "sgd": 0.5,
    "momentum": 0.1,
    "nesterov": 0.1,
    "adagrad": 5.0,
    "rmsprop": 0.3,
    "adam": 0.5,
    "adamw": 0.5,
}


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
@pytest.mark.parametrize("inputs", [1, 3], ids=["linear", "multiple linear"])
def test_linear_regression_with_each_optimizer(optimizer: str, inputs: int) -> None:
    random = np.random.default_rng(1)
    raw = random.uniform(10, 50, (40, inputs))
    x = (raw - raw.mean(axis=0)) / raw.std(axis=0)
    t = raw @ np.full((inputs, 1), 0.3) + 2 + random.standard_normal((40, 1))
    found = regressed(RULES[optimizer](), LEARNING_RATES[optimizer], SumOfSquares(), 1, x, t)
    normal, *_ = np.linalg.lstsq(np.hstack([x, np.ones((40, 1))]), t)
    np.testing.assert_allclose(found, normal.ravel(), atol=1e-3)


def test_logistic_regression() -> None:
    """Of two classes the softmax is the logistic function of the difference of the outputs."""
    random = np.random.default_rng(2)
    x = random.standard_normal((40, 2))
    t = (x @ [1.5, -1.0] + 0.5 + 2 * random.standard_normal(40) > 0).astype(np.int64)
    found = regressed(RULES["momentum"](), 0.2, SoftmaxCrossEntropy(), 2, x, t).reshape(3, 2)
    rows = np.hstack([x, np.ones((40, 1))])
    w = np.zeros(3)
    for _ in range(20):  # Newton's method, for one output
        p = 1 / (1 + np.exp(-rows @ w))
        w += np.linalg.solve(rows.T @ (rows * (p * (1 - p))[:, None]), rows.T @ (t - p))
    np.testing.assert_allclose(found[:, 1] - found[:, 0], w, atol=1e-3)
