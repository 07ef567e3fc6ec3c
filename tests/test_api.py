"""The Python API, from scripts as people write them."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import dptrain
from dptrain import Dense, Execution, Experiment, Network, ReLU, Sigmoid
from dptrain.errors import DataError, ShapeError, UsageError
from dptrain.nn.composite import AnyLayer
from dptrain.settings import Settings
from tests.sessions import write_dataset

NETWORK = Network(2, [Dense(8), Sigmoid(), Dense(2)])
EXAMPLE = Path(__file__).parent.parent / "examples" / "fit.py"


def quadrants(rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.standard_normal((rows, 2))
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def test_exported_names() -> None:
    layers = {kind.__name__ for kind in get_args(AnyLayer)}
    others = ["Execution", "Experiment", "Network", "Result", "TrainedNetwork"]
    others += ["fit", "load_params", "load_run", "save_params", "train"]
    assert set(dptrain.__all__) == {*layers, *others}
    assert len(dptrain.__all__) == len({*layers, *others})
    assert all(hasattr(dptrain, name) for name in dptrain.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        dptrain.nothing  # noqa: B018 - the access is the test


def test_settings_are_the_fields_of_the_schema() -> None:
    other = {
        "model",
        "activation",
        "norm",
        "dropout",
        "init",
        "init_std",
        "init_digest",
        "input_shape",
        "layers",
        "dataset",
    }
    other |= {
        "dataset_digest",
        "input_scale",
        "input_offsets",
        "target_scale",
        "label",
        "columns",
        "header",
        "row_weights",
        "listen",
        "join",
        "pin",
        "barrier",
    }
    other |= {"transpose"}
    other |= {"model_args", "model_targets", "model_digest", "model_state"}
    fields = {*Experiment.__struct_fields__, *Execution.__struct_fields__}
    assert set(Settings.__annotations__) == fields - other


def test_fit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    x, t = quadrants()
    settings: Settings = {"epochs": 3, "batch_size": 32, "lr": 0.1, "workers": 1}
    digests = set()
    for workers in (1, 2):
        settings["workers"] = workers
        found = dptrain.fit(
            NETWORK,
            (x, t),
            out=tmp_path / str(workers),
            progress=False,
            **settings,
        )
        digests.add(found.digest)
    assert len(digests) == 1
    assert [record.epoch for record in found.epochs] == [1, 2, 3]
    assert found.steps[0].step == 1
    probabilities = found.network.predict(x[:5])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (found.network.classify(x[:5]) == probabilities.argmax(axis=1)).all()
    assert found.network.weights["dense1.W"].shape == (2, 8)
    out, err = capfd.readouterr()
    assert out == err == ""
    loaded, _ = dptrain.load_run(found.run, "last")
    assert loaded.parameters.tobytes() == found.network.parameters.tobytes()


def test_one_hot_rows_are_labels(tmp_path: Path) -> None:
    x, t = quadrants(60)
    found = [
        dptrain.fit(
            NETWORK,
            (x, targets),
            test_data=(x, targets),
            epochs=1,
            batch_size=20,
            workers=1,
            out=tmp_path / str(i),
            progress=False,
        )
        for i, targets in enumerate((t, np.eye(2)[t]))
    ]
    assert found[0].digest == found[1].digest
    accuracy = found[0].network.accuracy(x, t)
    assert accuracy == found[0].epochs[-1].test_accuracy


def test_regression(tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 200)
    network = Network(1, [Dense(1)])
    found = dptrain.fit(
        network,
        (x, 3 * x - 1),
        epochs=60,
        lr=0.3,
        optimizer="sgd",
        batch_size=40,
        workers=1,
        out=tmp_path / "run",
        progress=False,
    )
    np.testing.assert_allclose(found.network.weights["dense1.W"], [[3]], atol=1e-3)
    np.testing.assert_allclose(found.network.predict([[0.0]]), [[-1]], atol=1e-3)
    assert found.epochs[-1].test_accuracy is None


def test_train_does_what_the_command_line_does(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    experiment = Experiment(dataset=str(data), model="mlp:20-7-3", batch_size=20, epochs=1)
    found = dptrain.train(experiment, Execution(workers=1), out=tmp_path / "run", progress=False)
    assert found.epochs[-1].digest == found.digest


def test_mistakes(tmp_path: Path) -> None:
    x, t = quadrants(40)
    with pytest.raises(ShapeError, match=r"samples of shape \(3,\)"):
        dptrain.fit(Network(3, [Dense(2)]), (x, t), out=tmp_path / "a", workers=1)
    with pytest.raises(ShapeError, match="2 classes"):
        dptrain.fit(Network(2, [Dense(3), ReLU()]), (x, t), out=tmp_path / "b", workers=1)
    with pytest.raises(UsageError, match="unknown key 'epoch'; it is called epochs here"):
        dptrain.fit(NETWORK, (x, t), out=tmp_path / "c", epoch=1)  # type: ignore[call-arg]
    with pytest.raises(DataError, match="nan"):
        dptrain.fit(NETWORK, (np.full_like(x, np.nan), t), out=tmp_path / "d")
    with pytest.raises(UsageError, match="for fit"):
        dptrain.train(Experiment(dataset="memory"))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("way", ["script", "standard input"])
def test_no_main_guard_is_needed(way: str, tmp_path: Path) -> None:
    arguments = [str(EXAMPLE)] if way == "script" else ["-"]
    done = subprocess.run(
        [sys.executable, *arguments],
        input=EXAMPLE.read_text() if way == "standard input" else None,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "are of class [1 0]" in done.stdout
    assert done.stdout.count("digest") == 1
