"""Pooling against its definition, PyTorch and differences: ties, overlaps and remainders too."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dptrain.errors import ShapeError, UsageError
from dptrain.nn.activations import ReLU, Tanh
from dptrain.nn.convolution import Conv2D
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.network import AnyLayer, Network, layers_from
from dptrain.nn.pooling import AvgPool2D, MaxPool2D
from tests.nn import reference
from tests.nn.build import bound, problem
from tests.nn.images import Array, Trial, pair, poolings
from tests.nn.losses import cross_entropies, squared_errors

KINDS = [MaxPool2D, AvgPool2D]


def definition(layer: MaxPool2D | AvgPool2D, x: Array, dy: Array) -> tuple[Array, Array]:
    """Return y and dx of images ``(n, H, W, C)``, window by window in float64."""
    size = pair(layer.size)
    stride = size if layer.stride is None else pair(layer.stride)
    y, dx = np.zeros(dy.shape), np.zeros(x.shape)
    for n, p, q, c in np.ndindex(dy.shape):
        offsets = [(stride[0] * p + i, stride[1] * q + j) for i, j in np.ndindex(size)]
        values = [float(x[n, row, column, c]) for row, column in offsets]
        if isinstance(layer, MaxPool2D):
            y[n, p, q, c] = max(values)
            row, column = offsets[values.index(max(values))]
            dx[n, row, column, c] += dy[n, p, q, c]
        else:
            y[n, p, q, c] = sum(values) / len(values)
            for row, column in offsets:
                dx[n, row, column, c] += float(dy[n, p, q, c]) / len(values)
    return y, dx


@settings(max_examples=100)
@given(poolings(), st.sampled_from(["float32", "float64"]), st.booleans(), st.integers(0, 99))
def test_it_is_its_definition(drawn: Any, dtype: str, ties: bool, seed: int) -> None:
    layer, shape = drawn
    trial = Trial(layer, shape, dtype, ((2, 1), (1, 2)), seed, whole=ties)
    # a choice between given numbers and sums of small whole ones are exact
    exact = isinstance(layer, MaxPool2D) and ties
    close: Any = {"rtol": 0, "atol": 0 if exact else 40 * float(np.finfo(dtype).eps)}
    for i, (x, dy) in enumerate(zip(trial.x, trial.dy, strict=True)):
        images = x if x.ndim == 5 else x[..., np.newaxis]
        for shard in range(len(x)):
            y, dx = definition(layer, images[shard], dy[shard])
            np.testing.assert_allclose(trial.y[i][shard], y, **close)
            np.testing.assert_allclose(trial.dx[i][shard], dx.reshape(x[shard].shape), **close)


@settings(max_examples=60)
@given(poolings(), st.sampled_from(["float32", "float64"]), st.booleans())
def test_it_is_that_of_torch(drawn: Any, dtype: str, ties: bool) -> None:
    torch = pytest.importorskip("torch")
    layer, shape = drawn
    trial = Trial(layer, shape, dtype, whole=ties)
    function = (
        torch.nn.functional.max_pool2d
        if isinstance(layer, MaxPool2D)
        else torch.nn.functional.avg_pool2d
    )
    close: Any = {"rtol": 0, "atol": 40 * float(np.finfo(dtype).eps)}
    for images, y, dy, dx in zip(trial.x, trial.y, trial.dy, trial.dx, strict=True):
        flat = images.reshape(-1, *shape[:2], y.shape[-1])
        x = torch.tensor(flat, requires_grad=True)
        found = function(x.permute(0, 3, 1, 2), layer.size, layer.stride).permute(0, 2, 3, 1)
        np.testing.assert_allclose(y.reshape(found.shape), found.detach().numpy(), **close)
        found.backward(torch.tensor(dy.reshape(found.shape)))
        np.testing.assert_allclose(dx, x.grad.numpy().reshape(dx.shape), **close)


@pytest.mark.parametrize(
    ("window", "place"),
    [
        ([[5, 5], [5, 5]], (0, 0)),
        ([[4, 5], [5, 5]], (0, 1)),
        ([[4, 4], [5, 5]], (1, 0)),
        ([[4, 4], [4, 5]], (1, 1)),
        ([[4, 5], [5, 4]], (0, 1)),
        ([[5, 4], [4, 5]], (0, 0)),
        ([[4, 4], [5, 4]], (1, 0)),
        ([[0, -0.0], [0, 0]], (0, 0)),
        ([[-0.0, 0], [0, 0]], (0, 0)),
        ([[-np.inf, -np.inf], [-np.inf, -np.inf]], (0, 0)),
    ],
)
def test_the_first_of_equal_maxima_has_the_whole_gradient(window: Any, place: Any) -> None:
    operation = bound(MaxPool2D(2), np.array(window, float).reshape(1, 1, 2, 2))
    operation.forward()
    assert operation.outputs[0].item() == np.max(window)
    (dx,) = operation.backward([np.full((1, 1, 1, 1, 1), 7.0)])
    expected = np.zeros((2, 2))
    expected[place] = 7
    np.testing.assert_array_equal(dx[0, 0], expected)


def test_windows_that_overlap_add_up_what_they_give_back() -> None:
    x = np.array([[0, 1, 0], [1, 9, 1], [0, 1, 0.0]]).reshape(1, 1, 3, 3)
    operation = bound(MaxPool2D(2, 1), x)
    operation.forward()
    assert operation.outputs[0].ravel().tolist() == [9, 9, 9, 9]
    (dx,) = operation.backward([np.array([1, 10, 100, 1000.0]).reshape(1, 1, 2, 2, 1)])
    assert dx.ravel().tolist() == [0, 0, 0, 0, 1111, 0, 0, 0, 0]


def test_what_no_window_reads_has_no_gradient() -> None:
    x = np.arange(25.0).reshape(1, 1, 5, 5)
    for layer in (MaxPool2D(2, 3), AvgPool2D(2, 3)):
        operation = bound(layer, x)
        operation.forward()
        (dx,) = operation.backward([np.ones((1, 1, 2, 2, 1))])
        assert dx[0, 0, 2].tolist() == dx[0, 0, :, 2].tolist() == [0] * 5
        assert dx.sum() == 4


def test_a_mean_of_equal_values_is_that_value() -> None:
    operation = bound(AvgPool2D(3), np.full((1, 1, 3, 3), 0.1, np.float32))
    operation.forward()
    assert operation.outputs[0].item() == pytest.approx(0.1, rel=2e-7)


NETWORKS: dict[str, list[AnyLayer]] = {
    "largest": [Conv2D(2, 2), MaxPool2D(2), Flatten(), Dense(3)],
    "overlapping": [Conv2D(2, 2), MaxPool2D(3, 1), Tanh(), Flatten(), Dense(3)],
    "mean": [Conv2D(2, 2), AvgPool2D(2, 1), ReLU(), Flatten(), Dense(3)],
    "all": [Conv2D(3, 2), AvgPool2D((1, 2)), Tanh(), MaxPool2D((2, 1)), Conv2D(2, 1), Flatten()],
    "input pooled": [MaxPool2D(2, 1), Tanh(), Conv2D(2, 2), AvgPool2D(2), Flatten()],
}


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("shards", [1, 4])
def test_gradients_are_central_differences(name: str, shards: int) -> None:
    layers = NETWORKS[name]
    task = problem(layers, (5, 6), 7, labels=True, seed=8)
    assert reference.margin(layers, task.parameters, task.x) > 1e-4
    found = task.gradient(shards)
    np.testing.assert_allclose(found, task.differences(shards), rtol=1e-7, atol=1e-9)
    plain = reference.gradient(layers, task.parameters, task.x, task.t, cross_entropies)
    np.testing.assert_allclose(found, plain, rtol=1e-10, atol=1e-12)


@settings(max_examples=100)
@given(st.data(), st.integers(1, 7), st.integers(1, 5))
def test_no_layer_overwrites_what_another_needs(
    data: st.DataObject, rows: int, shards: int
) -> None:
    known: list[AnyLayer] = [Tanh(), ReLU(), MaxPool2D(2, 1), AvgPool2D(2, 1), MaxPool2D(1)]
    known += [Conv2D(2, 2, padding=1), Conv2D(2, 1)]
    some = st.lists(st.sampled_from(known), max_size=2)
    layers = [*data.draw(some), Conv2D(2, 2, padding=1), *data.draw(some), Flatten()]
    task = problem(layers, (5, 4), rows, labels=False, seed=4)
    task.parameters *= 0.5
    found = task.filled(shards)
    found.forward()
    found.backward()
    first = found.gradients[0].copy()
    plain = reference.gradient(layers, task.parameters, task.x, task.t, squared_errors)
    np.testing.assert_allclose(first, plain, rtol=0, atol=1e-12 * np.abs(plain).max())
    np.testing.assert_array_equal(np.concatenate(found.inputs), task.x)
    found.forward()
    found.backward()
    assert found.gradients[0].tobytes() == first.tobytes()


def test_nothing_is_allocated_in_a_step() -> None:
    x = np.random.default_rng(0).standard_normal((2, 32, 25, 25, 8)).astype("float32")
    for layer in (MaxPool2D(2), MaxPool2D(3, 2), AvgPool2D(2), AvgPool2D(3, 2)):
        operation = bound(layer, x)
        dy = [np.ones_like(y) for y in operation.outputs]
        calls, _ = operation.backward_calls(dy)
        tracemalloc.start()
        try:
            operation.forward()
            for each in calls:
                each()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # no more than NumPy's own buffers, of fixed size, one for each operand
        assert peak < 3 * np.getbufsize() * 4 + 2_000 < dy[0].nbytes / 2


def test_shapes_and_names() -> None:
    assert MaxPool2D(2).output_shape((24, 24, 30)) == (12, 12, 30)
    assert MaxPool2D(2).output_shape((5, 7)) == (2, 3, 1)
    assert AvgPool2D(3, 2).output_shape((7, 8, 4)) == (3, 3, 4)
    assert AvgPool2D((1, 3), (4, 1)).output_shape((7, 8, 4)) == (2, 6, 4)
    assert MaxPool2D(2).parameters((4, 4, 1)) == ()
    network = Network((9, 9), [Conv2D(2, 2), MaxPool2D(2), AvgPool2D(2), MaxPool2D(1)])
    assert network.names == ("conv2d1", "maxpool2d1", "avgpool2d1", "maxpool2d2")


def test_a_description_makes_the_same_layers() -> None:
    layers: list[AnyLayer] = [Conv2D(3, (2, 1)), MaxPool2D(2), AvgPool2D((2, 1), 1)]
    network = Network((9, 9), layers)
    assert network.description()[1:] == [
        {"layer": "maxpool2d", "size": 2},
        {"layer": "avgpool2d", "size": [2, 1], "stride": 1},
    ]
    assert layers_from(network.description()) == tuple(layers)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["size", "stride"])
@pytest.mark.parametrize("wrong", [0, -2, 1.5, True, "2", (1, 0), (1, 2, 3), [2, 2]])
def test_impossible_settings_are_named(kind: Any, name: str, wrong: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name}=.* of at least 1, or a tuple") as caught:
        kind(**{"size": 2, name: wrong})
    assert repr(wrong) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_that_do_not_fit(kind: Any) -> None:
    with pytest.raises(ShapeError, match=r"2d1: takes images of .* not samples of shape \(9,\)"):
        Network((9,), [kind(2), Dense(2)])
    with pytest.raises(ShapeError, match=r"size=\(4, 4\) does not fit into images of 3x9"):
        Network((3, 9, 2), [kind(4), Flatten(), Dense(2)])
