"""What is searched means what its setting says; a folder is a run whatever its name."""

from pathlib import Path

import pytest

import dptrain
from dptrain.audit.history import read_history
from dptrain.cli.verbs import program
from dptrain.coordinator.initial_state import saved_weights
from dptrain.errors import UsageError
from dptrain.tune.settings import checked, experiment_with
from dptrain.tune.space import parse_parameter
from tests.sessions import run, write_dataset


@pytest.mark.parametrize("model", ["linear", "linear:3"])
def test_linear_can_be_searched(model: str) -> None:
    given = {"model": model, "dataset": "iris"}
    assert checked(parse_parameter("lr=0.1,0.2"), given).space.values == (0.1, 0.2)  # type: ignore[union-attr]
    assert experiment_with({}, {"model": model}).model == model
    with pytest.raises(UsageError, match="has no hidden layer"):
        experiment_with(given, {"model.hidden": 5})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("normalise=none,standard", ("none", "standard")),
        ("norm=none,batch", (None, "batch")),
        ("lr=none,0.1", (None, 0.1)),
        ("label=none,true", ("none", "true")),
        ("dtype=float32,float64", ("float32", "float64")),
    ],
)
def test_words_mean_what_the_setting_takes(text: str, values: tuple[object, ...]) -> None:
    found = checked(parse_parameter(text), {"model": "mlp:4-3", "dataset": "iris"})
    assert found.space.values == values  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["x.npz", "x.pkl", "x.safetensors", "x.csv"])
def test_a_folder_is_a_run_whatever_its_name(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    outcome = run({"dataset": str(write_dataset(tmp_path / "small.npz")), "steps": 3}, out)
    assert dptrain.load_run(str(out))[1].digest == outcome.digest
    assert saved_weights(str(out)).digest == outcome.digest
    assert read_history(out).end == 3
    for verb in (("inspect",), ("evaluate",), ("convert",)):
        arguments = [*verb, str(out), *([str(tmp_path / "model.npz")] * (verb == ("convert",)))]
        assert program(arguments)(arguments, result_action="return_value") == 0
