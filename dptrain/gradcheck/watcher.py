"""Who is told of a check while it goes on."""

from collections.abc import Callable
from typing import Protocol

from dptrain.gradcheck.comparison import Comparison
from dptrain.gradcheck.report import Failure

Tell = Callable[[Comparison], None]


class Watcher(Protocol):
    """Is told of a check while it goes on."""

    def stage(self, number: int, count: int) -> None:
        """A part of the check begins, the ``number``th, from 1, of ``count``."""

    def tell(self, comparison: Comparison) -> None:
        """A comparison is made."""

    def failed(self, failure: Failure) -> None:
        """The first comparison of an edge has failed, and it is known why."""


class Telling:
    """Tells of comparisons alone."""

    def __init__(self, tell: Tell = lambda _: None) -> None:
        self.tell = tell

    def stage(self, number: int, count: int) -> None:
        """Nothing is told."""

    def failed(self, failure: Failure) -> None:
        """Nothing is told."""
