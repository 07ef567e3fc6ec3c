"""What networks keep from step to step in other ways than in an attribute of a layer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.own.model import OwnModel
from dptrain.own.state_detection import drawn_once, watched
from dptrain.own.training_mode import Switch
from tests.commands import dptrain, result
from tests.own import keeping
from tests.own.stateful import Base
from tests.own.test_fit import T, X, fit
from tests.sessions import write_dataset

HOT = np.eye(3)[T]
ONE_SHARD = "ignore:.*(one shard|only update):RuntimeWarning"


def seeded(kind: type[Base]) -> Any:
    np.random.seed(3)
    return kind()


def found(kind: type[Base], folder: Path) -> tuple[Any, ...]:
    """Train with one worker and with three; return what both came to, and the network."""
    ends = []
    for workers in (1, 3):
        network = seeded(kind)
        done = fit(network, folder / str(workers), (X, HOT), workers=workers, lr=0.1, epochs=3)
        last = done.epochs[-1]
        ends.append((done.digest, last.train_loss, last.test_loss))
    assert ends[0] == ends[1]
    return (*ends[0], network)


PLACES = [
    keeping.InNewDict,
    keeping.InTuple,
    keeping.InDeque,
    keeping.InSlots,
    keeping.Locked,
    keeping.Momentum,
    keeping.MomentumInList,
]


@pytest.mark.parametrize("kind", PLACES, ids=lambda kind: kind.__name__)
def test_it_is_kept_wherever_it_stands(kind: type[Base]) -> None:
    """Gradients are those of a loop of one's own; also from the middle on, in a new network."""
    alone, random = seeded(kind), np.random.default_rng(2)
    model = OwnModel(seeded(kind), kind.__name__)
    own = model.with_state(watched(model, X[:8], HOT[:8], 1).forms)
    weights, state = own.tensors()[: len(own.params)], own.memory.initial()
    for step in range(9):
        if step == 4:
            forms = {path: str(form) for path, form in own.memory.forms.items()}
            own = OwnModel(seeded(kind), kind.__name__, forms)
        x = X[random.permutation(len(X))[:9]] + 0.1
        own.load([*weights, *state])
        _, found = own.loss_and_gradient(x, HOT[:9], 1)
        state = own.state()
        for name, each in alone.gradient(x, HOT[:9]).items():
            np.testing.assert_allclose(found[name], each, rtol=1e-12, atol=1e-15)
        own.loss_and_gradient(x + 1, HOT[:9], 1)  # as of another shard, or an evaluation


@pytest.mark.parametrize("kind", [keeping.InNewDict, keeping.Momentum])
def test_with_any_number_of_workers(kind: type[Base], tmp_path: Path) -> None:
    found(kind, tmp_path)


@pytest.mark.parametrize("kind", [keeping.Smoothed, keeping.SmoothedAtOnce])
def test_averages_of_weights(kind: type[Base], tmp_path: Path) -> None:
    """Also where nothing depends on them at first, and where they begin with zeros."""
    model = OwnModel(seeded(kind), "Smoothed")
    forms = watched(model, X[:8], HOT[:8], 1).forms
    assert sorted(forms) == [*(f"average['{n}']" for n in ("W1", "W2", "b1", "b2")), "steps"]
    found(kind, tmp_path)


@pytest.mark.filterwarnings(ONE_SHARD)
@pytest.mark.parametrize("kind", [keeping.Projected, keeping.Masked])
def test_what_the_first_call_draws_is_drawn_once(kind: type[Base], tmp_path: Path) -> None:
    model = OwnModel(seeded(kind), kind.__name__)
    own = model.with_state(watched(model, X[:8], HOT[:8], 1).forms)
    assert len(own.memory.forms) == 1
    own.load(own.tensors())
    assert drawn_once(own, X[:8], HOT[:8], 1)
    found(kind, tmp_path)


def test_averages_are_not_drawn() -> None:
    model = OwnModel(seeded(keeping.Averaging), "Averaging")
    own = model.with_state(watched(model, X[:8], HOT[:8], 1).forms)
    own.load(own.tensors())
    assert not drawn_once(own, X[:8], HOT[:8], 1)


@pytest.mark.parametrize("kind", [keeping.Clipping, keeping.Decaying])
def test_changes_of_weights_are_undone_and_told(kind: type[Base], tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"changes params\['W1'\].* in a call; that is undone"):
        digest, *_ = found(kind, tmp_path / "changing")
    if kind is keeping.Clipping:  # behind everything
        assert digest == found(Base, tmp_path / "plain")[0]


@pytest.mark.parametrize("kind", [keeping.Remembering, keeping.RememberingValues])
def test_rows_of_a_call_are_not_those_of_the_last(kind: type[Base], tmp_path: Path) -> None:
    assert found(kind, tmp_path / "a")[:3] == found(keeping.Sines, tmp_path / "b")[:3]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (keeping.InModule, r"changes tests.own.keeping.STEPS in its calls; every process"),
        (keeping.InClass, r"changes InClass.sums\['seen'\] in its calls; every process"),
        (keeping.Beginning, "keeps mean from call to call, which cannot be kept"),
        (keeping.Dropping, r"in evaluations as well, in loss\(x, t\) and predict\(x\), as dropout"),
    ],
)
def test_it_is_told(kind: type[Base], told: str, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=told) as caught:
        fit(seeded(kind), tmp_path / "run", (X, HOT), workers=1, epochs=None, steps=1)
    assert len(caught) == 1


def test_looking_changes_nothing_outside(tmp_path: Path) -> None:
    keeping.InClass.sums["seen"][...] = 5
    with pytest.warns(RuntimeWarning, match="InClass"):
        fit(seeded(keeping.InClass), tmp_path / "run", (X, HOT), workers=2, epochs=None, steps=1)
    assert keeping.InClass.sums["seen"].tolist() != [0, 0, 0]


@pytest.mark.parametrize("kind", [keeping.DroppingByClass, keeping.DroppingByProperty])
def test_switches_of_classes(kind: type[Base], tmp_path: Path) -> None:
    network = seeded(kind)
    before = dict(vars(network))
    switch = Switch(network, {})
    assert str(switch) == "training"
    with switch.set(training=False):
        assert not network.training
    assert network.training
    assert vars(network).keys() <= before.keys() | {"_training"}
    model = OwnModel(network, kind.__name__)
    assert model.loss(X, HOT, 1) == model.loss(X, HOT, 2)
    assert model.loss(X, HOT, 1, training=True) != model.loss(X, HOT, 2, training=True)
    found(kind, tmp_path)


START = """
import numpy as np
from tests.own.stateful import Base
own = np.random.default_rng(5)
class Net(Base):
    def __init__(self):
        super().__init__()
        self.matrix = {matrix}
        self.params["W1"][...] = {weights}
    def predict(self, x, train_flg=False):
        return super().predict(x @ self.matrix, train_flg)
"""
UNSEEDED = "np.random.default_rng().random(({},{}))"


def test_constructors_that_draw(tmp_path: Path) -> None:
    """From a module's generator is right; from one that nobody seeds is told."""
    data = write_dataset(tmp_path / "small.npz")
    job = ("--dataset", data, "--batch-size", 30, "--steps", 2, "--workers", 1)

    def write(file: str, matrix: str, weights: str) -> tuple[str, str]:
        (tmp_path / file).write_text(START.format(matrix=matrix, weights=weights))
        return "--model", f"{tmp_path / file}:Net"

    model, run = write("right.py", "own.random((20, 20))", "own.random((20, 7))"), tmp_path / "run"
    done = result("train", *job, *model, "--out", run)
    assert result("evaluate", run, *model)["test_loss"] == done["test_loss"]
    assert result("verify", run, *model)["same"]
    for file, parts, told in (
        ("a.py", (UNSEEDED.format(20, 20), "0.1"), "computes something else each time"),
        (
            "b.py",
            ("np.eye(20)", UNSEEDED.format(20, 7)),
            "begins with other weights, W1, each time",
        ),
    ):
        model = write(file, *parts)
        assert told in dptrain("train", *job, *model, "--out", tmp_path / f"run-{file}").stderr
