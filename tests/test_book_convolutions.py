"""Convolutional networks of the book's form, against their definition with channels first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.cli.convert import convert
from dptrain.errors import DataError, UsageError
from dptrain.trained import load_run
from dptrain.weights.params import load_params, save_params
from tests.commands import dptrain, result

Params = dict[str, np.ndarray]

RELU, POOL, FLATTEN, DROPOUT = ("relu",), ("maxpool2d",), ("flatten",), ("dropout",)
SHALLOW = [("conv2d", 4, 3, 0), RELU, POOL, FLATTEN, ("dense", 6), RELU, ("dense", 3)]
DEEP = [("conv2d", 4, 3, 1), RELU, ("conv2d", 5, 3, 2), RELU, POOL, FLATTEN,
        ("dense", 6), RELU, DROPOUT, ("dense", 3), DROPOUT]  # fmt: skip
Layers = list[tuple[Any, ...]]
RATE = 0.25


def toml(folder: Path, layers: Layers, images: tuple[int, ...]) -> Path:
    """Write an experiment with layers, and its data set of images."""
    random = np.random.default_rng(5)
    x = random.integers(0, 256, (30, *images), np.uint8)
    np.savez(
        folder / "data.npz",
        x_train=x,
        t_train=np.arange(30) % 3,
        x_test=x[:9],
        t_test=x[:9, 0, 0].reshape(9, -1)[:, 0] % 3,
    )
    keys = {"conv2d": ("filters", "size", "padding"), "dense": ("units",)}
    lines = [f"[experiment]\ndataset = '{folder / 'data.npz'}'\ninput_shape = {list(images)}\n"]
    for kind, *values in layers:
        lines.append(f"[[experiment.layers]]\nlayer = '{kind}'\n")
        pairs = zip(keys.get(kind, ()), values, strict=True)
        lines += [f"{key} = {value}\n" for key, value in pairs]
        lines += ["size = 2\n"] * (kind == "maxpool2d") + [f"rate = {RATE}\n"] * (kind == "dropout")
    path = folder / "net.toml"
    path.write_text("".join(lines))
    return path


def predicted(params: Params, layers: Layers, x: np.ndarray) -> np.ndarray:
    """Return what the book's network gives for images ``(n, C, H, W)``, as the book defines it."""
    number = 0
    for kind, *values in layers:
        if kind in ("conv2d", "dense"):
            number += 1
            W, b = params[f"W{number}"], params[f"b{number}"]
        if kind == "conv2d":
            _, size, pad = values
            x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
            height, width = (n - size + 1 for n in x.shape[2:])
            windows = [
                [x[:, :, i : i + size, j : j + size] for j in range(width)] for i in range(height)
            ]
            x = np.array([[np.einsum("ncij,fcij->nf", w, W) for w in line] for line in windows])
            x = x.transpose(2, 3, 0, 1) + b[:, np.newaxis, np.newaxis]
        elif kind == "dense":
            x = x @ W + b
        elif kind == "maxpool2d":
            n, c, h, w = x.shape
            x = x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
        elif kind == "flatten":
            x = x.reshape(len(x), -1)
        elif kind == "relu":
            x = np.maximum(x, 0)
        else:
            x = x * (1 - RATE)
    return x


def drawn(shapes: dict[str, tuple[int, ...]]) -> Params:
    random = np.random.default_rng(8)
    made = {f"W{i}": random.standard_normal(s) * 0.3 for i, s in enumerate(shapes.values(), 1)}
    biases = [s[0] if len(s) == 4 else s[1] for s in shapes.values()]
    return made | {f"b{i}": random.standard_normal(n) for i, n in enumerate(biases, 1)}


CASES = {
    "shallow": (SHALLOW, (8, 9), {"1": (4, 1, 3, 3), "2": (4 * 3 * 3, 6), "3": (6, 3)}),
    "deep": (
        DEEP,
        (6, 7, 3),
        {"1": (4, 3, 3, 3), "2": (5, 4, 3, 3), "3": (5 * 4 * 4, 6), "4": (6, 3)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_convolutional_network_predicts_what_the_book_defines(name: str, tmp_path: Path) -> None:
    layers, images, shapes = CASES[name]
    params, experiment = drawn(shapes), toml(tmp_path, layers, images)
    source, model, back = (tmp_path / each for each in ("params.pkl", "model.npz", "back.pkl"))
    save_params(source, params)
    done = dptrain("convert", source, model, "--model", experiment)
    assert "W1, conv2d1.W: (filters, channels, height, width) " in done.stdout
    trained, _ = load_run(model, "last")
    assert trained.experiment.dtype == "float64"
    with np.load(tmp_path / "data.npz") as arrays:
        grey, t = arrays["x_test"].reshape(9, *images[:2], -1), arrays["t_test"]
    expected = predicted(params, layers, grey.transpose(0, 3, 1, 2) / 255)
    np.testing.assert_allclose(trained.outputs(grey), expected, rtol=1e-12, atol=1e-13)
    assert result("evaluate", model)["test_accuracy"] == np.mean(expected.argmax(axis=1) == t)
    result("convert", model, back)
    for key, array in load_params(back).items():
        np.testing.assert_array_max_ulp(array, params[key], 1)


def test_what_the_books_dropout_changes_is_told(tmp_path: Path) -> None:
    layers, images, shapes = CASES["deep"]
    save_params(tmp_path / "params.pkl", drawn(shapes))
    options = (tmp_path / "model.npz", "--model", toml(tmp_path, layers, images))
    told = dptrain("convert", tmp_path / "params.pkl", *options).stdout
    assert "W3, dense1.W: its rows, (channels, height, width) (5, 4, 4), are (4, 4, 5) here" in told
    assert "W4, dense2.W: 0.5625 times the book's" in told
    assert "b4, dense2.b: 0.75 times the book's" in told


def test_mistakes_name_the_tensor_and_the_command(tmp_path: Path) -> None:
    layers, images, shapes = CASES["shallow"]
    params, experiment = drawn(shapes), str(toml(tmp_path, layers, images))
    source, target = tmp_path / "params.pkl", tmp_path / "model.npz"

    def refused(changes: dict[str, Any], words: str) -> None:
        save_params(source, {k: v for k, v in (params | changes).items() if v is not None})
        with pytest.raises(DataError, match=words):
            convert(source, target, model=experiment)

    refused({"W2": np.ones((4 * 9, 7))}, r"W2 has shape \(36, 7\), but dense1.W .* wants \(36, 6\)")
    refused({"W1": np.ones((4, 3, 3))}, r"W1 has shape .* wants \(4, 1, 3, 3\)")
    refused({"b3": None}, "b3 is missing among W1, W2, W3, b1, b2")
    refused({"gamma1": np.ones(4)}, "'gamma1' has no place in the network, which has W1, b1")
    save_params(source, params)
    command = f"dptrain convert {source} params.npz --model examples/conv.toml`"
    with pytest.raises(UsageError, match=command):
        load_run(source, "last")
    with pytest.raises(UsageError, match=f"does not tell the layers .*{command}"):
        convert(source, target)
    with pytest.raises(UsageError, match="leave out --activation"):
        convert(source, target, model=experiment, activation="relu")
    with pytest.raises(UsageError, match=r"must be a file with an experiment"):
        convert(source, target, model="two-layer")
    assert not target.exists()
