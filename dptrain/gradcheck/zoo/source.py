"""The text of the real source with one piece exchanged, let loose in this process.

The function keeps its identity and gets other code, so that it does not matter who has imported it,
or has made objects whose method it is.
"""

import ast
import contextlib
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

from dptrain.gradcheck.zoo.bug import Source


class StaleSourceError(LookupError):
    """The piece that is to be exchanged does not stand in its function, or more than once."""


def function_at(where: str) -> FunctionType:
    """Return the function at a place such as ``"optim/rules.py:Adam.update"``.

    Raises:
        StaleSourceError: there is none.
    """
    found = _named(where)
    for inner in ("fget", "__func__", "func"):  # of properties and methods of classes
        found = getattr(found, inner, None) or found
    function: FunctionType = inspect.unwrap(found)
    return function


def _named(where: str) -> Any:
    file, _, name = where.partition(":")
    found: Any = import_module("dptrain." + file.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        if part not in vars(found):
            raise StaleSourceError(f"{where}: there is no such function")
        found = vars(found)[part]
    return found


def text_of(function: FunctionType) -> str:
    """Return a function's text, without indentation."""
    return textwrap.dedent(inspect.getsource(function))


def compiled(function: FunctionType, source: str | ast.Module) -> CodeType:
    """Return the code of a function whose text is another, given as `text_of`.

    Or as the tree of a module, in which it stands by its qualified name.
    """
    if isinstance(source, str):
        for name in reversed(function.__qualname__.split(".")[:-1]):
            source = f"class {name}:\n" + textwrap.indent(source, "    ")
    waiting = [compile(source, function.__code__.co_filename, "exec")]
    while waiting:
        code = waiting.pop()
        if code.co_qualname == function.__qualname__:
            return code.replace(co_firstlineno=function.__code__.co_firstlineno)
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
    raise LookupError(function.__qualname__)


def exchanged(text: str, source: Source) -> str:
    """Return a function's text with a piece exchanged.

    Raises:
        StaleSourceError: the piece does not stand there exactly once.
    """
    found = []
    at = text.find(first := source.old.partition("\n")[0])
    while at >= 0:
        line = text[text.rfind("\n", 0, at) + 1 : at]
        behind = "\n" + line[: len(line) - len(line.lstrip())]
        old, new = (piece.replace("\n", behind) for piece in (source.old, source.new))
        if text.startswith(old, at):
            found.append(text[:at] + new + text[at + len(old) :])
        at = text.find(first, at + 1)
    if len(found) != 1:
        raise StaleSourceError(
            f"{source.where}: {source.old!r} stands there {len(found)} times, and must once; adapt "
            "the bug to the source"
        )
    return found[0]


def changed(wrong: Iterable[Source], rank: int | None = None) -> dict[str, CodeType]:
    """Return the code of every function in which something is exchanged, by its place.

    Args:
        wrong: what is to be exchanged; what belongs to another rank is left out.
        rank: of a worker; None for the coordinator.

    Raises:
        StaleSourceError: a row does not fit the source any more.
    """
    texts: dict[str, str] = {}
    for each in wrong:
        if each.rank in (None, rank):
            text = texts.get(each.where) or text_of(function_at(each.where))
            texts[each.where] = exchanged(text, each)
    return {where: compiled(function_at(where), text) for where, text in texts.items()}


@contextlib.contextmanager
def given(codes: Mapping[str, CodeType]) -> Iterator[None]:
    """Have functions, named by their places, run other code for the block."""
    honest = {where: function_at(where).__code__ for where in codes}
    try:
        give(codes)
        yield
    finally:
        give(honest)


def give(codes: Mapping[str, CodeType]) -> None:
    """Give functions other code, and have those forget their values that keep them."""
    for where, code in codes.items():
        function_at(where).__code__ = code
        if forget := getattr(_named(where), "cache_clear", None):
            forget()
