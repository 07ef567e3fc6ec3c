"""The label column of a CSV file, and the lines of its rows, in little memory."""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from dptrain.data.csv_header import cell_number

# Texts that are kept; where there are more, and they are fractions, only numbers are.
MOST = 1 << 16


class Labels(Sequence[str]):
    """One text a row, each of which is kept once.

    Attributes:
        texts: those that occur, in the order in which they come first.
        codes: of each row the place of its text.
        values: of each row its number, in place of codes, where there are very many fractions.
        word: row and text of the first label among those that is not a number.
    """

    def __init__(self, *, exact: bool = False) -> None:
        """Begin without rows; ``exact`` keeps all texts."""
        self.codes = array("i")
        self.values: array[float] | None = None
        self.word: tuple[int, str] | None = None
        self._code: dict[str, int] = {}
        self._looked = 1 << 62 if exact else MOST

    def append(self, text: str) -> None:
        """Add the label of the next row."""
        if self.values is not None:
            value = cell_number(text)
            if value is None and self.word is None:
                self.word = len(self.values), text
            self.values.append(0.0 if value is None else value)
            return
        self.codes.append(self._code.setdefault(text, len(self._code)))
        if len(self._code) > self._looked:
            self._looked *= 2
            self._shortened()

    def _shortened(self) -> None:
        """Go over to numbers, where all labels are numbers and some of them fractions."""
        values = [cell_number(text) for text in self._code]
        numbers = [value for value in values if value is not None]
        if len(numbers) < len(values) or all(value.is_integer() for value in numbers):
            return
        self.values = array("d", np.array(numbers)[np.array(self.codes)].tobytes())
        self.codes, self._code = array("i"), {}

    @property
    def texts(self) -> list[str]:
        """The texts that occur."""
        return list(self._code)

    def each(self, by_text: NDArray[Any]) -> NDArray[Any]:
        """Return of every row what stands for its text."""
        found: NDArray[Any] = by_text[np.frombuffer(self.codes, np.intc)]
        return found

    def first(self, text: int) -> int:
        """Return the first row that has a text, given by its place."""
        return self.codes.index(text)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        texts = self.texts
        if isinstance(row, slice):
            return [texts[code] for code in self.codes[row]]
        return texts[self.codes[row]]

    def __iter__(self) -> Iterator[str]:
        texts = self.texts
        return (texts[code] for code in self.codes)

    def __len__(self) -> int:
        return len(self.codes if self.values is None else self.values)


class Lines:
    """The line of a file on which each row ends, counting from 1; mostly one behind the other."""

    def __init__(self) -> None:
        """Begin without rows."""
        self._rows = array("q")
        self._lines = array("q")
        self._next = -1
        self._count = 0

    def append(self, line: int) -> None:
        """Add the line of the next row."""
        if line != self._next:
            self._rows.append(self._count)
            self._lines.append(line)
        self._next = line + 1
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> int:
        at = bisect_right(self._rows, row) - 1
        return self._lines[at] + row - self._rows[at]
