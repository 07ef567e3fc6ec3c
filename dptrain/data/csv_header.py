"""Tell a CSV file's header from its first row, and its label column from the others."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from dptrain.errors import DataError, suggestion

# What a column of these names can only be, and what it may be as well as a feature.
CERTAIN_LABELS = ("label", "target")
LIKELY_LABELS = ("class", "species", "y", "t")
LABEL_NAMES = (*CERTAIN_LABELS, *LIKELY_LABELS)

_MOST_NAMES = 6  # in a message
_FEW = 10  # with fewer rows, all of a column may be fractions by chance

# A column of these names that never repeats itself numbers the rows.
_INDEX_NAMES = ("", "unnamed: 0", "id", "index")


class TableForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a CSV file is understood.

    Attributes:
        header: whether its first line names the columns; otherwise they are ``column 1`` and so on.
        columns: the names of those to learn from, in the order of the features.
        label: the name of the column of the targets.
        left_out: the names of columns left out because they number the rows.
        row_weights: the name of the column of the rows' weights, if there is one.
    """

    header: bool
    columns: tuple[str, ...]
    label: str
    left_out: tuple[str, ...] = ()
    row_weights: str | None = None

    @property
    def essence(self) -> tuple[bool | tuple[str, ...] | str, ...]:
        """What decides the numbers."""
        weights = () if self.row_weights is None else (self.row_weights,)
        return self.header, self.columns, self.label, *weights


@dataclass(frozen=True)
class Columns:
    """The columns of a CSV file.

    Attributes:
        names: of all.
        header: whether the file gave the names.
        label: the position of the label; None where it is not in the file.
        inputs: the positions of the columns to learn from, in the order of the features.
        left_out: the names of columns left out because they number the rows.
        weights: the position of the rows' weights, if there are any.
    """

    names: tuple[str, ...]
    header: bool
    label: int | None
    inputs: tuple[int, ...]
    left_out: tuple[str, ...] = ()
    weights: int | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns to learn from."""
        return tuple(self.names[i] for i in self.inputs)


def cell_number(text: str) -> float | None:
    """Return the number a cell holds, perhaps infinite or NaN, or None where it holds none."""
    if "_" in text:  # Python reads 2024_01 as a number; in a table it is a word
        return None
    try:
        return float(text)
    except ValueError:
        return None


def find_columns(
    file: str,
    rows: list[list[str]],
    label: str | None,
    chosen: Sequence[str] | None,
    header: bool | None = None,
    weights: str | None = None,
    *,
    exact: bool = False,
) -> Columns:
    """Return the columns of the file whose first rows are given.

    Args:
        file: its name, for messages.
        rows: the first of them, stripped of nothing, at least one.
        label: the name of the label column, its number from 1, ``first`` or ``last``; None is one
            that is called so, or the last.
        chosen: the columns to learn from, by name or number; None are all but the label and those
            that number the rows.
        header: whether the first row names the columns; None finds out.
        weights: the column of the rows' weights, by name or number; None where there is none.
        exact: whether ``label`` and ``columns`` are names and no numbers, as a run records them:
            a column called 3 need not be the third.

    Raises:
        DataError: there is no column of a given name, or several; or it cannot be told which is
            the label, or whether there is a header.
    """
    if header is None:
        header = _is_header(file, rows, (label, weights, *(chosen or ())))
    names = column_names(rows, header=header)
    body = rows[1:] if header else rows
    if len(names) < 2:
        raise DataError(
            f"{file}: only one column, but features and a label are needed; "
            "columns are separated by commas, semicolons or tabs"
        )
    picked = None
    if chosen is not None:
        picked = tuple(
            _position(file, names, header, "columns", each, exact=exact) for each in chosen
        )
        for i in picked:
            if picked.count(i) > 1:
                raise DataError(f"{file}: columns names {names[i]!r} twice; name it once")
    weighs = None
    if weights is not None:
        weighs = _position(file, names, header, "row_weights", weights, exact=exact)
    if label is None:
        position = _likely_label(file, names, body, picked or (), weighs)
    else:
        position = _position(file, names, header, "label", label, exact=exact)
    left_out: tuple[int, ...] = ()
    if picked is None:
        others = [i for i in range(len(names)) if i not in (position, weighs)]
        left_out = tuple(
            i
            for i in others
            if _is_index((rows[0] if header else names)[i], [r[i] for r in body if i < len(r)])
        )
        if len(left_out) == len(others):
            left_out = ()
        picked = tuple(i for i in others if i not in left_out)
    _check_apart(file, names, position, picked, weighs)
    for name in (names[i] for i in (*picked, position)):
        _check_single(file, names, name)
    return Columns(names, header, position, picked, tuple(names[i] for i in left_out), weighs)


def _check_apart(
    file: str, names: tuple[str, ...], label: int, features: tuple[int, ...], weights: int | None
) -> None:
    """Raise where a column would be two things, or none is left to learn from."""
    if label in features:
        raise DataError(
            f"{file}: columns={names[label]!r} is the label; leave it out, or name another "
            "column with --label"
        )
    if weights is not None and weights in (label, *features):
        what = "is the label" if weights == label else "is to be learnt from as well"
        raise DataError(
            f"{file}: row_weights={names[weights]!r} {what}; name another column with "
            f"--row-weights, or with --{'label' if weights == label else 'columns'}"
        )
    if weights is not None and not features:
        raise DataError(f"{file}: no column is left to learn from beside label and row weights")


def column_names(rows: list[list[str]], *, header: bool) -> tuple[str, ...]:
    """Return the names of the columns: those of the header, ``column 3`` where there is none."""
    given = [cell.strip() if header else "" for cell in rows[0]]
    return tuple(name or f"column {i + 1}" for i, name in enumerate(given))


def _is_header(file: str, rows: list[list[str]], named: Sequence[str | None]) -> bool:
    """Tell by the names that the user has given, among others."""
    first = [cell.strip() for cell in rows[0]]
    numeric = [cell_number(cell) is not None for cell in first]
    counted = [cell for cell, each in zip(first, numeric, strict=True) if each]
    counts = counted == [str(i) for i in range(len(counted))]
    if all(numeric):
        # two numbers from 0, or four from 1, may well be the values of a row
        from_one = first == [str(i + 1) for i in range(len(first))]
        few = (counts and len(first) == 2) or (from_one and len(first) > 3)
        years = not counts and _whole_above_fractions(rows)
        if len(rows) > 1 and (few or years):
            raise DataError(
                f"{file}: the first line, {','.join(first)}, may name the columns or be a row; "
                "give --header or --no-header"
            )
        return counts and len(first) > 2
    known = {*LABEL_NAMES, *(name.lower() for name in named if name)}
    if any(cell.lower() in known for cell in first) or not any(numeric):
        return True
    if len(rows) == 1:
        return False
    if numeric == [cell_number(cell) is not None for cell in rows[1]]:
        if not _stands_out(rows, numeric.index(False)):
            return False
        if not counts or len(counted) < 2:
            raise DataError(
                f"{file}: the first line, {','.join(first)}, may name the columns or be a row, as "
                f"no other row has {first[numeric.index(False)]!r}; give --header or --no-header"
            )
    if counts:
        return True
    at = numeric.index(False)
    raise DataError(
        f"{file}: line 1, column {at + 1}: {first[at]!r} is not a number, and {counted[0]} beside "
        "it is hardly a name; give --header if the line names the columns, --no-header if it is a "
        "row"
    )


def _whole_above_fractions(rows: list[list[str]]) -> bool:
    """Return whether whole numbers, such as years, stand above columns of fractions alone.

    One of the columns may hold whole numbers as well, as labels are.
    """
    first, *others = rows
    fractions = sum(all("." in row[i] for row in others if i < len(row)) for i in range(len(first)))
    whole = all(cell.strip().isdecimal() for cell in first)
    return whole and len(others) >= _FEW and fractions >= max(1, len(first) - 1)


def _stands_out(rows: list[list[str]], at: int) -> bool:
    """Return whether words of a column occur again and again, but not that of the first row."""
    first, *others = [row[at].strip() for row in rows if at < len(row)]
    return first not in others and 2 * len(set(others)) <= len(others)


def _is_index(name: str, cells: list[str]) -> bool:
    values = [cell.strip() for cell in cells]
    if name.strip().lower() not in _INDEX_NAMES or len(set(values)) < len(values):
        return False
    numbers = [cell_number(value) for value in values]
    return all(value is None or value.is_integer() for value in numbers) and bool(values)


def _likely_label(
    file: str,
    names: tuple[str, ...],
    body: list[list[str]],
    features: tuple[int, ...],
    weights: int | None,
) -> int:
    last = len(names) - 1 - (weights == len(names) - 1)
    named = [i for i, n in enumerate(names) if n.lower() in LABEL_NAMES and i not in features]
    certain = [i for i in named if names[i].lower() in CERTAIN_LABELS or _is_words(body, i)]
    if len(certain) == 1:
        return certain[0]
    if not named or last in (certain or named) or (not certain and _is_words(body, last)):
        return last
    first, other = (certain[0], certain[1]) if certain else (named[0], last)
    raise DataError(
        f"{file}: the label may be {names[first]!r}, by its name, or {names[other]!r}"
        f"{', the last column' * (other == last)}; say which with --label {names[first]} or "
        f"--label {names[other]}"
    )


def _is_words(body: list[list[str]], at: int) -> bool:
    cells = [row[at].strip() for row in body if at < len(row)]
    return any(cell and cell_number(cell) is None for cell in cells)


def _position(
    file: str, names: tuple[str, ...], header: bool, setting: str, name: str, *, exact: bool
) -> int:
    if name in names:
        _check_single(file, names, name)
        return names.index(name)
    if setting == "label" and name in ("first", "last") and not exact:
        return 0 if name == "first" else len(names) - 1
    if name.isdecimal() and not exact:
        if not 1 <= int(name) <= len(names):
            raise DataError(
                f"{file}: {setting}={name}: there is no such column; they count from 1 to "
                f"{len(names)}"
            )
        return int(name) - 1
    if not header and not exact:
        raise DataError(
            f"{file}: {setting}={name!r} names a column, but the file has no header line; "
            f"add one, or give its number from 1{', first or last' * (setting == 'label')}"
        )
    if not header:
        raise DataError(
            f"{file}: has {len(names)} columns and no header line, but the run's table had a "
            f"{name!r}; give all columns of that table, in their order"
        )
    use = " for the label" if setting == "label" else ""
    near = suggestion(name, names)
    has = ", ".join(map(repr, names[:_MOST_NAMES])) + ", …" * (len(names) > _MOST_NAMES)
    raise DataError(f"{file}: has no column {name!r}{use}{near or f'; it has {has}'}")


def _check_single(file: str, names: tuple[str, ...], name: str) -> None:
    if names.count(name) > 1:
        raise DataError(f"{file}: {names.count(name)} columns are called {name!r}; rename one")
