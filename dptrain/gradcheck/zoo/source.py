"""The text of the real source with one piece exchanged, let loose in this process.

The function keeps its identity and gets other code, so that it does not matter who has imported it,
or has made objects whose method it is.
"""

import ast
import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, NamedTuple

# A function, and what forgets its values where they are cached.
Found = tuple[FunctionType, Callable[[], object]]


class Source(NamedTuple):
    """A piece of the text of one function, and what stands there instead.

    Of texts of several lines, those behind the first are indented as the line is in which the piece
    begins, and what is more than that stands in the texts.

    Attributes:
        where: file and function, such as ``"optim/rules.py:Adam.update"``.
        old: what stands there, exactly once.
        new: instead.
        rank: of the only worker that it is exchanged in; by default in every process.
    """

    where: str
    old: str
    new: str
    rank: int | None = None


class StaleSourceError(LookupError):
    """The piece that is to be exchanged does not stand in its function, or more than once."""


def function_at(where: str) -> Found:
    """Return the function at a place, and what forgets its values where they are cached.

    Raises:
        StaleSourceError: there is no such function.
    """
    file, _, name = where.partition(":")
    module = "dptrain." + file.removesuffix(".py").replace("/", ".")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = vars(found)[part]
    except (ImportError, KeyError):
        raise StaleSourceError(f"{where}: there is no such function") from None
    forget = getattr(found, "cache_clear", _nothing)
    for inner in ("fget", "__func__", "func"):  # of properties and methods of classes
        found = getattr(found, inner, None) or found
    found = inspect.unwrap(found)
    assert isinstance(found, FunctionType), where
    return found, forget


def _nothing() -> None:
    """Forget nothing."""


def text_of(function: FunctionType) -> str:
    """Return a function's text, within its class if it has one."""
    text = textwrap.dedent(inspect.getsource(function))
    for name in reversed(function.__qualname__.split(".")[:-1]):
        text = f"class {name}:\n" + textwrap.indent(text, "    ")
    return text


def exchanged(text: str, each: Source) -> str:
    """Return a function's text with a piece exchanged.

    Raises:
        StaleSourceError: the piece does not stand there exactly once.
    """
    first = each.old.partition("\n")[0]
    found = []
    at = text.find(first)
    while at >= 0:
        line = text[text.rfind("\n", 0, at) + 1 : at]
        behind = "\n" + line[: len(line) - len(line.lstrip())]
        old, new = (piece.replace("\n", behind) for piece in (each.old, each.new))
        if text.startswith(old, at):
            found.append(text[:at] + new + text[at + len(old) :])
        at = text.find(first, at + 1)
    if len(found) != 1:
        raise StaleSourceError(
            f"{each.where}: {each.old!r} stands there {len(found)} times, and must once; adapt the "
            "bug to the source"
        )
    return found[0]


def compiled(function: FunctionType, source: str | ast.Module) -> CodeType:
    """Return the code of a function whose text, or the tree of it, is another."""
    code = compile(source, function.__code__.co_filename, "exec")
    waiting = [code]
    while waiting:
        code = waiting.pop()
        if code.co_qualname == function.__qualname__:
            return code.replace(co_firstlineno=function.__code__.co_firstlineno)
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
    raise LookupError(function.__qualname__)


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
            text = texts.get(each.where) or text_of(function_at(each.where)[0])
            texts[each.where] = exchanged(text, each)
    return {where: compiled(function_at(where)[0], text) for where, text in texts.items()}


@contextlib.contextmanager
def given(codes: Mapping[str, CodeType]) -> Iterator[None]:
    """Have functions, named by their places, run other code for the block."""
    found = {where: function_at(where) for where in codes}
    honest = {where: function.__code__ for where, (function, _) in found.items()}
    try:
        _give(found, codes)
        yield
    finally:
        _give(found, honest)


def _give(functions: Mapping[str, Found], codes: Mapping[str, CodeType]) -> None:
    for where, (function, forget) in functions.items():
        function.__code__ = codes[where]
        forget()
