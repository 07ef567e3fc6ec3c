"""Classes and functions that a script or notebook itself defines: their source, to do it again.

A worker never runs the script. It gets the text of the definitions that the network needs, and the
values of the global names that they use, as they are when training begins.
"""

import __future__

import ast
import builtins
import dis
import linecache
import sys
import types
from typing import Any, NamedTuple

from dptrain.errors import UsageError

_FUTURE = __future__.annotations


class Definition(NamedTuple):
    """A class or function statement.

    Attributes:
        source: its text, decorators included.
        file: in which it stands, for tracebacks.
        line: at which it begins, counted from 1.
        flags: with which it was compiled.
    """

    source: str
    file: str
    line: int
    flags: int

    def compiled(self) -> types.CodeType:
        """Return the statement as code, with its own line numbers."""
        # what stood under an ``if`` is indented, and taking that away would change its texts
        before = "if True:\n" if self.source[0].isspace() else ""
        tree = ast.increment_lineno(ast.parse(before + self.source), self.line - 1 - bool(before))
        code: types.CodeType = compile(tree, self.file, "exec", self.flags, dont_inherit=True)
        return code

    def run(self, names: dict[str, Any]) -> None:
        """Carry out the statement among some global names."""
        exec(self.compiled(), names)  # noqa: S102 - that is what a definition is


def definition_of(name: str, value: Any) -> Definition:
    """Return the definition of a class or function at the top level of the script.

    Raises:
        UsageError: its source cannot be found.
    """
    codes = _codes_of(value)
    files = [code.co_filename for code in codes]
    files.append(getattr(sys.modules[value.__module__], "__file__", None) or "")
    flags = _FUTURE.compiler_flag & (codes[0].co_flags if codes else 0)
    for file in dict.fromkeys(files):
        lines = linecache.getlines(file)
        found = [each for each in _statements(lines) if each.name == name]
        if found:
            first = min([found[-1].lineno, *(each.lineno for each in found[-1].decorator_list)])
            source = "".join(lines[first - 1 : found[-1].end_lineno])
            return Definition(source, file, first, flags)
    raise UsageError(
        f"the source of {name} cannot be found, which worker processes need; put it into a file "
        "of its own and import it from there, or train with workers=1"
    )


def globals_of(definition: Definition) -> list[str]:
    """Return the global names that a definition uses, in the order of their first use."""
    found: dict[str, None] = {}
    codes = [definition.compiled()]
    for code in codes:
        codes += [each for each in code.co_consts if isinstance(each, types.CodeType)]
        for each in dis.get_instructions(code):
            if each.opname in ("LOAD_GLOBAL", "LOAD_NAME") and not hasattr(builtins, each.argval):
                found[each.argval] = None
    return list(found)


def _codes_of(value: Any) -> list[types.CodeType]:
    """Return the code of a function, or of a class's own methods; it knows its file."""
    parts = [value] if isinstance(value, types.FunctionType) else vars(value).values()
    functions = [getattr(each, "__func__", getattr(each, "fget", each)) for each in parts]
    return [
        each.__code__
        for each in functions
        if isinstance(each, types.FunctionType) and each.__module__ == value.__module__
    ]


Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _statements(lines: list[str]) -> list[Named]:
    """Return the definitions at the top level of a file, those under ``if`` among them."""
    try:
        found: list[Any] = list(ast.parse("".join(lines)).body)
    except SyntaxError:  # a notebook's cell with commands of its own, say
        return []
    for each in found:
        if not isinstance(each, Named):
            found += [*getattr(each, "body", []), *getattr(each, "orelse", [])]
    return [each for each in found if isinstance(each, Named)]
