"""The book's parameters to networks and back, as a reader of the book would do it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.cli.convert import convert
from dptrain.conversion import book_params, dense_experiment, network_from
from dptrain.errors import CheckpointError, DataError, ShapeError, UsageError
from dptrain.nn.functions import softmax
from dptrain.trained import load_run
from dptrain.weights.params import load_params, save_params
from tests.commands import dptrain, result
from tests.data.pickles import by_python2_text
from tests.sessions import run, write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


@pytest.fixture(scope="module")
def folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    settings = {"model": "mlp:20-7-5-3", "activation": "sigmoid", "lr": 0.1, "steps": 60}
    run({"dataset": str(data), **settings}, path, workers=1)
    return path


def predicted(params: Mapping[str, Any], x: np.ndarray) -> np.ndarray:
    """Return what the book's three-layer network predicts, as the book defines it."""
    z1 = 1 / (1 + np.exp(-(x @ params["W1"] + params["b1"])))
    z2 = 1 / (1 + np.exp(-(z1 @ params["W2"] + params["b2"])))
    return np.asarray(softmax(z2 @ params["W3"] + params["b3"]))


def test_a_run_in_the_books_format_predicts_the_same(
    folder: Path, data: Path, tmp_path: Path
) -> None:
    target = tmp_path / "params.pkl"
    result("convert", folder, target)
    with np.load(data) as arrays:
        x, t = arrays["x_test"].reshape(41, 20), arrays["t_test"]
    found = predicted(load_params(target), x)
    trained, _ = load_run(folder, "last")
    np.testing.assert_allclose(trained.predict(x), found, atol=1e-6)
    assert result("evaluate", folder)["test_accuracy"] == np.mean(found.argmax(axis=1) == t)


def test_there_and_back_gives_the_same_digest(folder: Path, data: Path, tmp_path: Path) -> None:
    pickle, model, bare = (tmp_path / name for name in ("a.pkl", "a.npz", "bare.npz"))
    options = ("--activation", "sigmoid", "--dataset", data)
    before = result("evaluate", folder)
    result("convert", folder, pickle)
    assert result("convert", pickle, model, *options)["digest"] == before["digest"]
    after = result("evaluate", model)
    for key in ("digest", "dataset", "loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert after[key] == before[key]
    save_params(bare, load_params(pickle))
    assert result("convert", bare, model, *options)["digest"] == before["digest"]
    direct = tmp_path / "direct.npz"
    assert result("convert", folder, direct)["digest"] == before["digest"]
    assert result("convert", direct, pickle)["digest"] == before["digest"]


def test_the_books_sample_weights_on_mnist(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    shapes: dict[str, Any] = {"W1": (784, 50), "W2": (50, 100), "W3": (100, 10)}
    shapes |= {"b1": 50, "b2": 100, "b3": 10}
    params = {name: random.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    source, model = tmp_path / "sample_weight.pkl", tmp_path / "book.npz"
    source.write_bytes(by_python2_text(params))
    result("convert", source, model, "--activation", "sigmoid")
    trained, _ = load_run(model, "last")
    assert trained.network.input_shape == (28, 28)
    assert trained.class_names == tuple("0123456789")
    assert trained.experiment.dtype == "float32"
    grey = random.integers(0, 256, (100, 784), np.uint8)
    expected = predicted(params, grey / 255)
    np.testing.assert_allclose(trained.predict(grey), expected, atol=1e-5)


def test_double_precision_is_kept(data: Path) -> None:
    params = {"W1": np.full((20, 3), 1 / 3), "b1": np.zeros(3, np.float32)}
    trained, saved = network_from(params, dense_experiment(params, "relu", str(data)))
    assert trained.experiment.dtype == "float64"
    np.testing.assert_array_equal(book_params(trained)["W1"], params["W1"], strict=True)
    assert saved.experiment.count("mlp:20-3") == 1


def test_parameters_that_do_not_fit_the_data(data: Path) -> None:
    def convert_to(dataset: str, W: np.ndarray) -> None:
        params = {"W1": W, "b1": np.ones(W.shape[1])}
        network_from(params, dense_experiment(params, "relu", dataset))

    with pytest.raises(ShapeError, match="3 classes"):
        convert_to(str(data), np.ones((20, 4)))
    with pytest.raises(ShapeError, match="takes 20 inputs"):
        convert_to("mnist", np.ones((20, 10)))
    with pytest.raises(DataError, match="not finite"):
        convert_to(str(data), np.full((20, 3), np.nan))


def test_mistakes(folder: Path, tmp_path: Path) -> None:
    weights, model = tmp_path / "sample_weight.pkl", tmp_path / "a.npz"
    save_params(weights, {"W1": np.ones((20, 3)), "b1": np.ones(3)})
    with pytest.raises(UsageError, match="give --activation, one of sigmoid, relu"):
        convert(weights, model)
    with pytest.raises(UsageError, match=r"end with \.npz, \.pkl"):
        convert(folder, tmp_path / "a.bin")
    with pytest.raises(UsageError, match="leave out such options"):
        convert(folder, model, activation="relu")
    with pytest.raises(UsageError, match=f"convert {weights} sample_weight.npz --activation"):
        load_run(weights, "last")
    with pytest.raises(DataError, match="No such file"):
        convert(model, tmp_path / "b.npz")
    save_params(model, {"W1": np.ones((20, 3)), "b1": np.ones(3)})
    with pytest.raises(CheckpointError, match=r"become one with .* --activation"):
        load_run(model, "last")
    save_params(weights, {"W1": np.ones((30, 1, 5, 5)), "b1": np.ones(30)})
    with pytest.raises(DataError, match=rf"{weights}: W1 .*\(30, 1, 5, 5\).* --model FILE.toml"):
        convert(weights, tmp_path / "b.npz", activation="relu")
    assert {path.name for path in tmp_path.iterdir()} == {"sample_weight.pkl", "a.npz"}


def test_a_hostile_pickle_is_one_message(tmp_path: Path) -> None:
    weights = tmp_path / "sample_weight.pkl"
    weights.write_bytes(f"cposix\nsystem\n(S'touch {tmp_path}/witness'\ntR.".encode())
    done = dptrain("convert", weights, tmp_path / "b.npz", "--activation", "relu")
    assert done.returncode == 1
    message = f"{weights}: the pickle is refused at byte 0: it asks for posix.system"
    assert done.stderr.startswith(f"dptrain: {message}")
    assert list(tmp_path.iterdir()) == [weights]
