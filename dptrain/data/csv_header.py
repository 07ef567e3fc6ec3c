"""Tell a CSV file's header from its first row, and its label column from the others."""

from dataclasses import dataclass

from dptrain.errors import DataError, suggestion

LABEL_NAMES = ("label", "target", "class", "species", "y", "t")


@dataclass(frozen=True)
class Columns:
    """The columns of a CSV file: their names, whether a header gave them, where the label is."""

    names: tuple[str, ...]
    header: bool
    label: int

    @property
    def features(self) -> tuple[str, ...]:
        """The names of all columns but the label's, in order."""
        return self.names[: self.label] + self.names[self.label + 1 :]


def number(text: str) -> float | None:
    """Return the number a cell holds, perhaps infinite or NaN, or None where it holds none."""
    if "_" in text:  # Python reads 2024_01 as a number; in a table it is a word
        return None
    try:
        return float(text)
    except ValueError:
        return None


def find_columns(file: str, rows: list[list[str]], label: str | None) -> Columns:
    """Return the columns of the file whose first row, or first two rows, are given.

    The first row is a header when not all of it are numbers; but a row of numbers and text that is
    followed by one with the same columns of text is data (numbers with a class name), unless it
    holds the label column's name. Raises DataError when there is no column ``label``, or several.
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
    return Columns(names, header, _label_position(file, names, header, label))


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
    if not header:
        raise DataError(
            f"{file}: label={label!r} names a column, but the file has no header line; "
            "add one, or leave the label out to take the last column"
        )
    if names.count(label) > 1:
        raise DataError(f"{file}: {names.count(label)} columns are called {label!r}; rename one")
    if label not in names:
        raise DataError(f"{file}: has no column {label!r} for the label{suggestion(label, names)}")
    return names.index(label)
