"""The convolution against its definition, PyTorch and differences, whole and in pieces."""

import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dptrain.errors import ShapeError, UsageError
from dptrain.experiment.files import parse_toml, to_toml
from dptrain.experiment.schema import Experiment
from dptrain.nn import convolution
from dptrain.nn.activations import ReLU, Tanh
from dptrain.nn.convolution import Conv2D, pieces
from dptrain.nn.dense import Dense, Flatten
from dptrain.nn.initializers import He, Normal, Zeros
from dptrain.nn.network import AnyLayer, Network, layers_from
from dptrain.nn.pooling import MaxPool2D
from tests.nn import reference
from tests.nn.build import bound, problem
from tests.nn.images import Array, Trial, convolutions, pair
from tests.nn.losses import cross_entropies

EXACT: Any = {"rtol": 0, "atol": 0}


def definition(layer: Conv2D, x: Array, W: Array, b: Array, dy: Array) -> list[Array]:
    """Return y, dW, db and dx of images ``(n, H, W, C)``, term by term in float64."""
    (down, right), (top, left) = pair(layer.stride), pair(layer.padding)
    y = np.zeros(dy.shape) + b.astype(float)
    dW, dx = np.zeros(W.shape), np.zeros(x.shape)
    height, width = x.shape[1:3]
    for n, p, q, f in np.ndindex(dy.shape):
        for i, j, c in np.ndindex(W.shape[:3]):
            row, column = down * p + i - top, right * q + j - left
            if 0 <= row < height and 0 <= column < width:
                y[n, p, q, f] += float(x[n, row, column, c]) * float(W[i, j, c, f])
                dW[i, j, c, f] += float(x[n, row, column, c]) * float(dy[n, p, q, f])
                dx[n, row, column, c] += float(W[i, j, c, f]) * float(dy[n, p, q, f])
    return [y, dW, dy.sum(axis=(0, 1, 2), dtype=float), dx]


def weight_gradients(trial: Trial, block: int) -> Array:
    """Return ``(shards, parameters)``."""
    operation: Any = trial.operation
    found: Array = operation.blocks[block].gradients.reshape(len(trial.x[block]), -1)
    return found


def assert_defined(trial: Trial, tolerance: Any) -> None:
    """Compare every shard with the definition."""
    layer: Any = trial.layer
    W, b = trial.kernel
    for i, (x, dy) in enumerate(zip(trial.x, trial.dy, strict=True)):
        images = x if x.ndim == 5 else x[..., np.newaxis]
        for shard in range(len(x)):
            y, dW, db, dx = definition(layer, images[shard], W, b, dy[shard])
            np.testing.assert_allclose(trial.y[i][shard], y, **tolerance)
            found = weight_gradients(trial, i)[shard]
            np.testing.assert_allclose(found, [*dW.ravel(), *db], **tolerance)
            np.testing.assert_allclose(trial.dx[i][shard], dx.reshape(x[shard].shape), **tolerance)


@settings(max_examples=60)
@given(convolutions(), st.sampled_from(["float32", "float64"]), st.integers(0, 99))
def test_it_is_its_definition(drawn: tuple[Conv2D, tuple[int, ...]], dtype: str, seed: int) -> None:
    layer, shape = drawn
    # products and sums of small whole numbers are exact in any order
    assert_defined(Trial(layer, shape, dtype, ((2, 1), (1, 2)), seed, whole=True), EXACT)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv2D(4, 3), (7, 6)),
        (Conv2D(3, (2, 3), (2, 1), (0, 2)), (6, 5, 3)),
        (Conv2D(3, 3, padding=1), (5, 4, 17)),
        (Conv2D(2, 1), (4, 5, 3)),
        (Conv2D(2, 1, 2), (4, 5, 3)),
        (Conv2D(1, (4, 5)), (4, 5, 2)),
        (Conv2D(2, 2, 3), (7, 8, 1)),
        (Conv2D(2, 1, 5, 2), (1, 1, 2)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("limit", [convolution.PIECE_BYTES, 1000, 1])
def test_it_is_its_definition_in_pieces_too(
    layer: Conv2D, shape: tuple[int, ...], dtype: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "PIECE_BYTES", limit)
    trial = Trial(layer, shape, dtype, ((2, 5), (1, 4)))
    # sums of at most 5 * 5 * 4 or 154 numbers near 1
    assert_defined(trial, {"rtol": 0, "atol": 1e3 * float(np.finfo(dtype).eps)})


def test_large_shards_are_cut_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "PIECE_BYTES", 100)
    assert pieces(10, 10) == [slice(0, 10)]
    assert pieces(11, 10) == [slice(0, 5), slice(5, 11)]
    assert pieces(2, 1000) == [slice(0, 1), slice(1, 2)]
    assert pieces(1, 1000) == [slice(0, 1)]


@settings(max_examples=60)
@given(convolutions(), st.sampled_from(["float32", "float64"]))
def test_it_is_that_of_torch(drawn: tuple[Conv2D, tuple[int, ...]], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    layer, shape = drawn
    trial = Trial(layer, shape, dtype)
    W, b = trial.kernel
    kernel, biases = torch.tensor(W.transpose(3, 2, 0, 1).copy()), torch.tensor(b)
    close: Any = {"rtol": 0, "atol": 2e3 * float(np.finfo(dtype).eps)}
    for i, shard in [(0, 0), (0, 1), (1, 0)]:
        images = trial.x[i][shard].reshape(len(trial.x[i][shard]), *shape[:2], -1)
        leaves = [torch.tensor(images.transpose(0, 3, 1, 2).copy()), kernel, biases]
        for leaf in leaves:
            leaf.requires_grad_()
        y = torch.nn.functional.conv2d(*leaves, pair(layer.stride), pair(layer.padding))
        np.testing.assert_allclose(trial.y[i][shard], y.detach().permute(0, 2, 3, 1), **close)
        dy = torch.tensor(trial.dy[i][shard].transpose(0, 3, 1, 2).copy())
        dx, dW, db = torch.autograd.grad(y, leaves, dy)
        found = [*dW.permute(2, 3, 1, 0).ravel().tolist(), *db.tolist()]
        np.testing.assert_allclose(weight_gradients(trial, i)[shard], found, **close)
        dx = dx.permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(trial.dx[i][shard], dx.reshape(trial.x[i][shard].shape), **close)


NETWORKS: dict[str, tuple[tuple[int, ...], list[AnyLayer]]] = {
    "first": ((5, 4), [Conv2D(2, 3), Tanh(), Flatten(), Dense(3)]),
    "on another": ((5, 6, 2), [Conv2D(3, 2), Tanh(), Conv2D(2, 3, 2, 1), Flatten(), Dense(2)]),
    "on activations": ((4, 4, 2), [Tanh(), Conv2D(2, 2), ReLU(), Conv2D(2, 1), Flatten()]),
    "last": ((3, 4, 2), [Conv2D(2, (1, 2)), Conv2D(3, (3, 3)), Flatten()]),
}


@pytest.mark.parametrize("name", list(NETWORKS))
@pytest.mark.parametrize("shards", [1, 4])
def test_gradients_are_central_differences(name: str, shards: int) -> None:
    shape, layers = NETWORKS[name]
    task = problem(layers, shape, 7, labels=True, seed=3)
    assert reference.margin(layers, task.parameters, task.x) > 1e-4
    found = task.gradient(shards)
    np.testing.assert_allclose(found, task.differences(shards), rtol=1e-7, atol=1e-9)
    plain = reference.gradient(layers, task.parameters, task.x, task.t, cross_entropies)
    np.testing.assert_allclose(found, plain, rtol=1e-10, atol=1e-12)


def test_the_input_gradient_is_the_central_difference() -> None:
    layer, step = Conv2D(2, (2, 3), (1, 2), 1), 1e-5
    trial = Trial(layer, (4, 5, 2))
    for i, (x, dy, dx) in enumerate(zip(trial.x, trial.dy, trial.dx, strict=True)):
        for place in np.ndindex(x.shape):
            ends = []
            for sign in (1, -1):
                x[place] += sign * step
                trial.operation.forward()
                ends.append((trial.operation.outputs[i] * dy).sum())
                x[place] -= sign * step
            assert dx[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_an_image_without_channels_has_one() -> None:
    flat, deep = Trial(Conv2D(3, 2), (5, 4)), Trial(Conv2D(3, 2), (5, 4, 1))
    assert [y.tobytes() for y in flat.y] == [y.tobytes() for y in deep.y]
    assert [dx.shape for dx in flat.dx] == [(2, 3, 5, 4), (1, 2, 5, 4)]
    assert [dx.tobytes() for dx in flat.dx] == [dx.tobytes() for dx in deep.dx]


def test_a_first_layer_has_no_input_gradient() -> None:
    x = np.ones((2, 3, 4, 4))
    operation = bound(Conv2D(2, 3), x, weights=np.ones(20), passes_back=False)
    operation.forward()
    assert operation.backward([np.ones((2, 3, 2, 2, 2))]) == []


def test_shards_without_rows_are_no_work() -> None:
    shape, layers = NETWORKS["on another"]
    task = problem(layers, shape, 3, labels=True)
    empty = task.filled(5, 3, 5)
    assert empty.forward() == []
    empty.backward()
    whole = task.gradient(5)
    np.testing.assert_allclose(whole, task.gradient(1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("limit", [convolution.PIECE_BYTES, 20_000])
def test_nothing_is_allocated_in_a_step(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "PIECE_BYTES", limit)
    layers: list[AnyLayer] = [Conv2D(8, 3, padding=1), ReLU(), Conv2D(20, 3), Flatten(), Dense(3)]
    task = problem(layers, (14, 14), 64, labels=True, dtype="float32")
    found = task.filled(2)
    tracemalloc.start()
    try:
        found.forward()
        found.backward()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        found.forward()
        found.backward()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # what NumPy's own buffers take; the smallest activation is ten times as large
    assert peak - before < np.getbufsize() * 4 + 10_000
    assert 4 * (np.getbufsize() * 4 + 10_000) < 32 * 14 * 14 * 8 * 4


def test_parameters_and_shapes() -> None:
    layer = Conv2D(5, (3, 2), init=He())
    weights, biases = layer.parameters((8, 7, 4))
    assert weights == ("W", (3, 2, 4, 5), He(), (24, 30), True, None)
    assert biases == ("b", (5,), Zeros(), (24, 30), False, None)
    assert layer.output_shape((8, 7, 4)) == (6, 6, 5)
    assert layer.parameters((8, 7))[0].shape == (3, 2, 1, 5)
    assert Conv2D(5, 3).init == Normal(0.01)
    network = Network((28, 28), [Conv2D(30, 5)])
    assert network.names == ("conv2d1",)
    assert [t.name for t in network.all_tensors()] == ["conv2d1.W", "conv2d1.b"]
    assert network.size == 25 * 30 + 30


@pytest.mark.parametrize(
    ("size", "stride", "padding", "out"),
    [(5, 1, 0, 24), (5, 1, 2, 28), (3, 2, 1, 14), (2, 2, 0, 14), (28, 7, 0, 1), (1, 30, 0, 1)],
)
def test_output_shape(size: int, stride: int, padding: int, out: int) -> None:
    assert Conv2D(6, size, stride, padding).output_shape((28, 28)) == (out, out, 6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((784,), r"takes images of shape \(H, W\) or .*, not samples of shape \(784,\); put it"),
        ((2, 2, 2, 2), r"not samples of shape \(2, 2, 2, 2\)"),
        ((2, 9), r"size=\(3, 3\) does not fit into images of 2x9 with padding=\(0, 0\); choose"),
        ((9, 2, 4), r"images of 9x2 with"),
    ],
)
def test_samples_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=f"^conv2d1: .*{message}"):
        Network(shape, [Conv2D(2, 3)])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *product(["filters", "size", "stride"], [0, -1, 2.5, True, "3", None]),
        *product(["size", "stride", "padding"], [(1, 2, 3), (1,), (1, -1), (1.0, 1), (), [2, 2]]),
        ("padding", -1),
    ],
)
def test_impossible_settings_are_named(name: str, wrong: Any) -> None:
    values: Any = {"filters": 2, "size": 3, name: wrong}
    with pytest.raises(UsageError, match=r"at least (0|1)") as caught:
        Conv2D(**values)
    assert repr(wrong) in str(caught.value)


def test_a_description_survives_toml() -> None:
    layers: list[AnyLayer] = [Conv2D(3, (2, 1), 2, (0, 1), He()), MaxPool2D((2, 1)), Flatten()]
    description = Network((9, 9), layers).description()
    text = to_toml(Experiment(layers=description))
    read = parse_toml(text, "the test")["experiment"]["layers"]
    assert read == description
    assert layers_from(read) == tuple(layers)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 0, "size": 3}, r"at least 1 filter, not 0 - at `\$\[0\]`"),
        ({"filters": 1, "size": 0}, r"size=0 must be .* at least 1, .* - at `\$\[0\]`"),
        ({"filters": 1, "size": [3, 0]}, r"size=\(3, 0\) must be"),
        ({"filters": 1, "size": [3, 3, 3]}, r"length 2, got 3 - at `\$\[0\]\.size`"),
        ({"filters": 1, "size": "3"}, r"`int \| array`, got `str` - at `\$\[0\]\.size`"),
        ({"filters": 1}, r"required field `size`"),
    ],
)
def test_bad_descriptions_name_what_is_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^layers: .*{message}"):
        layers_from([{"layer": "conv2d", **settings}])
