"""What is wrong with a network is found before a run begins, and told in one message."""

from pathlib import Path
from typing import Any

import pytest

from dptrain.coordinator.outcome import Outcome
from dptrain.coordinator.session import Session
from dptrain.errors import DptrainError
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment
from dptrain.experiment.validate import build
from dptrain.own.origin import Named
from dptrain.report.observers import SilentObserver
from tests.own.nets import EXAMPLE, like_the_example
from tests.sessions import write_dataset

SIZES = {"input_size": 20, "hidden_size": 7, "output_size": 3, "weight_init_std": 0.3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "small.npz")


def train(model: str, data: Path, out: Path, **settings: Any) -> Outcome:
    given = {"model": model, "model_args": SIZES, "dataset": str(data), "batch_size": 30}
    experiment = build(Experiment, given | {"steps": 3} | settings, "the test")
    session = Session(
        experiment, Execution(workers=1), SilentObserver(), out=out, origin=Named(model)
    )
    return session.run(handle_signals=False)


IMAGES = """
    def gradient(self, x, t):
        rows, channels, height, width = x.shape
        return super().gradient(x.reshape(rows, -1), t)
"""
SCORES = """
    def predict(self, x): return x
    def loss(self, x, t): return -np.sum(t * np.log(self._forward(x)[1]))
    accuracy = None
"""
CONSTANT = """
    def _forward(self, x): return np.ones((len(x), 7)), np.ones((len(x), 3)) / 3
"""


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("    gradient = None", 2, r"Net has no gradient\(x, t\)"),
        ("    def gradient(self, x, t): return {}", 2, "has no gradient of 'W1', 'b1', 'W2', 'b2'"),
        ("    def gradient(self, x, t): raise KeyError(3)", 1, "raised KeyError: 3"),
        ("    def __init__(self, *a, **k): pass", 2, "Net.params is None"),
        ("    def __init__(self, *a, **k): self.x", 1, "raised AttributeError"),
        (IMAGES, 1, r"\(8, 20\): --model.input-shape 1,4,5 gives them as images, \(8, 1, 4, 5\)"),
        (SCORES, 2, "must return scores"),
        (CONSTANT, 2, "does not change with its .params"),
    ],
)
def test_networks(text: str, code: int, message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DptrainError, match=message) as caught:
        train(like_the_example(tmp_path, text), data, tmp_path / "run")
    assert caught.value.exit_code == code
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "relu"}, "activation=relu means nothing to .*; leave out --activation"),
        ({"init_std": 0.1}, "leave out --init-std"),
        ({"loss": "sum-of-squares"}, "loss=sum-of-squares means nothing to"),
        ({"input_shape": [3, 7]}, "is 21 numbers, but the data set has samples of shape"),
        ({"model_targets": "columns"}, "choose from: rows, flat"),
    ],
)
def test_settings(settings: dict[str, Any], message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DptrainError, match=message) as caught:
        train(EXAMPLE, data, tmp_path / "run", **settings)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_a_loss_that_becomes_no_number(data: Path, tmp_path: Path) -> None:
    text = "    def loss(self, x, t): return super().loss(x, t) * np.nan"
    with (
        pytest.warns(RuntimeWarning, match="the loss of Net is nan before the first step"),
        pytest.raises(
            DptrainError, match=r"step 0 .* not finite: rank 0, shard 0, first in the loss"
        ) as caught,
    ):
        train(like_the_example(tmp_path, text), data, tmp_path / "run")
    assert caught.value.exit_code == 5


def test_real_targets_that_are_not_single_cannot_be_flat(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "small.npz", regression=True)
    with pytest.raises(DptrainError, match=r"targets of shape \(2,\)"):
        train(EXAMPLE, data, tmp_path / "run", model_targets="flat")


DRAWS = """
    def gradient(self, x, t):
        return super().gradient(x * (np.random.default_rng().random(x.shape) < 0.5), t)
"""


def test_what_depends_on_the_execution_is_warned_of(data: Path, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="Net gives other gradients"):
        assert train(like_the_example(tmp_path, DRAWS), data, tmp_path / "run").finished
