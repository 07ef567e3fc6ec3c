"""An extension of Griffe, which reads source without running it, for the Structs of msgspec.

How such a class is constructed follows from its fields, and what a setting means stands in its
annotation, where ``--help`` finds it too.
"""

import ast
import inspect
import re
from typing import Any

import griffe
from msgspec import Struct

import dptrain
from dptrain.experiment.python_words import as_python

_WITHOUT_VALUE = re.compile(r"\b([a-z][a-z0-9_]*)=(?=[\s,.;]|$)")


class Structs(griffe.Extension):
    """Gives the public Structs their constructors, and settings their descriptions."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Add constructors, as `inspect` sees them, when all classes are known."""
        for name in dptrain.__all__:
            described, made = pkg[name], getattr(dptrain, name)
            if isinstance(made, type) and issubclass(made, Struct):
                fields = described.all_members
                parameters = [
                    griffe.Parameter(
                        each.name,
                        annotation=fields[each.name].annotation,
                        kind=griffe.ParameterKind[each.kind.name.lower()],
                        default=None if each.default is each.empty else repr(each.default),
                    )
                    for each in inspect.signature(made).parameters.values()
                ]
                constructor = griffe.Function("__init__", parameters=griffe.Parameters(*parameters))
                described.final_target.set_member("__init__", constructor)

    def on_attribute_instance(
        self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, **_: Any
    ) -> None:
        """Make ``Meta(description="…")`` the docstring, in the words of the Python API."""
        if attr.docstring or not isinstance(node, ast.AnnAssign):
            return
        for each in ast.walk(node.annotation):
            if isinstance(each, ast.keyword) and each.arg == "description":
                text = as_python(ast.literal_eval(each.value))
                attr.docstring = griffe.Docstring(_WITHOUT_VALUE.sub(r"\1", text), parent=attr)
