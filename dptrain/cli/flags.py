"""Command-line flags made from the schema, so that a setting is described in one place only."""

import json
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

import msgspec
from cyclopts import Parameter, Token

from dptrain.cli.completion import data_sets, models, runs
from dptrain.cli.panels import panels, told_default
from dptrain.experiment.execution import Execution
from dptrain.experiment.schema import Experiment, Settled
from dptrain.own.origin import Named, is_own

# Settings that have no sensible form on a command line; they come from a file or the Python API.
NOT_FLAGS = {
    "layers",
    "dataset_digest",
    "input_scale",
    "input_offsets",
    "target_scale",
    "init_digest",
    "model_digest",
    "model_state",
}
COMPLETERS = {"dataset": data_sets, "model": models, "init_from": runs}
# Settings of a network of the user's own, as parts of --model.
MODEL_FLAGS = {
    "model_args": "--model.args",
    "model_targets": "--model.targets",
    "input_shape": "--model.input-shape",
}


def flags_of(schema: type[msgspec.Struct], name: str) -> Any:
    """Return a dataclass with a flag, None unless given, for every field of a schema."""
    fields: list[tuple[str, Any, Any]] = []
    hints = get_type_hints(schema, include_extras=True)
    groups = panels(hints)
    for key, hint in hints.items():
        if key in NOT_FLAGS:
            continue
        description = next((m.description for m in _metas(hint) if m.description), "")
        converter = CONVERTERS.get(key) or _converter(hint)
        parameter = Parameter(
            MODEL_FLAGS.get(key),
            help=told_default(description, schema.__struct_defaults__[list(hints).index(key)]),
            group=groups[key],
            converter=converter,
            completer=COMPLETERS.get(key),
            negative="--no-header" if key == "header" else (),  # of the others no is the default
        )
        kind = str if key in CONVERTERS else _bare(hint)
        fields.append((key, Annotated[kind | None, parameter], field(default=None)))
    made = make_dataclass(name, fields)
    made.__module__ = __name__  # where the annotations are looked up
    return Parameter(name="*")(made)


def given(flags: Any) -> dict[str, Any]:
    """Return the flags that were given, by key."""
    return {key: value for key, value in vars(flags).items() if value is not None}


def _converter(hint: Any) -> Callable[[Any, tuple[Token, ...]], Any] | None:
    leaves = _leaves(hint)
    if int in leaves:
        return whole_number
    if not _is_list(hint):
        return None
    return _numbers if float in leaves else _names


def _is_list(hint: Any) -> bool:
    return get_origin(hint) is list or any(_is_list(part) for part in get_args(hint))


def _names(hint: Any, tokens: tuple[Token, ...]) -> list[str]:  # noqa: ARG001
    """Return the names of a list such as ``dense1,dense2``."""
    return [name for token in tokens for name in token.value.split(",") if name]


def _numbers(hint: Any, tokens: tuple[Token, ...]) -> list[float] | str:
    """Return the numbers of a list such as ``1,2.5``, or a word that the hint allows beside it."""
    if tokens[0].value in _leaves(hint):
        return tokens[0].value
    try:
        return [float(word) for token in tokens for word in token.value.split(",")]
    except ValueError:
        raise ValueError("needs numbers with commas between them, such as 1,2.5") from None


def whole_number(hint: Any, tokens: tuple[Token, ...]) -> Any:
    """Return a whole number, or one of the words that the hint allows beside it.

    The library's own conversion would round 1.5 to 2.
    """
    text = tokens[0].value
    if text in _leaves(hint):
        return text
    try:
        return int(text)
    except ValueError:
        words = [repr(leaf) for leaf in _leaves(hint) if isinstance(leaf, str)]
        raise ValueError(" or ".join(["needs a whole number", *words])) from None


def _model(hint: Any, tokens: tuple[Token, ...]) -> str:  # noqa: ARG001 - the library's signature
    """Return the name of a model; of code only where it stands on the command line itself."""
    model, source = tokens[0].value, tokens[0].source
    if is_own(model) and source != "cli":
        raise ValueError("code is imported only where you name it on the command line")
    return model


def json_object(hint: Any, tokens: tuple[Token, ...]) -> dict[str, Any]:  # noqa: ARG001
    """Return a JSON object as plain data without null, which TOML does not have."""
    try:
        found = json.loads(tokens[0].value)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("needs a JSON object, such as '{\"hidden_size\": 50}'")
    if _has_null(found):
        raise ValueError("null cannot be recorded; leave the argument out")
    return found


def _has_null(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_has_null, parts))


def _shape(hint: Any, tokens: tuple[Token, ...]) -> list[int]:  # noqa: ARG001
    """Return a shape such as ``1,28,28``."""
    try:
        return [int(part) for part in tokens[0].value.split(",")]
    except ValueError:
        raise ValueError("needs whole numbers, such as 1,28,28") from None


CONVERTERS = {"model": _model, "model_args": json_object, "input_shape": _shape}


@Parameter(name="*")
@dataclass
class CodeFlags:
    """The network of the user's own that a verb may import."""

    model: Annotated[
        str | None,
        Parameter(
            help="The run's network, FILE.py:NAME, where it is code of your own.",
            converter=_model,
        ),
    ] = None
    model_args: Annotated[
        str | None,
        Parameter(
            "--model.args",
            help="What its constructor takes, as JSON, where the run did not record it.",
            converter=json_object,
        ),
    ] = None

    def named(self) -> Named | None:
        """Return what the flags name."""
        if self.model is None:
            return None
        return Named(self.model, cast("dict[str, Any] | None", self.model_args))


def named_code(flags: dict[str, Any]) -> Named | None:
    """Return the network of the user's own that the flags name, if any."""
    model = flags.get("model")
    return Named(model) if model is not None and is_own(model) else None


def warn_of_change(experiment: Settled, code: Named | None) -> Settled:
    """Return a recorded experiment that accepts the code as it is; say so where it has changed."""
    recorded = experiment.model_digest
    if code is None or recorded is None or recorded == code.digest:
        return experiment
    print(  # noqa: T201 - the command line's own output
        f"dptrain: warning: {code.changed()} since the run was trained",
        file=sys.stderr,
    )
    return msgspec.structs.replace(experiment, model_digest=None)


def _metas(hint: Any) -> list[msgspec.Meta]:
    own = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
    return own + [m for part in get_args(hint) for m in _metas(part)]


def _leaves(hint: Any) -> list[Any]:
    parts = get_args(hint)
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [hint]


def _bare(hint: Any) -> Any:
    """Return a hint without its metadata."""
    if get_origin(hint) is Annotated:
        return _bare(get_args(hint)[0])
    if get_origin(hint) is types.UnionType or str(get_origin(hint)) == "typing.Union":
        bare: Any = None
        for part in get_args(hint):
            bare = _bare(part) if bare is None else bare | _bare(part)
        return bare
    return hint


ExperimentFlags: Any = flags_of(Experiment, "ExperimentFlags")
ExecutionFlags: Any = flags_of(Execution, "ExecutionFlags")
