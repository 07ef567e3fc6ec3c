"""The switch between training and inference that a network of the user's own may have.

Dropout and batch normalisation compute something else in training. The code is told by a keyword of
its methods, such as ``loss(x, t, train_flg=False)`` in "Deep Learning from Scratch", or by an
attribute of the network or of its layers, such as ``self.training``. Gradients and the losses that
belong to them are computed in training; evaluations and predictions are not.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from dptrain.own.places import Place, below, holders

NAMES = ("train_flg", "training", "train", "is_training")


class Switch:
    """What turns the training mode of a network on and off."""

    def __init__(self, subject: object, methods: Mapping[str, Callable[..., Any] | None]) -> None:
        """Look for it.

        Args:
            subject: the network.
            methods: its methods by name; None for those it has not.
        """
        self._keywords = {name: _keyword(each) for name, each in methods.items() if each}
        self._attributes = [
            below(place, holder, name)
            for place, holder in holders(subject)
            for name in NAMES
            if _turns(holder, name)
        ]

    def of(self, method: str, *, training: bool) -> dict[str, bool]:
        """Return the keyword with which a method is told the mode; none if it takes none."""
        keyword = self._keywords.get(method)
        return {} if keyword is None else {keyword: training}

    @contextmanager
    def set(self, *, training: bool) -> Iterator[None]:
        """Turn the attributes; afterwards they are as they were."""
        before = [(place, place.own()) for place in self._attributes]
        try:
            for place in self._attributes:
                place.put(training)
            yield
        finally:
            for place, value in before:
                place.put(value)

    def __str__(self) -> str:
        """Return where it is, such as ``train_flg of loss, predict``; empty where there is none."""
        by_name: dict[str, list[str]] = {}
        for method, keyword in self._keywords.items():
            if keyword is not None:
                by_name.setdefault(keyword, []).append(method)
        told = [f"{keyword} of {', '.join(methods)}" for keyword, methods in by_name.items()]
        return "; ".join([*told, *_named(self._attributes)])


def _keyword(method: Callable[..., Any]) -> str | None:
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):  # written in C
        return None
    return next((name for name in NAMES if name in parameters), None)


def _turns(holder: Any, name: str) -> bool:
    """Return whether something holds a switch of a name: its own, its class's or a property."""
    kind = getattr(type(holder), name, None)
    if isinstance(kind, property) and kind.fset is None:
        return False
    value = holder.get(name) if isinstance(holder, dict) else getattr(holder, name, None)
    return isinstance(value, bool | np.bool_)


def _named(attributes: list[Place]) -> list[str]:
    paths = [place.path for place in attributes]
    return paths if len(paths) <= 3 else [*paths[:2], f"{len(paths) - 2} more"]
