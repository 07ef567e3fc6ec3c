"""Objects and functions of a script, given to the Python API."""

import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain import Experiment
from dptrain.errors import OwnCodeError, UsageError
from tests.own.nets import EXAMPLES, Net, Regression
from tests.sessions import write_dataset

RANDOM = np.random.default_rng(1)
X = RANDOM.standard_normal((130, 20))
T = X[:, :3].argmax(axis=1)


def fit(network: object, out: Path, data: Any = (X, T), **settings: Any) -> dptrain.Result:
    given = {"epochs": 12, "lr": 0.05, "batch_size": 30, "out": out, "progress": False}
    return dptrain.fit(network, data, **given | settings)  # type: ignore[arg-type]


def seeded(**arguments: Any) -> Net:
    np.random.seed(7)
    return Net(**arguments)


@pytest.mark.parametrize("drop", [False, True])
def test_the_same_weights_for_any_execution(drop: bool, tmp_path: Path) -> None:
    found = []
    every: list[dict[str, Any]] = [{"workers": 1}, {"workers": 2}, {"workers": 3}]
    for i, ways in enumerate([*every, {"workers": 2, "exchange": "star"}]):
        subject = seeded(drop=drop)
        before = np.random.get_state()[1].tobytes()  # type: ignore[index]
        done = fit(subject, tmp_path / str(i), **ways)
        assert np.random.get_state()[1].tobytes() == before  # type: ignore[index]
        for name, weights in done.network.weights.items():
            np.testing.assert_array_equal(subject.params[name], weights)
        assert subject.layers["Affine1"].W is subject.params["W1"]
        last = done.epochs[-1]
        found.append((done.digest, last.train_loss, last.test_accuracy))
    assert len(set(found)) == 1
    assert found[0][2] is not None
    assert found[0][2] > 0.6


def test_targets_keep_their_form(tmp_path: Path) -> None:
    hot = fit(seeded(), tmp_path / "hot", (X, np.eye(3)[T]), workers=1)
    labels = fit(seeded(), tmp_path / "labels", workers=1)
    assert hot.digest == labels.digest
    line, images = Regression(), X.reshape(-1, 4, 5)
    ways: dict[str, Any] = {
        "workers": 2,
        "epochs": 60,
        "optimizer": "sgd",
        "lr": 0.5,
        "batch_size": 104,
    }
    done = fit(line, tmp_path / "flat", (images, X @ np.arange(20.0)), **ways)
    np.testing.assert_allclose(line.params["w"], np.arange(20.0), atol=1e-2)
    assert done.epochs[-1].test_accuracy is None
    np.testing.assert_allclose(done.network.predict(images[:3]), X[:3] @ np.arange(20), rtol=1e-2)


def test_the_trained_network(tmp_path: Path) -> None:
    subject = seeded()
    done = fit(subject, tmp_path / "run", workers=1)
    assert (done.network.classify(X) == subject.predict(X).argmax(axis=1)).all()
    alone, _ = dptrain.load_run(done.run, "last")
    assert (alone.weights["W1"] == done.network.weights["W1"]).all()
    with pytest.raises(UsageError, match=r"load_run\(..., network="):
        alone.predict(X)
    again, _ = dptrain.load_run(done.run, "last", Net())
    np.testing.assert_array_equal(again.predict(X), done.network.predict(X))
    with pytest.raises(dptrain.errors.CheckpointError, match="another network: W1 is"):
        dptrain.load_run(done.run, "last", Net(hidden=8))


def test_a_function_and_its_parameters(tmp_path: Path) -> None:
    script = f"""
        import sys
        sys.path.insert(0, {str(EXAMPLES)!r})
        import numpy as np, own_function, dptrain
        x = np.random.default_rng(0).standard_normal((99, 20))
        t = np.eye(3)[x[:, :3].argmax(axis=1)]
        for workers in (1, 2):
            np.random.seed(0)
            params = own_function.initial_params(20, 5, 3)
            done = dptrain.fit(
                own_function.loss_and_gradient, (x, t), params=params,
                predict=own_function.predict, epochs=5, lr=0.1, batch_size=25, workers=workers,
            )
            print(done.digest, done.epochs[-1].test_accuracy, params["b2"])
    """
    lines = outputs(script, tmp_path)
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert "0. 0. 0." not in lines[0]


def test_a_network_that_a_script_defines(tmp_path: Path) -> None:
    script = """
        import numpy as np, dptrain
        print("once")
        STD = 0.3
        def tanh(x): return np.tanh(x)
        class Line:
            def __init__(self):
                self.params = {"W": np.random.randn(20, 3) * STD}
                self.weights = self.params["W"]
            def predict(self, x): return tanh(x @ self.weights)
            def loss(self, x, t): return np.sum((self.predict(x) - t) ** 2) / len(x) / 2
            def gradient(self, x, t):
                y = self.predict(x)
                return {"W": x.T @ ((y - t) * (1 - y * y)) / len(x)}
        x = np.random.default_rng(0).standard_normal((99, 20))
        t = np.eye(3)[x[:, :3].argmax(axis=1)]
        for workers in (1, 2):
            np.random.seed(0)
            done = dptrain.fit(Line(), (x, t), epochs=5, batch_size=25, workers=workers)
            print(done.digest, done.epochs[-1].test_accuracy)
    """
    once, *lines = outputs(script, tmp_path)
    assert once == "once"
    assert len(lines) == 2
    assert lines[0] == lines[1]


def outputs(script: str, folder: Path) -> list[str]:
    file = folder / "script.py"
    file.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(file)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_on_a_data_set_with_a_name(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz")
    experiment = Experiment(dataset=str(data), epochs=1, batch_size=20)
    done = dptrain.train(
        experiment, dptrain.Execution(workers=1), network=Net(), out=tmp_path / "a", progress=False
    )
    assert done.epochs[-1].test_accuracy is not None
    with pytest.raises(UsageError, match=r"give an object of it, network=Net\(\.\.\.\)"):
        dptrain.train(
            Experiment(model="net.py:Net", dataset=str(data)), out=tmp_path / "b", progress=False
        )


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Net is a class"):
        fit(Net, tmp_path / "a")
    with pytest.raises(UsageError, match="by hand cannot get an object"):
        fit(Net(), tmp_path / "a", workers=2, join=1)
    with pytest.raises(UsageError, match="params and predict are for a function"):
        fit(Net(), tmp_path / "a", params={})
    locked = Net()
    locked.layers["Relu"].draw = random.Random(0)
    with pytest.raises(UsageError, match=r"Net.layers\['Relu'\].draw is a random.Random"):
        fit(locked, tmp_path / "a", workers=2)
    broken = Net()
    broken.layers["Relu"].forward = 3
    with pytest.raises(OwnCodeError, match="raised TypeError: 'int' object is not callable"):
        fit(broken, tmp_path / "a", workers=1)
    assert not (tmp_path / "a").exists()


def test_the_gradient_that_autograd_finds(tmp_path: Path) -> None:
    pytest.importorskip("autograd")
    path = f"import sys\nsys.path.insert(0, {str(EXAMPLES)!r})\n"
    lines = outputs(path + (EXAMPLES / "own_autograd.py").read_text(), tmp_path)
    differences = [float(line.rpartition(" ")[2]) for line in lines]
    assert len(differences) == 4
    assert max(differences) < 1e-14
