"""Copies of networks of the user's own, also of those that hold what cannot be copied."""

import copy
from typing import Any

from dptrain.own.places import holders


def copy_of(subject: Any) -> Any:
    """Return a copy of an object that shares nothing with it but what refuses to be copied.

    A lock, an open file or a generator function that is under way refuses, and nothing that is
    computed depends on it. May raise whatever copying the object raises for other reasons.
    """
    try:
        return copy.deepcopy(subject)
    except Exception:  # noqa: BLE001 - objects may refuse to be copied in their own ways
        inside = [each for _, each in holders(subject)][1:]
        return copy.deepcopy(subject, {id(e): e for e in inside if _refuses(e)})


def _refuses(value: Any) -> bool:
    """Return whether a value refuses by itself, not for what stands in it."""
    if isinstance(value, dict | list | tuple) or hasattr(value, "__dict__"):
        return False
    try:
        copy.copy(value)
    except Exception:  # noqa: BLE001 - as above
        return True
    return False
