"""Find in another CSV file the columns that a run learnt from."""

from collections.abc import Sequence

from dptrain.data.csv_header import Columns, cell_number, column_names
from dptrain.errors import DataError, suggestion


def match_columns(
    file: str,
    rows: list[list[str]],
    *,
    header: bool | None,
    columns: Sequence[str] | None,
    label: str | None,
    features: int,
) -> Columns:
    """Return where a file has the columns that a run learnt from, and perhaps the label.

    Args:
        file: its name, for messages.
        rows: the first of them, at least one.
        header: whether the run's table had a header; if so its columns are found by name, and a
            file of numbers alone must have just these, in the run's order. None: the run learnt
            from no table, and columns are taken in their order.
        columns: their names; None where the table had no header, and all but the label were taken.
        label: the name of the label column, ``column N`` where the table had no header.
        features: how many columns the run learnt from.

    Raises:
        DataError: a column is missing, or there are several of its name; or the number of columns
            does not fit.
    """
    if header and columns is not None:
        return _by_name(file, rows, columns, label)
    words = not any(cell_number(cell) is not None for cell in rows[0])
    if words and header is None:
        names = column_names(rows, header=True)
        if len(names) != features:
            raise DataError(f"{file}: has {len(names)} columns, but the run learnt from {features}")
        return Columns(names, True, None, tuple(range(features)))
    if words:
        raise DataError(
            f"{file}: its first line holds no number, and the run learnt from a table without a "
            "header, so that names cannot be told apart; leave the line out"
        )
    return _by_position(file, rows, columns, label, features)


def _by_name(
    file: str, rows: list[list[str]], columns: Sequence[str], label: str | None
) -> Columns:
    first = [cell.strip() for cell in rows[0]]
    numeric = [cell_number(cell) is not None for cell in first]
    names = column_names(rows, header=True)
    found = [name in names for name in columns]
    if all(numeric) and not all(found):
        if len(first) == len(columns):
            plain = column_names(rows, header=False)
            return Columns(plain, False, None, tuple(range(len(columns))))
        raise DataError(
            f"{file}: has {len(first)} columns and no header line, but the run learnt from "
            f"{len(columns)}: {', '.join(columns)}; name the columns in the first line"
        )
    places = [names.index(name) for name in columns if name in names]
    if all(numeric) and places != sorted(places):
        raise DataError(
            f"{file}: the first line, {','.join(first)}, may name the columns or be a row; give "
            f"them in the order of the run, {','.join(columns)}"
        )
    if any(numeric) and not any(found):
        at = numeric.index(False)
        cell = f"{first[at]!r} is not a number" if first[at] else "empty"
        raise DataError(
            f"{file}: line 1, column {at + 1}: {cell}, and no cell of the line names a column that "
            "the run learnt from"
        )
    if not all(found):
        free = [name for name in names if name not in columns]
        missing = [name for name in columns if name not in names]
        missing.sort(key=lambda name: not suggestion(name, free))  # what is misspelt first
        others = f" (nor {', '.join(map(repr, missing[1:4]))})" if missing[1:] else ""
        raise DataError(
            f"{file}: has no column {missing[0]!r}{others}, which the run learnt from"
            f"{suggestion(missing[0], free)}"
        )
    for name in (*columns, label or ""):
        if names.count(name) > 1:
            raise DataError(f"{file}: {names.count(name)} columns are called {name!r}; rename one")
    target = names.index(label) if label in names and label not in columns else None
    rest = [name for name in names if name not in columns and name != label]
    return Columns(names, True, target, tuple(map(names.index, columns)), tuple(rest))


def _by_position(
    file: str,
    rows: list[list[str]],
    columns: Sequence[str] | None,
    label: str | None,
    features: int,
) -> Columns:
    names = column_names(rows, header=False)
    if len(names) == features:
        return Columns(names, False, None, tuple(range(features)))
    target = names.index(label) if label in names else None
    inputs = tuple(i for i in range(len(names)) if i != target)
    if columns is not None:
        inputs = tuple(names.index(name) for name in columns if name in names)
    if target is None or len(inputs) != features:
        raise DataError(
            f"{file}: has {len(names)} columns, but the run learnt from {features} of a table "
            f"without a header, whose label was {label or 'the last'}; give just these, in their "
            "order"
        )
    return Columns(names, False, target, inputs)
