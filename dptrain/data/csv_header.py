"""Tell a CSV file's header from its first row, and its label column from the others."""

from collections.abc import Sequence
from dataclasses import dataclass

from dptrain.errors import DataError, suggestion

LABEL_NAMES = ("label", "target", "class", "species", "y", "t")


@dataclass(frozen=True)
class Columns:
    """The columns of a CSV file.

    Attributes:
        names: of all.
        header: whether the file gave the names.
        label: the position of the label.
        inputs: the positions of the columns to learn from, in the order of the features.
    """

    names: tuple[str, ...]
    header: bool
    label: int
    inputs: tuple[int, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns to learn from."""
        return tuple(self.names[i] for i in self.inputs)


def number(text: str) -> float | None:
    """Return the number a cell holds, perhaps infinite or NaN, or None where it holds none."""
    if "_" in text:  # Python reads 2024_01 as a number; in a table it is a word
        return None
    try:
        return float(text)
    except ValueError:
        return None


def find_columns(
    file: str, rows: list[list[str]], label: str | None, chosen: Sequence[str] | None
) -> Columns:
    """Return the columns of the file whose first row, or first two rows, are given.

    The first row is a header when not all of it are numbers; but a row of numbers and text that is
    followed by one with the same columns of text is data (numbers with a class name), unless it
    holds the label column's name. ``chosen`` names the columns to learn from; None are all but the
    label. Raises DataError when there is no column of a given name, or several.
    """
    header = _is_header(rows, label)
    names = tuple(cell.strip() for cell in rows[0])
    if not header:
        names = tuple(f"column {index + 1}" for index in range(len(names)))
    if len(names) < 2:
        raise DataError(
            f"{file}: only one column, but features and a label are needed; "
            "columns are separated by commas"
        )
    position = _label_position(file, names, header, label)
    if chosen is None:
        inputs = tuple(i for i in range(len(names)) if i != position)
    else:
        inputs = tuple(_position(file, names, header, "columns", each) for each in chosen)
    if position in inputs:
        raise DataError(
            f"{file}: columns={names[position]!r} is the label; leave it out, or name another "
            "column with --label"
        )
    return Columns(names, header, position, inputs)


def _is_header(rows: list[list[str]], label: str | None) -> bool:
    numeric = [[number(cell) is not None for cell in row] for row in rows]
    if all(numeric[0]):
        return False
    known = LABEL_NAMES if label is None else (*LABEL_NAMES, label.lower())
    if any(cell.strip().lower() in known for cell in rows[0]):
        return True
    return not any(numeric[0]) or numeric[0] != numeric[-1] or len(rows) == 1


def _label_position(file: str, names: tuple[str, ...], header: bool, label: str | None) -> int:
    if label is None:
        folded = [name.lower() for name in names]
        found = [folded.index(name) for name in LABEL_NAMES if name in folded]
        return found[0] if found else len(names) - 1
    return _position(file, names, header, "label", label)


def _position(file: str, names: tuple[str, ...], header: bool, setting: str, name: str) -> int:
    if not header:
        without = "the last column" if setting == "label" else "all columns but the last"
        raise DataError(
            f"{file}: {setting}={name!r} names a column, but the file has no header line; "
            f"add one, or leave the {setting} out to take {without}"
        )
    if names.count(name) > 1:
        raise DataError(f"{file}: {names.count(name)} columns are called {name!r}; rename one")
    if name not in names:
        use = " for the label" if setting == "label" else ""
        raise DataError(f"{file}: has no column {name!r}{use}{suggestion(name, names)}")
    return names.index(name)
