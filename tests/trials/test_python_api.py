"""The Python API as people call it: what is given wrongly is told, what is meant is taken."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import dptrain
from dptrain import Conv2D, Dense, Execution, Experiment, Network
from dptrain.errors import UsageError
from dptrain.nn.initializers import He, Xavier
from dptrain.nn.network import layers_from
from dptrain.settings import Settings

X = np.random.default_rng(0).standard_normal((60, 4))
T = (X[:, 0] * X[:, 1] > 0).astype(int)
NETWORK = Network(4, [Dense(2)])


@pytest.mark.parametrize(
    "setting",
    [
        {"batch_size": 0},
        {"optimizer": "foo"},
        {"batch_size": "100"},
        {"lr": -1.0},
        {"loss": "mse"},
        {"log_every": 0},
        {"workers": 0},
        {"workers": -1},
        {"seed": 1.5},
    ],
)
def test_train_refuses_what_fit_refuses_in_the_same_words(setting: dict[str, object]) -> None:
    with pytest.raises(UsageError) as of_fit:
        dptrain.fit(NETWORK, (X, T), progress=False, **setting)  # type: ignore[arg-type]
    kind = Execution if next(iter(setting)) in Execution.__struct_fields__ else Experiment
    parts = {kind: kind(**setting)}  # type: ignore[arg-type]
    experiment = parts.get(Experiment, Experiment(dataset="iris", model="linear"))
    with pytest.raises(UsageError) as of_train:
        dptrain.train(experiment, parts.get(Execution), progress=False)  # type: ignore[arg-type]
    assert str(of_train.value) == str(of_fit.value).replace("fit: ", f"{kind.__name__}: ")


def test_initial_weights_by_name() -> None:
    assert Dense(5, init="he") == Dense(5, init="he_normal") == Dense(5, init=He())
    assert Conv2D(3, 2, init="glorot_normal") == Conv2D(3, 2, init=Xavier())
    assert layers_from([{"layer": "dense", "units": 5, "init": "he"}]) == (Dense(5, init=He()),)
    makes: tuple[Callable[[], object], ...] = (
        lambda: Dense(5, init="hee"),
        lambda: Conv2D(3, 2, init="hee"),
        lambda: layers_from([{"layer": "dense", "units": 5, "init": "hee"}]),
    )
    for make in makes:
        with pytest.raises(UsageError, match="unknown init 'hee'; did you mean 'he'"):
            make()


def test_a_result_draws_its_curves_and_is_a_table(tmp_path: Path) -> None:
    settings: Settings = {"epochs": 2, "workers": 1}
    found = dptrain.fit(NETWORK, (X, T), out=tmp_path / "run", progress=False, **settings)
    assert found.draw() == tmp_path / "run" / "curves.png"
    assert found.draw(str(tmp_path / "other.svg")).read_text().startswith("<?xml")
    assert [row["test_accuracy"] for row in found.table] == [
        each.test_accuracy for each in found.epochs
    ]
    with pytest.raises(UsageError, match="suffix"):
        found.draw("other.txt")
