"""A bug as programmers make it: one function of the real source, with a piece of text exchanged."""

import importlib
import inspect
import sys
import textwrap
from typing import Any, NamedTuple

import pytest

import dptrain.coordinator.run
import dptrain.experiment.job  # noqa: F401 - or what is first imported while a slip is loose keeps it


class Slip(NamedTuple):
    """A bug, and what it must be put down to.

    Attributes:
        where: module and function, such as ``"data.dataset:Split.gather"``.
        old: the text that is exchanged, where it first stands in the function.
        new: what stands there instead.
        told: how kind and sentence of the diagnosis begin, with ``": "`` between them.
    """

    where: str
    old: str
    new: str
    told: str

    def __str__(self) -> str:
        return f"{self.where} {self.new}"

    def let_loose(self, patch: pytest.MonkeyPatch) -> None:
        """Put the function in place of the right one, wherever that has been imported."""
        module, _, name = self.where.partition(":")
        owner: Any = importlib.import_module(f"dptrain.{module}")
        *classes, function = name.split(".")
        for each in classes:
            owner = getattr(owner, each)
        right = inspect.getattr_static(owner, function)
        plain = getattr(right, "__func__", right)
        source = textwrap.dedent(inspect.getsource(plain))
        assert self.old in source, self
        source = source.replace("super()", f"super({''.join(classes)}, self)")
        names: dict[str, Any] = {}
        code = compile(source.replace(self.old, self.new, 1), str(self), "exec")
        exec(code, plain.__globals__, names)  # noqa: S102 - our own
        ours: list[Any] = [module for n, module in sys.modules.items() if n.startswith("dptrain.")]
        owners = [owner] if classes else ours
        for each in owners:
            if vars(each).get(function) is right:
                patch.setattr(each, function, names[function])
