"""Putting values of the search into an experiment.

A name is that of a setting of the experiment's schema (``lr``), ``model.hidden`` for the hidden
layers of a model that is named by its sizes, or a path into nested settings with numbers for the
places in lists (``layers.0.units``).
"""

import contextlib
import copy
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from dptrain.errors import UsageError, suggestion
from dptrain.experiment.models import LINEAR, PRESETS, SIZES, sizes
from dptrain.experiment.override import override
from dptrain.experiment.schema import Experiment
from dptrain.experiment.synonyms import meant
from dptrain.experiment.validate import build, choices_of
from dptrain.nn.network import AnyLayer, layers_from
from dptrain.own.origin import is_own
from dptrain.tune.space import FORMS, SearchParameter, ValueChoices

HIDDEN = "model.hidden"
# What describes something else that is searched, or the data; searched by paths if at all.
NOT_SEARCHED = (
    "model_args",
    "model_targets",
    "model_digest",
    "model_state",
    "input_shape",
    "layers",
    "dataset_digest",
    "input_scale",
    "input_offsets",
    "normalise_targets",  # of which losses are in other units
    "target_scale",
    "init_digest",
)

_WORDS = {"true": True, "false": False, "none": None}


def experiment_with(given: Mapping[str, Any], values: Mapping[str, Any]) -> Experiment:
    """Return an experiment with the values of one trial in it, validated.

    Args:
        given: the experiment's settings that the search does not touch, as plain data.
        values: by the names of the parameters.

    Raises:
        UsageError: a value that is not allowed there, or a model or layer that cannot be.
    """
    if is_own(str(values.get("model", ""))):
        raise UsageError(
            f"--param model={values['model']}: code is imported only where you name it yourself; "
            "name one network with --model, and search its arguments with --param model_args.NAME"
        )
    plain = override(given, {name: v for name, v in values.items() if "." not in name})
    for name, value in values.items():
        if name == HIDDEN:
            plain = _with_hidden(plain, value)
        elif "." in name:
            plain = _with(plain, name, value)
    origin = "--param " + " ".join(f"{name}={value}" for name, value in values.items())
    experiment = build(Experiment, plain, origin)
    try:
        if experiment.layers is not None:
            layers_from(experiment.layers)
        elif not is_own(experiment.model) and experiment.model != LINEAR:
            sizes(experiment.model)
    except UsageError as error:
        raise UsageError(f"{origin}: {error}") from None
    return experiment


def checked(parameter: SearchParameter, given: Mapping[str, Any]) -> SearchParameter:
    """Return the parameter with its values in the type of the setting, each of them tried.

    Raises:
        UsageError: there is no such setting, or it does not allow a value.
    """
    name, space = parameter
    _check_name(name, given)
    if isinstance(space, ValueChoices):
        values = tuple(_typed(name, v) if isinstance(v, str) else v for v in space.values)
        numbers = all(type(v) in (int, float) for v in values)
        space = space._replace(values=values, ordered=space.ordered or numbers)
        tried = values if len(values) <= 100 else (values[0], values[-1])
    else:
        tried = (space.low, space.high)
    for value in tried:
        try:
            experiment_with(given, {name: value})
        except UsageError as error:
            raise UsageError(f"{error}{_misspelt(value)}") from None
    return SearchParameter(name, space)


def searched() -> list[str]:
    """Return the settings that a search may try values of, besides parts of layers."""
    return [key for key in Experiment.__struct_fields__ if key not in NOT_SEARCHED] + [HIDDEN]


def _misspelt(value: object) -> str:
    """Return a hint where a value looks like a form such as ``loguniform:1:2`` misspelt."""
    kind, colon, _ = str(value).partition(":")
    if not colon:
        return ""
    return suggestion(kind, FORMS) or f"; a range begins with one of {', '.join(FORMS)}"


def _check_name(name: str, given: Mapping[str, Any]) -> None:
    head, *path = name.split(".")
    known = searched()
    if name in known or (path and head == "model_args"):
        return
    layers = given.get("layers")
    if path and head in ("layers", *known) and isinstance(given.get(head), list | dict):
        if head != "layers" or not isinstance(layers, list):
            return
        paths = [f"layers.{i}.{key}" for i, each in enumerate(layers) for key in _keys(each)]
        if name in paths or (len(path) > 2 and name.rsplit(".", len(path) - 2)[0] in paths):
            return
        raise UsageError(f"--param {name}: there is no such setting{suggestion(name, paths)}")
    if head == "layers":
        raise UsageError(f"--param {name}: {_layers_remedy(given)}")
    if name == "normalise_targets":
        raise UsageError(
            f"--param {name}: losses of standardised targets are in other units, so that trials "
            "could not be ranked by them; give it to all"
        )
    if hint := meant(name):
        raise UsageError(f"--param {name}: there is no such setting; {hint}")
    near = suggestion(name, known) or ";"
    raise UsageError(
        f"--param {name}: there is no such setting{near} known: {', '.join(known)}, "
        "and paths such as layers.0.units"
    )


def _layers_remedy(given: Mapping[str, Any]) -> str:
    if "layers" in given:
        return "name a setting of one layer, such as layers.0.units"
    return f"the experiment has no layers of its own; for its model, use {HIDDEN}"


def _keys(layer: object) -> list[str]:
    """Return the settings of a layer, given as plain data."""
    kind = layer.get("layer") if isinstance(layer, dict) else None
    for known in get_args(AnyLayer):
        if known.__struct_config__.tag == kind:
            return list(known.__struct_fields__)
    return []


def _typed(name: str, text: str) -> Any:
    """Return what a word of a list means for a setting; what is not allowed is refused later."""
    hint = get_type_hints(Experiment, include_extras=True).get(name)
    if _is_text(hint) or text in choices_of(hint):
        return text
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _is_text(hint: Any) -> bool:
    """Return whether any text at all is allowed, such as the name of a column, also ``1``."""
    return hint is str or any(_is_text(part) for part in get_args(hint))


def _with_hidden(plain: dict[str, Any], value: object) -> dict[str, Any]:
    if plain.get("layers") is not None:
        raise UsageError(
            f"--param {HIDDEN} is for models named by their sizes, but this experiment lists its "
            "layers; use paths such as layers.0.units"
        )
    named = plain.get("model", Experiment().model)
    if is_own(named):
        raise UsageError(
            f"--param {HIDDEN} is for models named by their sizes, but {named} is code of your "
            "own; use paths such as model_args.hidden_size, and give --model.args"
        )
    if named.partition(":")[0] == LINEAR:
        raise UsageError(
            f"--param {HIDDEN}={value}: the model {named!r} has no hidden layer, and its sizes are "
            "those of the data; name a model such as mlp:784-50-10"
        )
    first, *hidden, last = sizes(named)
    if isinstance(value, str):
        middle = value.split("-")
    elif hidden:
        middle = [str(value)] * len(hidden)
    else:
        raise UsageError(
            f"--param {HIDDEN}={value}: the model {named!r} has no hidden layer to give that "
            f"width; use {HIDDEN}=50-30-20,100-50 for lists of widths"
        )
    model = f"mlp:{'-'.join([str(first), *middle, str(last)])}"
    sizes(model)
    return _unnamed(named, plain) | {"model": model}


def _unnamed(named: str, plain: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with those written out that came with a model's name."""
    if named not in SIZES:
        return plain
    preset = dict(PRESETS.get(named, {}))
    if plain.get("optimizer", preset.get("optimizer")) != preset.get("optimizer"):
        preset.pop("lr", None)
    return preset | {key: value for key, value in plain.items() if value is not None}


def _with(plain: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    *path, last = name.split(".")
    changed = copy.deepcopy(plain)
    place: Any = changed
    try:
        for key in path:
            place = place[int(key) if isinstance(place, list) else key]
        place[int(last) if isinstance(place, list) else last] = value
    except (KeyError, IndexError, ValueError, TypeError):
        raise UsageError(
            f"--param {name}: the experiment does not spell out {'.'.join(path)}, so nothing can "
            "be changed in it; write it there first"
        ) from None
    return changed
