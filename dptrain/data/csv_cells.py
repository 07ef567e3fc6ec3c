"""What to say of a cell of a CSV file that holds no number."""

from collections import Counter
from collections.abc import Iterable

from dptrain.data.csv_header import Columns, number
from dptrain.errors import DataError

_MOST = 4  # columns in one message


def bad_cell(
    file: str,
    line: int,
    cells: list[str],
    columns: Columns,
    others: Iterable[list[str]],
    *,
    learning: bool,
) -> DataError:
    """Return the error that names the first bad cell of a row, and tells how many there are.

    Args:
        file: its name.
        line: on which the row ends.
        cells: of the row, all of them.
        columns: of the file.
        others: the rows behind it.
        learning: whether the columns to learn from can still be chosen.
    """
    bad = Counter(_bad_columns(cells, columns))
    name = next(iter(bad))
    cell = cells[columns.inputs[columns.features.index(name)]]
    problem = f"{cell!r} is not a number" if cell.strip() else "empty"
    pointed = cell.strip().replace(",", ".", 1)
    if "," in cell and number(pointed) is not None:
        problem += f"; write {pointed}, with a point"
    rows = 1
    for other in others:
        found = _bad_columns(other, columns)
        bad.update(found)
        rows += bool(found)
    names = [f"{each!r} ({count})" for each, count in bad.most_common(_MOST)]
    more = f" and {len(bad) - _MOST} more" if len(bad) > _MOST else ""
    many = f"; {rows} rows have such cells, in {', '.join(names)}{more}" if rows > 1 else ""
    remedy = "mend them or take these rows out" if rows > 1 else "mend it or take the row out"
    choice = ", or name the columns to learn from with --columns" if learning else ""
    return DataError(f"{file}: line {line}, column {name!r}: {problem}{many}; {remedy}{choice}")


def _bad_columns(cells: list[str], columns: Columns) -> list[str]:
    """Return the names of the columns whose cells hold no number, in a row that has all cells."""
    if len(cells) != len(columns.names):
        return []
    pairs = zip(columns.features, columns.inputs, strict=True)
    return [name for name, i in pairs if number(cells[i]) is None]
