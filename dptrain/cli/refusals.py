"""What to say of a command line that cannot be parsed, where the library's words are few."""

import os
from collections.abc import Iterator
from typing import Literal, get_args, get_origin

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from dptrain.cli.verbs import VERBS
from dptrain.errors import suggestion
from dptrain.experiment.synonyms import meant, unknown_value
from dptrain.invocation import program

# Flags that are no settings, by what others call them.
_FLAGS = {
    "--input": "--image --images --picture --file --data --dataset --sample --samples -i",
    "--trials": "--n-trials --num-trials --num-samples --n-iter",
    "--side-by-side": "--n-jobs --jobs --parallel",
    "--checkpoint": "--ckpt --weights --epoch --step",
    "--model": "--layers --network --net --arch --architecture -m",
    "--out": "-o --name --save --output-file --filename",
}
_DERIVED = ("--eps", "--epsilon", "--step", "--h", "--tol", "--tolerance", "--rtol", "--atol")
_CALLED = {word: flag for flag, words in _FLAGS.items() for word in words.split()}

_VERBS = {
    "train": "fit run start learn",
    "train --resume RUN": "resume continue",
    "evaluate RUN": "test eval score validate",
    "predict RUN --input FILE": "infer inference classify",
    "plot RUN": "curves draw graph",
    "inspect RUN": "show summary info describe",
    "tune": "search hyperopt optimize optimise sweep",
    "gradcheck": "check gradient gradients grad-check gradient-check",
    "convert RUN model.onnx": "export save",
    "compress RUN": "prune quantize quantise",
    "scaling": "bench benchmark speed",
    "--help": "help",
    "--version": "version",
}
_VERB_CALLED = {word: what for what, words in _VERBS.items() for word in words.split()}


def refusal(error: CycloptsError) -> str:
    """Return what is wrong with the command line, and what to give instead."""
    if isinstance(error, UnknownCommandError) and error.unused_tokens:
        return _unknown_verb(error.unused_tokens[0])
    verb = " ".join(error.command_chain or ("dptrain",))
    if isinstance(error, UnknownOptionError):
        return _unknown_flag(verb, error)
    if isinstance(error, CoercionError) and (told := _unknown_value(error)):
        return told
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name, what = error.argument.name, _described(error)
        typed = [each for each in error.root_input_tokens or () if _CALLED.get(each) == name]
        if error.keyword is not None or any(t.keyword is not None for t in error.argument.tokens):
            return f"{name} needs a value: {what}"
        files = list(filter(os.path.exists, (error.root_input_tokens or ())[2:]))  # never raises
        where = f", not {typed[0]}" if typed else f" before {files[0]}" if files else ""
        return f"{verb} needs {name}{where}: {what}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        left = ", ".join(map(repr, error.unused_tokens))
        return f"{verb} has no use for {left}: flags take one value; see {program()} {verb} --help"
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword} is given more than once; give it once"
    return str(error)


def _unknown_verb(word: str) -> str:
    """Return what there is for a word that is no verb."""
    what = _VERB_CALLED.get(word.casefold())
    if what is not None:
        return f"there is no verb {word!r}; give {program()} {what}"
    near = suggestion(word, VERBS) or ";"
    return f"there is no verb {word!r}{near} there are: {', '.join(VERBS)}"


def _unknown_flag(verb: str, error: UnknownOptionError) -> str:
    """Return what there is in this verb for a flag that it does not have."""
    word = (error.token.keyword or error.token.value).partition("=")[0]
    names = [name for argument in error.argument_collection for name in argument.names]
    flags = [name for name in names if name.startswith("-")]
    plain = word.lstrip("-").upper()  # as help shows what is given without a flag
    hint = meant(word, "--")  # it may have another name in other libraries
    named = [each.rstrip(",;") for each in hint.split() if each.startswith("--")]
    called = _CALLED.get(word.casefold().replace("_", "-"))
    if verb == "gradcheck" and word in _DERIVED:
        hint = "steps and tolerances follow from the rounding errors; there is none to choose"
    elif called in flags:
        hint = f"it is called {called} here"
    elif plain in names:
        hint = f"it is given without a flag: {program()} {verb} {plain}"
    elif not set(named) <= set(flags):
        hint = ""
    near = suggestion(word.lstrip("-"), [each.lstrip("-") for each in flags])  # dashes are alike
    told = f"; {hint}" if hint else near.replace("'", "'--", 1)
    return f"unknown option {word}{told or f'; see {program()} {verb} --help'}"


def _unknown_value(error: CoercionError) -> str:
    """Return what is wrong with a value, or "" where the library's words do."""
    token, argument = error.token, error.argument
    if token is None or argument is None:
        return ""
    between = " " if token.source in ("", "cli") else "="  # else it is a variable
    shown = f"{token.keyword or argument.name}{between}{token.value!r}"
    if error.msg is not None:
        return f"{shown}: {error.msg}"
    if get_origin(error.target_type) is Literal:
        choices = [str(each) for each in get_args(error.target_type)]
        return unknown_value(shown, argument.field_info.name, token.value, choices)
    if error.target_type in (int, float):
        what = "a whole number" if error.target_type is int else "a number"
        return f"{shown} is not {what}"
    return ""


def _described(error: MissingArgumentError) -> str:
    """Return what the help says of the argument that is missing, on one line."""
    return " ".join(next(_descriptions(error), "see --help").split())


def _descriptions(error: MissingArgumentError) -> Iterator[str]:
    assert error.argument is not None
    if error.argument.parameter.help:
        yield error.argument.parameter.help
    from docstring_parser import parse  # here, because only a mistake needs it

    name = error.argument.field_info.name
    for parameter in parse(getattr(error.target, "__doc__", None) or "").params:
        if parameter.arg_name == name and parameter.description:
            yield parameter.description
