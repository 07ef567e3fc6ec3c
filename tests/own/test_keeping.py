"""What networks keep from step to step in other ways than in an attribute of a layer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.own.model import OwnModel
from dptrain.own.switch import Switch
from dptrain.own.watching import drawn_once, watched
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


IN_PLACE = [keeping.InNewDict, keeping.InTuple, keeping.InDeque, keeping.InSlots, keeping.Locked]


@pytest.mark.parametrize("kind", IN_PLACE, ids=lambda kind: kind.__name__)
def test_wherever_it_stands_it_is_the_same_state(kind: type[Base]) -> None:
    """As an attribute: after two steps, and begun with again, with the digits of both."""
    plain = seeded(keeping.Averaging)
    ways = []
    for network in (plain, seeded(kind)):
        model = OwnModel(network, kind.__name__)
        own = model.with_state(watched(model, X[:8], HOT[:8], 1).forms)
        start = own.tensors()
        weights, states = start[: len(own.params)], [start[len(own.params) :]]
        losses = []
        for _ in range(2):
            own.load([*weights, *states[-1]])
            losses.append(own.loss_and_gradient(X[:8], HOT[:8], 1)[0])
            states.append(own.state())
        own.load(start)
        losses.append(own.loss(X[:8], HOT[:8], 1))
        own.load([*weights, *states[1]])
        losses.append(own.loss(X[:8], HOT[:8], 1, training=True))
        ways.append(losses)
    if kind is keeping.InDeque:  # it comes a step later
        assert ways[1][1] == ways[1][0]
        assert ways[1][3] == ways[0][0]
    else:
        assert ways[0] == ways[1]
        assert ways[0][3] == ways[0][1] != ways[0][2]


LAZY = [keeping.Momentum, keeping.MomentumInList]


@pytest.mark.parametrize("kind", LAZY, ids=lambda kind: kind.__name__)
def test_what_holds_the_state_may_be_made_in_the_first_step(
    kind: type[Base], tmp_path: Path
) -> None:
    *_, network = found(kind, tmp_path)
    alone = seeded(keeping.Momentum)
    model = OwnModel(seeded(kind), "Momentum")
    own = model.with_state(watched(model, X[:8], HOT[:8], 1).forms)
    assert len(own.memory.forms) == 4
    start = own.tensors()
    state = start[len(own.params) :]
    for _ in range(3):
        wanted = alone.gradient(X, HOT)
        own.load([*start[: len(own.params)], *state])
        _, gradients = own.loss_and_gradient(X, HOT, 1)
        state = own.state()
        for name, each in wanted.items():
            np.testing.assert_allclose(gradients[name], each, rtol=1e-12)
    # in another process, which has made no step
    other = OwnModel(seeded(kind), "Momentum", {p: str(f) for p, f in own.memory.forms.items()})
    other.load([*start[: len(own.params)], *state])
    _, gradients = other.loss_and_gradient(X, HOT, 1)
    for name, each in alone.gradient(X, HOT).items():
        np.testing.assert_allclose(gradients[name], each, rtol=1e-12)
    assert network.sums is not None


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
