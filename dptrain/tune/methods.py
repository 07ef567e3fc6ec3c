"""Which parameters a trial gets: a grid, random draws, or what TPE makes of the trials before."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from dptrain.arithmetic.randomness import Purpose, generator
from dptrain.errors import UsageError
from dptrain.tune.space import SearchParameter, ValueChoices, ValueRange
from dptrain.tune.trial import Trial

MethodName = Literal["grid", "random", "tpe"]
Values = Mapping[str, Any]

# How often chance may propose what has been tried already.
ATTEMPTS = 100


class Method(Protocol):
    """A way to choose parameters."""

    def parameters(
        self, number: int, known: Sequence[Trial], earlier: Sequence[Values]
    ) -> dict[str, Any]:
        """Return the parameters of a trial.

        Args:
            number: of the trial, from 1.
            known: the trials that the choice may learn from.
            earlier: the parameters of all trials with lower numbers, in order.
        """


def combinations(space: Sequence[SearchParameter]) -> int | None:
    """Return how many combinations there are; None where there is no end of them."""
    counts = [len(each.space.values) for each in space if isinstance(each.space, ValueChoices)]
    return math.prod(counts) if len(counts) == len(space) else None


class Grid:
    """All combinations, the last parameter changing fastest."""

    def __init__(self, space: Sequence[SearchParameter]) -> None:
        """Raise `UsageError` for a parameter without a list of values."""
        self._names = [each.name for each in space]
        self._values = []
        for name, what in space:
            if isinstance(what, ValueRange):
                kind = "loguniform" if what.log else "uniform"
                form = f"{name}={kind}:{what.low:g}:{what.high:g}"
                raise UsageError(
                    f"--param {form} has no end of values for a grid; give a number of points, "
                    f"such as {form}:5, or use --method random"
                )
            self._values.append(what.values)

    def parameters(
        self,
        number: int,
        known: Sequence[Trial],  # noqa: ARG002 - a grid does not learn
        earlier: Sequence[Values],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return one combination."""
        place = number - 1
        chosen = []
        for values in reversed(self._values):
            place, i = divmod(place, len(values))
            chosen.append(values[i])
        return dict(zip(self._names, reversed(chosen), strict=True))


class Random:
    """Draws keyed by seed, trial and parameter; no combination of lists comes twice."""

    def __init__(self, space: Sequence[SearchParameter], seed: int) -> None:
        self._space = space
        self._seed = seed

    def parameters(
        self,
        number: int,
        known: Sequence[Trial],  # noqa: ARG002 - chance does not learn
        earlier: Sequence[Values],
    ) -> dict[str, Any]:
        """Return the first draw of the trial that no earlier trial has had.

        Where such draws have become rare, the next free combination after a random one.
        """
        found = {}
        for attempt in range(ATTEMPTS):
            found = {
                each.name: _drawn(each, self._seed, (number, attempt, i))
                for i, each in enumerate(self._space)
            }
            if found not in earlier:
                return found
        count = combinations(self._space)
        if count is None:  # an interval of a few roundings
            return found
        grid = Grid(self._space)
        first = int(generator(self._seed, Purpose.SEARCH, number, ATTEMPTS).integers(count))
        around = (grid.parameters(1 + (first + i) % count, (), ()) for i in range(count))
        return next((each for each in around if each not in earlier), found)


def _drawn(parameter: SearchParameter, seed: int, key: tuple[int, ...]) -> Any:
    random = generator(seed, Purpose.SEARCH, *key)
    space = parameter.space
    if isinstance(space, ValueRange):
        return space.at(random.random())
    return space.values[int(random.integers(len(space.values)))]
