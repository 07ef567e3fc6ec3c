"""Read CSV files, plain or gzipped, with one label column and numbers in all the others."""

import array
import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dptrain.data.csv_header import Columns, find_columns, number
from dptrain.data.opening import opened
from dptrain.data.raw import RawData
from dptrain.errors import DataError

_Row = tuple[int, list[str]]  # the line on which the row ends, counting from 1, and its cells


@dataclass(frozen=True)
class Table:
    """A CSV file with its label column set apart.

    ``features``: float64 (rows, columns to learn from). ``labels``: the label column's text, one a
    row. ``lines``: the line of the file on which each row ends, counting from 1. ``names``: of the
    columns to learn from.
    """

    features: NDArray[np.float64]
    labels: list[str]
    lines: list[int]
    names: tuple[str, ...]


def read_csv(path: Path, label: str | None, columns: Sequence[str] | None = None) -> RawData:
    """Return the rows as a training part: features float64 (rows, columns), targets and classes.

    ``label`` is the name of the label column; without one it is a column called as in
    ``csv_header.LABEL_NAMES`` (in any case), otherwise the last. ``columns`` names those to learn
    from, in this order; by default all but the label. Labels of text become classes
    numbered in sorted order, which are named. Whole numbers become class labels, int64
    (rows,), and other numbers regression targets, float64 (rows, 1).

    Raises DataError naming line and column of ragged rows, empty cells and cells that hold no
    finite number.
    """
    file = str(path)
    with opened(path) as (stream, _):
        # utf-8-sig, because spreadsheets begin their files with a byte order mark.
        reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
        rows = ((reader.line_num, cells) for cells in reader if cells)
        try:
            table = _read_table(file, rows, label, columns)
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not a text file in UTF-8 ({error.reason})") from None
        except csv.Error as error:
            raise DataError(f"{file}: line {reader.line_num}: {error}") from None
    targets, names = _targets(file, table)
    return RawData(table.features, targets, class_names=names, input_names=table.names)


def _read_table(
    file: str, rows: Iterator[_Row], label: str | None, chosen: Sequence[str] | None
) -> Table:
    ahead = list(itertools.islice(rows, 2))
    if not ahead:
        raise DataError(f"{file}: holds no rows")
    columns = find_columns(file, [cells for _, cells in ahead], label, chosen)
    table = _split(file, itertools.chain(ahead[1:] if columns.header else ahead, rows), columns)
    if not table.lines:
        raise DataError(f"{file}: holds a header line, but no rows")
    finite = np.isfinite(table.features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise DataError(
            f"{file}: line {table.lines[row]}, column {columns.features[column]!r}: "
            f"{table.features[row, column]} is not a finite number"
        )
    return table


def _split(file: str, rows: Iterable[_Row], columns: Columns) -> Table:
    features = array.array("d")
    labels: list[str] = []
    lines: list[int] = []
    for line, cells in rows:
        if len(cells) != len(columns.names):
            raise DataError(
                f"{file}: line {line} has {len(cells)} cells, but there are "
                f"{len(columns.names)} columns"
            )
        text = cells[columns.label].strip()
        if not text:
            raise DataError(f"{file}: line {line}, column {columns.names[columns.label]!r}: empty")
        labels.append(text)
        lines.append(line)
        inputs = [cells[i] for i in columns.inputs]
        try:
            features.extend(map(float, inputs))
        except ValueError:
            raise _not_a_number(file, line, inputs, columns) from None
        if "_" in "".join(inputs):  # float() takes 2024_01; a table's cell is not Python
            raise _not_a_number(file, line, inputs, columns)
    matrix = np.frombuffer(features).reshape(len(lines), len(columns.inputs))
    return Table(matrix, labels, lines, columns.features)


def _not_a_number(file: str, line: int, cells: list[str], columns: Columns) -> DataError:
    name, cell = next(
        (name, cell)
        for name, cell in zip(columns.features, cells, strict=True)
        if number(cell) is None
    )
    problem = f"{cell!r} is not a number" if cell.strip() else "empty"
    return DataError(
        f"{file}: line {line}, column {name!r}: {problem}; mend it, or name the columns to learn "
        "from with --columns"
    )


def _targets(file: str, table: Table) -> tuple[NDArray[Any], tuple[str, ...]]:
    values = [number(label) for label in table.labels]
    numbers = [value for value in values if value is not None]
    whole = all(value.is_integer() for value in numbers)
    if len(numbers) == len(values):
        return _numeric_targets(file, np.array(numbers), table.lines, whole), ()
    if not whole:
        at = values.index(None)
        raise DataError(
            f"{file}: line {table.lines[at]}: the label {table.labels[at]!r} is text, while other "
            "labels are fractions; either name classes or give numbers to predict"
        )
    names = sorted(set(table.labels))
    number_of = {name: index for index, name in enumerate(names)}
    return np.array([number_of[label] for label in table.labels], np.int64), tuple(names)


def _numeric_targets(
    file: str, values: NDArray[np.float64], lines: list[int], whole: bool
) -> NDArray[Any]:
    usable = np.isfinite(values) if not whole else np.abs(values) < 2**53
    if not usable.all():
        at = int(np.argmin(usable))
        problem = "is too large for a class" if whole else "is not a finite number"
        raise DataError(f"{file}: line {lines[at]}: the label {values[at]} {problem}")
    return values.astype(np.int64) if whole else values[:, np.newaxis]
