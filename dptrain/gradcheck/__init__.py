"""Gradients checked: distributed, analytic and numerical ones against each other.

From Python ``from dptrain.gradcheck import check, assert_gradients``, on the command line
``dptrain gradcheck``.
"""

from importlib import import_module

__all__ = ["assert_gradients", "check"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("dptrain.gradcheck.calls"), name)
