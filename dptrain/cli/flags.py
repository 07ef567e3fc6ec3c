"""Command-line flags made from the schema, so that a setting is described in one place only."""

import types
from collections.abc import Callable
from dataclasses import field, make_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from cyclopts import Parameter, Token

from dptrain.experiment.schema import Execution, Experiment

# Settings that have no sensible form on a command line; they come from a file or the Python API.
NOT_FLAGS = {"input_shape", "layers", "dataset_digest"}


def flags_of(schema: type[msgspec.Struct], name: str) -> Any:
    """Return a dataclass with a flag, None unless given, for every field of a schema."""
    fields: list[tuple[str, Any, Any]] = []
    for key, hint in get_type_hints(schema, include_extras=True).items():
        if key in NOT_FLAGS:
            continue
        description = next((m.description for m in _metas(hint) if m.description), "")
        converter = _converter(hint)
        parameter = Parameter(help=description, converter=converter, negative_iterable=())
        fields.append((key, Annotated[_bare(hint) | None, parameter], field(default=None)))
    made = make_dataclass(name, fields)
    made.__module__ = __name__  # where the annotations are looked up
    return Parameter(name="*")(made)


def given(flags: Any) -> dict[str, Any]:
    """Return the flags that were given, by key."""
    return {key: value for key, value in vars(flags).items() if value is not None}


def _converter(hint: Any) -> Callable[[Any, tuple[Token, ...]], Any] | None:
    if _is_list(hint):
        return _words
    return _whole_number if int in _leaves(hint) else None


def _is_list(hint: Any) -> bool:
    return get_origin(hint) is list or any(_is_list(part) for part in get_args(hint))


def _words(hint: Any, tokens: tuple[Token, ...]) -> list[str]:  # noqa: ARG001
    """Return the words of a list such as ``a,b``."""
    return [word for token in tokens for word in token.value.split(",")]


def _whole_number(hint: Any, tokens: tuple[Token, ...]) -> Any:
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
