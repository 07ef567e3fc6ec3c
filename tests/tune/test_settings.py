"""Values of the search in experiments."""

from typing import Any

import pytest

from dptrain.errors import UsageError
from dptrain.experiment.defaults import settle
from dptrain.experiment.models import build_network
from dptrain.experiment.schema import Experiment
from dptrain.tune.settings import checked, experiment_with
from dptrain.tune.space import ValueChoices, parse_parameter

LAYERS = {
    "input_shape": [20],
    "layers": [
        {"layer": "dense", "units": 7, "init": {"init": "he"}},
        {"layer": "relu"},
        {"layer": "dense", "units": 3},
    ],
}


def settled(given: dict[str, Any], values: dict[str, Any]) -> Experiment:
    return settle(experiment_with(given, values), 1, 10, 1000, "")


def typed(text: str, given: dict[str, Any] | None = None) -> tuple[object, ...]:
    space = checked(parse_parameter(text), given or {}).space
    assert isinstance(space, ValueChoices)
    return space.values


def test_every_value_makes_a_network_of_its_own_shape() -> None:
    """The mistake of the notes: the list of sizes was changed, the network had been built."""
    shapes = []
    for width in typed("model.hidden=int:5:7", {"model": "mlp:20-50-30-3"}):
        experiment = experiment_with({"model": "mlp:20-50-30-3"}, {"model.hidden": width})
        network = build_network(experiment, (20,))
        shapes.append([t.shape for t in network.all_tensors() if len(t.shape) == 2])
    assert shapes == [[(20, n), (n, n), (n, 3)] for n in (5, 6, 7)]


def test_a_list_of_widths_replaces_the_hidden_layers() -> None:
    given = {"model": "mlp:784-10"}
    models = [
        experiment_with(given, {"model.hidden": value}).model
        for value in typed("model.hidden=50-30-20,100-50", given)
    ]
    assert models == ["mlp:784-50-30-20-10", "mlp:784-100-50-10"]
    # beside another model in the same trial, whatever the order
    both = {"model.hidden": 4, "model": "mlp:20-9-9-3"}
    assert experiment_with({}, both).model == "mlp:20-4-4-3"


def test_a_named_model_keeps_what_came_with_its_name() -> None:
    named = settled({"model": "two-layer"}, {})
    spelt_out = settled({"model": "two-layer"}, {"model.hidden": 50})
    assert spelt_out.model == "mlp:784-50-10"
    for field in ("activation", "init", "init_std", "optimizer", "lr"):
        assert getattr(spelt_out, field) == getattr(named, field), field
    other = {"model": "two-layer", "optimizer": "adam"}
    assert settled(other, {"model.hidden": 50}).lr == settled(other, {}).lr


def test_paths_lead_into_layers() -> None:
    found = experiment_with(LAYERS, {"layers.0.units": 9, "layers.0.init.init": "xavier"})
    assert found.layers is not None
    assert found.layers[0] == {"layer": "dense", "units": 9, "init": {"init": "xavier"}}
    assert LAYERS["layers"][0]["units"] == 7  # type: ignore[index]
    assert typed("layers.0.units=5,6", LAYERS) == (5, 6)
    assert typed("layers.0.init.init=he,xavier", LAYERS) == ("he", "xavier")


def test_values_get_the_type_of_their_setting() -> None:
    assert typed("batch_size=20,50") == (20, 50)
    assert typed("lr=.1,1") == (0.1, 1.0)
    assert typed("label=1,2") == ("1", "2")
    assert typed("clip_norm=none,1") == (None, 1.0)
    ordered = [
        checked(parse_parameter(text), {}).space
        for text in ("batch_size=20,50", "optimizer=sgd,adam", "clip_norm=none,1")
    ]
    assert [isinstance(s, ValueChoices) and s.ordered for s in ordered] == [True, False, False]


def test_another_optimizer_does_not_inherit_the_coefficients() -> None:
    given = {"optimizer": "momentum", "momentum": 0.5, "lr": 0.1}
    assert experiment_with(given, {"optimizer": "sgd"}).momentum is None
    assert experiment_with(given, {"optimizer": "nesterov", "momentum": 0.8}).momentum == 0.8


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("momentm=.8,.9", {}, "did you mean 'momentum'"),
        ("model.hiden=5,6", {}, "did you mean 'model.hidden'"),
        ("zzz=5,6", {}, "known: model, "),
        ("layers=1,2", {}, "has no layers of its own"),
        ("layers.0.units=1,2", {}, "use model.hidden"),
        ("layers.0.unit=1,2", LAYERS, "did you mean 'layers.0.units'"),
        ("layers.5.units=1,2", LAYERS, "no such setting"),
        ("layers.0.units=0,2", LAYERS, "layers.0.units=0: layers: Expected .int. >= 1"),
        ("layers.0.units=a,b", LAYERS, "layers"),
        ("layers.2.init.init=he,xavier", LAYERS, r"does not spell out layers\.2\.init"),
        ("model.hidden=5,6", LAYERS, "lists its layers"),
        ("model.hidden=5,6", {"model": "mlp:20-3"}, "no hidden layer"),
        ("model.hidden=0,6", {}, "sizes of 1 or more"),
        ("model.hidden=5-x,6", {}, "sizes of 1 or more"),
        ("lr=loguniforn:1e-3:1", {}, "did you mean 'loguniform'"),
        ("lr=-1,1", {}, "lr=-1 is not allowed"),
        ("lr=uniform:-1:1", {}, "lr=-1.0 is not allowed"),
        ("batch_size=uniform:1:9", {}, "batch_size=1.0"),
        ("optimizer=sgd,adm", {}, "did you mean 'adam'"),
        ("input_shape=1,2", {}, "no such setting"),
    ],
)
def test_mistakes(text: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checked(parse_parameter(text), given)
