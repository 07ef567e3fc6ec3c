"""What to say of a command line that cannot be parsed, where the library's words are few."""

from cyclopts import (
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from dptrain.experiment.synonyms import meant
from dptrain.invocation import program


def refusal(error: CycloptsError) -> str:
    """Return what is wrong with the command line, and what to give instead."""
    if isinstance(error, UnknownOptionError):
        word = error.token.keyword or error.token.value
        hint = meant(word, "--")  # it may have another name in other libraries
        return f"unknown option {word}; {hint}" if hint else str(error)
    verb = " ".join(error.command_chain or ("dptrain",))
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name, what = error.argument.name, _described(error)
        if error.keyword is not None or any(t.keyword is not None for t in error.argument.tokens):
            return f"{name} stands without a value; it is: {what}"
        return f"{verb} needs {name}: {what}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        left = ", ".join(map(repr, error.unused_tokens))
        return f"{verb} has no use for {left}: flags take one value; see {program()} {verb} --help"
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword} is given more than once; give it once"
    return str(error)


def _described(error: MissingArgumentError) -> str:
    """Return what the help says of the argument that is missing."""
    assert error.argument is not None
    if error.argument.parameter.help:
        return error.argument.parameter.help
    from docstring_parser import parse  # here, because only a mistake needs it

    told = parse(getattr(error.target, "__doc__", None) or "").params
    name = error.argument.field_info.name
    return next((p.description for p in told if p.arg_name == name and p.description), "see --help")
