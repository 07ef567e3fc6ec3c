"""From plain values to the schema, with messages that name the key, the value and the remedy."""

import os
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from dptrain.errors import UsageError, suggestion
from dptrain.experiment.schema import RECORDED
from dptrain.experiment.synonyms import meant, unknown_value

SHOWN = 80
S = TypeVar("S", bound=msgspec.Struct)


def build(schema: type[S], values: Mapping[str, Any], origin: str) -> S:
    """Return ``schema(**values)``, validated.

    Args:
        schema: `Experiment` or `Execution`.
        values: plain values by key; a path may be a `Path`.
        origin: where they come from, for messages, such as a file's path.

    Raises:
        UsageError: an unknown key, a wrong type, or a value out of range.
    """
    known = schema.__struct_fields__
    for key in values:
        if key not in known:
            if hint := meant(key):
                raise UsageError(f"{origin}: unknown key {key!r}; {hint}")
            names = [name for name in known if name not in RECORDED]
            near = suggestion(key, names) or ";"
            raise UsageError(f"{origin}: unknown key {key!r}{near} known keys: {', '.join(names)}")
    values = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in values.items()}
    try:
        return msgspec.convert(values, schema)
    except msgspec.ValidationError as error:
        raise UsageError(f"{origin}: {_explain(schema, values, str(error))}") from None


def _explain(schema: type[msgspec.Struct], values: Mapping[str, Any], reason: str) -> str:
    what, _, path = reason.partition(" - at `$.")
    key = path.rstrip("`").split(".")[0].split("[")[0]
    if key not in values:
        return reason
    value = values[key]
    choices = choices_of(get_type_hints(schema, include_extras=True)[key])
    if choices and isinstance(value, str):
        return unknown_value(f"{key}={value!r}", key, value, choices)
    reason = f"{what[0].lower()}{what[1:]}".replace("`", "").replace(" | null", "")
    return f"{key}={_shown(value)} is not allowed: {reason}"


def _shown(value: object) -> str:
    """Return a value as its text, or its type where that would fill a page."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"an object of type {type(value).__name__}"


def choices_of(hint: Any) -> list[str]:
    """Return the strings that a type hint's Literal allows, or an empty list."""
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    return [choice for part in get_args(hint) for choice in choices_of(part)]
