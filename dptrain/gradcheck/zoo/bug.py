"""What a deliberate bug is: a small patch of one named place, applied at run time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


class Patches:
    """Replaces attributes of modules and classes, and puts them back."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Replace ``owner.name`` by what ``make`` makes of it."""
        original = owner.__dict__[name]
        self._undo.append((owner, name, original))
        setattr(owner, name, make(original))

    def undo(self) -> None:
        """Put everything back, the last first."""
        while self._undo:
            owner, name, original = self._undo.pop()
            setattr(owner, name, original)


@dataclass(frozen=True)
class Bug:
    """A deliberate bug.

    Attributes:
        name: such as ``"mean-of-means"``; unique.
        kind: the class of bugs that the diagnosis is to name first, such as ``"mean-of-means"``.
        sentence: what is wrong, and in which system it was seen.
        patch: applies it.
        place: the processes it is applied in: the workers, the coordinator, or, where all of them
            share the code (as layers), all.
        habitat: name of the experiment in which it shows.
        exchange: the exchanges that have the place it patches.
        rank: the only rank it is applied to; None for all.
        equivalent: whether it changes nothing in its habitat, so that it must pass.
    """

    name: str
    kind: str
    sentence: str
    patch: Callable[[Patches], None]
    place: Literal["worker", "coordinator", "all"] = "worker"
    habitat: str = "plain"
    exchange: tuple[str, ...] = ("shared",)
    rank: int | None = None
    equivalent: bool = False
