"""Mutants of the real source: one function each has one thing changed."""

import ast
import functools
import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import dptrain
from dptrain.gradcheck.zoo.source import compiled, function_at, give
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

    @property
    def where(self) -> str:
        """File and function."""
        return f"{self.module.removeprefix('dptrain.').replace('.', '/')}.py:{self.function}"


def mutants(run: Iterable[tuple[str, str]]) -> list[Mutant]:
    """Return all mutants of functions, named by module and qualified name, that exist."""
    wanted, found = set(run), []
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    for path in paths:
        module = ".".join(("dptrain", *path.relative_to(ROOT).with_suffix("").parts))
        for name, node in _functions(_tree(module)) if path.name[:2] != "__" else ():
            if (module, name) in wanted:
                found += [Mutant(module, name, i) for i in range(len(changes(node)))]
    return found


def described(mutant: Mutant) -> str:
    """Return what a mutant changes."""
    node = dict(_functions(_tree(mutant.module)))[mutant.function]
    line, what, _ = changes(node)[mutant.number]
    file, _, name = mutant.where.partition(":")
    return f"{file}:{line} {name}: {what}"


def infect(mutant: Mutant) -> None:
    """Let a mutant loose in this process: its function gets the changed code, wherever it is."""
    tree = _tree(mutant.module)
    node = dict(_functions(tree))[mutant.function]
    vars(node).update(vars(changes(node)[mutant.number][2]))
    function = function_at(mutant.where)
    function.__globals__.setdefault("_same", lambda array: array)
    give({mutant.where: compiled(function, ast.fix_missing_locations(tree))})


@functools.cache
def _source(module: str) -> str:
    return inspect.getsource(import_module(module))


def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
