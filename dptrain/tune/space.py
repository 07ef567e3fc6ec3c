"""What a parameter of the search may be: some values, or anything between two bounds.

A specification is text that needs no quotes in a shell: ``lr=loguniform:1e-3:1e-1``,
``layers.0.units=int:5:15``, ``lr=range:.001:.02:.001``, ``optimizer=sgd,adam``.
"""

import math
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import numpy as np

from dptrain.errors import UsageError

FORMS = {
    "uniform": "uniform:LOW:HIGH[:POINTS]",
    "loguniform": "loguniform:LOW:HIGH[:POINTS]",
    "int": "int:FIRST:LAST[:STEP]",
    "range": "range:START:STOP:STEP",
}
# A range of more is a slip of the keyboard, such as a step of 1e-9.
MOST_VALUES = 1_000_000
DIGITS = 4


class ValueChoices(NamedTuple):
    """Some values.

    Attributes:
        values: each once; text where the specification was a list, until `typed` of the settings.
        ordered: whether near values behave alike, as numbers do and names do not.
        log: whether they are evenly spaced in their logarithm.
    """

    values: tuple[Any, ...]
    ordered: bool
    log: bool = False


class ValueRange(NamedTuple):
    """Any number from ``low`` to ``high``, evenly spread or evenly spread in its logarithm."""

    low: float
    high: float
    log: bool

    def at(self, fraction: float) -> float:
        """Return the number at a fraction, 0 to 1, of the way from low to high."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return self.rounded(math.exp(low + fraction * (high - low)))
        return self.rounded(self.low + fraction * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """Return a value to four digits, so that a table shows what was trained with."""
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Space = ValueChoices | ValueRange


class SearchParameter(NamedTuple):
    """One parameter of the search.

    Attributes:
        name: of a setting of the experiment, such as ``lr`` or ``layers.0.units``.
        space: what it may be.
    """

    name: str
    space: Space


def parse_parameter(text: str) -> SearchParameter:
    """Return the parameter that ``NAME=SPECIFICATION`` describes.

    Raises:
        UsageError: it cannot be understood; the message shows the form that is meant.
    """
    name, equals, what = text.partition("=")
    if not equals or not name or not what:
        raise UsageError(
            f"--param {text!r} needs a name and its values, such as lr=loguniform:1e-3:1e-1, "
            "model.hidden=int:5:15 or optimizer=sgd,adam"
        )
    kind, _, rest = what.partition(":")
    if kind not in FORMS:
        return SearchParameter(name, _listed(text, what))
    parts = rest.split(":")
    fewest = 3 if kind == "range" else 2
    if not fewest <= len(parts) <= 3:
        raise _misformed(text, kind)
    numbers = [_number(text, kind, part) for part in parts]
    space = _stepped(text, kind, numbers) if kind in ("int", "range") else _even(text, numbers)
    return SearchParameter(name, space)


def _listed(text: str, what: str) -> ValueChoices:
    values = tuple(what.split(","))
    if not all(values) or len(set(values)) < len(values):
        fault = "names a value twice" if all(values) else "has an empty value"
        raise UsageError(f"--param {text}: {fault}; give a list such as optimizer=sgd,adam")
    return ValueChoices(values, ordered=False)


def _number(text: str, kind: str, part: str) -> Decimal:
    try:
        number = Decimal(part)
    except InvalidOperation:
        raise _misformed(text, kind) from None
    if not number.is_finite() or (kind == "int" and number % 1):
        raise _misformed(text, kind)
    return number


def _stepped(text: str, kind: str, numbers: list[Decimal]) -> ValueChoices:
    """Return the numbers of a range.

    Computed in decimal from the digits that were typed: in binary, .001 + 2 * .001 and the like
    miss the number that a reader sees, and whether the end belongs to a range is up to chance.
    """
    start, end = numbers[:2]
    step = numbers[2] if len(numbers) > 2 else Decimal(1)
    if step <= 0:
        raise UsageError(f"--param {text}: the step {step} must be more than 0")
    steps = (end - start) / step
    count = math.floor(steps) + 1 if kind == "int" else math.ceil(steps)
    if count < 1:
        raise UsageError(f"--param {text}: there is nothing from {start} to {end}; swap them")
    if count > MOST_VALUES:
        raise UsageError(f"--param {text} has {count:,} values; give a larger step")
    whole = not start % 1 and not step % 1
    values = (start + i * step for i in range(count))
    return ValueChoices(tuple(int(v) if whole else float(v) for v in values), ordered=True)


def _even(text: str, numbers: list[Decimal]) -> Space:
    log = text.partition("=")[2].startswith("log")
    low, high = map(float, numbers[:2])
    if not low < high:
        raise UsageError(f"--param {text}: {numbers[0]} must be less than {numbers[1]}")
    if log and low <= 0:
        raise UsageError(f"--param {text}: {numbers[0]} has no logarithm; begin above 0")
    interval = ValueRange(low, high, log)
    if len(numbers) == 2:
        return interval
    points = numbers[2]
    if points % 1 or not 2 <= points <= MOST_VALUES:
        raise UsageError(f"--param {text}: {points} points; give a whole number of at least 2")
    values = map(interval.at, np.linspace(0, 1, int(points)).tolist())
    return ValueChoices(tuple(dict.fromkeys(values)), ordered=True, log=log)


def _misformed(text: str, kind: str) -> UsageError:
    what = "whole numbers" if kind == "int" else "numbers"
    return UsageError(f"--param {text} cannot be understood; give {FORMS[kind]} in {what}")
