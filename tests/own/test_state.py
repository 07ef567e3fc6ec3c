"""What a network of the user's own keeps beside ``params``, and its training mode."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dptrain
from dptrain.own.model import OwnModel
from dptrain.own.state_detection import merges, watched
from dptrain.own.training_mode import Switch
from tests.commands import result
from tests.own.stateful import Base, Centred, Dropping, Normed
from tests.own.test_fit import T, X, fit
from tests.sessions import write_dataset

HERE = Path(__file__).parent / "stateful.py"
HOT = np.eye(3)[T]
KEPT = {
    Normed: ["layers['BatchNorm1'].running_mean", "layers['BatchNorm1'].running_var"],
    Centred: ["mean", "steps"],
    Dropping: [],
    Base: [],
}
ONE_SHARD = "ignore:.*(one shard|only update):RuntimeWarning"
WAYS: list[dict[str, Any]] = [
    {"workers": 1},
    {"workers": 2},
    {"workers": 3},
    {"workers": 2, "exchange": "star"},
]


def seeded(kind: type[Base]) -> Any:
    np.random.seed(3)
    return kind()


@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.__name__)
def test_state_is_found_by_watching(kind: type[Base]) -> None:
    model = OwnModel(seeded(kind), kind.__name__)
    before = [tensor.copy() for tensor in model.tensors()]
    found = watched(model, X[:8], HOT[:8], 1)
    assert list(found.forms) == KEPT[kind]
    assert not found.lost
    for now, then in zip(model.tensors(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_running_variance_does_not_merge_and_a_mean_does() -> None:
    for kind, merged in ((Normed, False), (Centred, True)):
        model = OwnModel(seeded(kind), kind.__name__)
        own = model.with_state(watched(model, X[:8], HOT[:8], 1).forms)
        own.load(own.tensors())
        assert merges(own, X[:9], HOT[:9], 1) is merged


def loop(network: Any, steps: int, lr: float, batch: int) -> None:
    """Train as the user's own script would, on the rows as they come."""
    for step in range(steps):
        rows = slice(step * batch, (step + 1) * batch)
        for name, gradient in network.gradient(X[rows], HOT[rows]).items():
            network.params[name] -= lr * gradient


@pytest.mark.filterwarnings(ONE_SHARD)
@pytest.mark.parametrize("kind", [Normed, Centred], ids=lambda kind: kind.__name__)
def test_it_is_what_a_loop_of_ones_own_comes_to(
    kind: type[Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dptrain.experiment import job

    monkeypatch.setattr(job, "epoch_order", lambda *places: np.arange(places[-1]))
    alone, ours = seeded(kind), seeded(kind)
    loop(alone, 4, 0.1, 25)
    ways: dict[str, Any] = {"workers": 1, "optimizer": "sgd", "lr": 0.1, "batch_size": 25}
    data = ((X, HOT), (X[:5], HOT[:5]))
    fit(
        ours,
        tmp_path / "run",
        data[0],
        test_data=data[1],
        epochs=None,
        steps=4,
        dtype="float64",
        **ways,
    )
    for name, weights in alone.params.items():
        np.testing.assert_allclose(ours.params[name], weights, rtol=1e-12, atol=1e-14)
    if kind is Normed:
        norms = [network.layers["BatchNorm1"] for network in (ours, alone)]
        np.testing.assert_allclose(norms[0].running_var, norms[1].running_var, rtol=1e-12)
    else:
        np.testing.assert_allclose(ours.mean, alone.mean, rtol=1e-12)
        assert ours.steps == 4


@pytest.mark.filterwarnings(ONE_SHARD)
@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.__name__)
def test_the_same_for_any_execution(kind: type[Base], tmp_path: Path) -> None:
    found = []
    for i, ways in enumerate(WAYS):
        network = seeded(kind)
        settings = {"validation": 0.3, "patience": 2, "epochs": 9, "lr": 0.1}
        done = fit(network, tmp_path / str(i), (X, HOT), **settings, **ways)
        last = done.epochs[-1]
        found.append((done.digest, last.train_loss, last.validation_loss, len(done.epochs)))
        # what is handed back predicts as the run's network does
        np.testing.assert_allclose(network.predict(X), done.network.predict(X), rtol=1e-3)
    assert len(set(found)) == 1


@pytest.mark.filterwarnings(ONE_SHARD)
def test_a_second_fit_goes_on_with_the_state(tmp_path: Path) -> None:
    network = seeded(Centred)
    fit(network, tmp_path / "1", (X, HOT), workers=1, epochs=None, steps=3)
    fit(network, tmp_path / "2", (X, HOT), workers=2, epochs=None, steps=4)
    assert network.steps == 7


def test_a_generator_of_the_scripts_is_as_it_was(tmp_path: Path) -> None:
    network = seeded(Dropping)
    state = network.random.bit_generator.state
    fit(network, tmp_path / "run", (X, HOT), workers=1, epochs=1)
    assert network.random.bit_generator.state == state
    assert network.training is False


def test_the_switch() -> None:
    def switch(subject: Any) -> str:
        return str(Switch(subject, {"loss": subject.loss, "predict": subject.predict}))

    assert switch(seeded(Normed)) == "train_flg of loss, predict"
    network = seeded(Dropping)
    assert switch(network) == "train_flg of loss, predict; training"
    found = Switch(network, {})
    with found.set(training=True):
        assert network.training is True
    assert network.training is False


def test_losses_are_those_of_the_mode() -> None:
    model = OwnModel(seeded(Dropping), "Dropping")
    with_masks = model.loss(X, HOT, 5, training=True)
    assert with_masks == model.loss_and_gradient(X, HOT, 5)[0]
    assert with_masks != model.loss(X, HOT, 6, training=True)
    assert model.loss(X, HOT, 5) == model.loss(X, HOT, 6) != with_masks


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


def test_every_verb_has_the_state(data: Path, tmp_path: Path) -> None:
    model = ("--model", f"{HERE}:Normed")
    job = (*model, "--dataset", data, "--batch-size", 30, "--lr", 0.1)
    whole, half = tmp_path / "whole", tmp_path / "half"
    done = result("train", *job, "--epochs", 4, "--workers", 1, "--out", whole)
    result("train", *job, "--epochs", 2, "--workers", 2, "--out", half)
    again = result("train", "--resume", half, *model, "--epochs", 4, "--workers", 3)
    assert again["digest"] == done["digest"]
    scores = result("evaluate", half, *model)
    for key in ("loss", "train_accuracy", "test_loss", "test_accuracy"):
        assert scores[key] == done[key], key
    assert result("verify", half, *model)["same"]
    test = np.load(data)["x_test"]
    np.save(tmp_path / "x.npy", test)
    outputs = result("predict", half, *model, "--input", tmp_path / "x.npy")["outputs"]
    right = np.mean(np.argmax(outputs, axis=1) == np.load(data)["t_test"])
    assert right == pytest.approx(done["test_accuracy"])


def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    class Remembering(Base):
        """Adds to each loss what it has seen, in a list that grows."""

        seen: list[float]

        def __init__(self) -> None:
            super().__init__()
            self.seen = []

        def predict(self, x: Any, train_flg: bool = False) -> Any:
            return super().predict(x + 0.01 * len(self.seen), train_flg)

        def gradient(self, x: Any, t: Any) -> Any:
            found = super().gradient(x, t)
            self.seen.append(1.0)
            return found

    with pytest.warns(RuntimeWarning, match="which cannot be kept with its weights"):
        dptrain.fit(
            Remembering(), (X, HOT), steps=2, workers=1, out=tmp_path / "run", progress=False
        )


class Shaken(Base):
    """Adds what Python's global generator draws to the gradient, as it should not be done."""

    def gradient(self, x: Any, t: Any) -> Any:
        found = super().gradient(x, t)
        found["b1"] = found["b1"] + 1e-3 * random.random()
        return found


def test_pythons_generator_is_seeded(tmp_path: Path) -> None:
    done = [fit(seeded(Shaken), tmp_path / str(w), (X, HOT), workers=w) for w in (1, 2)]
    assert done[0].digest == done[1].digest
