"""What to say of a cell of a CSV file that holds no number."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable

from dptrain.data.csv_header import LABEL_NAMES, Columns, cell_number
from dptrain.errors import DataError

_MOST = 4  # columns in one message


def bad_cell(
    file: str,
    line: int,
    cells: list[str],
    columns: Columns,
    others: Iterable[list[str]],
    *,
    choosing: bool,
) -> DataError:
    """Return the error that names the first bad cell of a row, and tells how many there are.

    Args:
        file: its name.
        line: on which the row ends.
        cells: of the row, all of them.
        columns: of the file.
        others: the rows behind it.
        choosing: whether label and columns to learn from can still be chosen.
    """
    bad = Counter(_bad_columns(cells, columns))
    name = next(iter(bad))
    cell = cells[columns.inputs[columns.features.index(name)]]
    problem = f"{cell!r} is not a number" if cell.strip() else "empty"
    problem += _without_commas(cell.strip())
    rows = seen = 1
    for other in others:
        found = _bad_columns(other, columns)
        bad.update(found)
        rows += bool(found)
        seen += 1
    names = [f"{each!r} ({count})" for each, count in bad.most_common(_MOST)]
    more = f" and {len(bad) - _MOST} more" if len(bad) > _MOST else ""
    many = f"; {rows} rows have such cells, in {', '.join(names)}{more}" if rows > 1 else ""
    remedy = "mend them or take these rows out" if rows > 1 else "mend it or take the row out"
    choice = ", or name the columns to learn from with --columns" if choosing else ""
    label = "" if columns.label is None else columns.names[columns.label].lower()
    if choosing and "," not in cell and bad[name] == seen > 1 and label not in LABEL_NAMES:
        choice += f"; if {name!r} is the label, give --label {shlex.quote(name)}"
    return DataError(f"{file}: line {line}, column {name!r}: {problem}{many}; {remedy}{choice}")


def _without_commas(cell: str) -> str:
    """Return how to write a number with commas, which may be decimal points or group thousands."""
    pointed, plain = cell.replace(",", ".", 1), cell.replace(",", "")
    if "," not in cell or cell_number(plain) is None:
        return ""
    grouped = re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", cell)
    if cell_number(pointed) is None:
        return f"; write {plain}, without commas" if grouped else ""
    if grouped:
        return f"; write {plain}, or {pointed} if the comma is the decimal point"
    return f"; write {pointed}, with a point"


def _bad_columns(cells: list[str], columns: Columns) -> list[str]:
    """Return the names of the columns whose cells hold no number, in a row that has all cells."""
    if len(cells) != len(columns.names):
        return []
    pairs = zip(columns.features, columns.inputs, strict=True)
    return [name for name, i in pairs if cell_number(cells[i]) is None]
