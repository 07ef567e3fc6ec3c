"""What the benchmark asks of a checker."""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from benchmarks.gradcheck.problems import Problem

# Whether a checker accepts a gradient ``(size,)`` of a problem
Accepts = Callable[[Problem, NDArray[Any]], bool]


class Checker(NamedTuple):
    """One of those that are compared.

    Attributes:
        name: in the tables.
        accepts: its verdict, by its own defaults.
        decides: how it comes to it, for the table.
    """

    name: str
    accepts: Accepts
    decides: str
