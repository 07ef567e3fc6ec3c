"""Mutants of the real source: one function each has one thing changed."""

import ast
import functools
import importlib
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import dptrain
from tests.gradcheck.mutation.changes import changes

ROOT = Path(dptrain.__file__).parent
# What decides the numbers of a run, and nothing of the checker's own.
FOLDERS = (
    *("arithmetic", "checkpoint", "coordinator", "data", "evaluation", "exchange"),
    *("nn", "optim", "worker"),
)


class Mutant(NamedTuple):
    """A change of a function.

    Attributes:
        module: such as ``dptrain.nn.dense``.
        function: its qualified name.
        number: which of its changes.
    """

    module: str
    function: str
    number: int

    def __str__(self) -> str:
        return f"{self.module}:{self.function}:{self.number}"

    @classmethod
    def named(cls, text: str) -> "Mutant":
        """Return the mutant with this name."""
        module, function, number = text.split(":")
        return cls(module, function, int(number))


def modules() -> Iterator[str]:
    """Yield the names of the modules that are mutated."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name not in ("__init__.py", "__main__.py"):
                yield ".".join(("dptrain", *path.relative_to(ROOT).with_suffix("").parts))


def mutants(run: Iterable[tuple[str, str]]) -> list[Mutant]:
    """Return all mutants of functions, named by module and qualified name, that exist."""
    wanted, found = set(run), []
    for module in modules():
        for name, node in _functions(_tree(module)):
            if (module, name) in wanted:
                found += [Mutant(module, name, i) for i in range(len(changes(node)))]
    return found


def described(mutant: Mutant) -> str:
    """Return what a mutant changes."""
    line, what, _ = _changed(mutant)
    file = mutant.module.removeprefix("dptrain.").replace(".", "/")
    return f"{file}.py:{line} {mutant.function}: {what}"


def infect(mutant: Mutant) -> None:
    """Let a mutant loose in this process: its function gets the changed code, wherever it is."""
    _, _, changed = _changed(mutant)
    tree = _tree(mutant.module)
    node = dict(_functions(tree))[mutant.function]
    vars(node).update(vars(changed))
    code = compile(ast.fix_missing_locations(tree), _file(mutant.module), "exec")
    module = importlib.import_module(mutant.module)
    for each in _codes(code):
        if each.co_qualname == mutant.function:
            found = _function(module, mutant.function)
            found.__globals__.setdefault("_same", lambda array: array)
            found.__code__ = each
            return
    raise LookupError(str(mutant))


@functools.cache
def _source(module: str) -> str:
    return inspect.getsource(importlib.import_module(module))


def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))


def _file(module: str) -> str:
    return str(importlib.import_module(module).__file__)


def _changed(mutant: Mutant) -> tuple[int, str, ast.FunctionDef]:
    return changes(dict(_functions(_tree(mutant.module)))[mutant.function])[mutant.number]


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


def _function(module: ModuleType, name: str) -> FunctionType:
    owner: Any = module
    for part in name.split("."):
        owner = vars(owner)[part]
    for unwrap in ("fget", "__func__", "func"):
        owner = getattr(owner, unwrap, None) or owner
    found = inspect.unwrap(owner)
    assert isinstance(found, FunctionType), name
    return found
