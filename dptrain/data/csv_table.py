"""Read CSV files, plain or gzipped, with one label column and numbers in all the others."""

import array
import codecs
import contextlib
import csv
import io
import itertools
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dptrain.data.csv_cells import bad_cell
from dptrain.data.csv_classes import label_targets
from dptrain.data.csv_doubts import likely_weights, table_doubts
from dptrain.data.csv_header import Columns, TableForm, cell_number, find_columns
from dptrain.data.csv_labels import Labels, Lines
from dptrain.data.csv_match import match_columns
from dptrain.data.opening import opened
from dptrain.data.raw import RawData
from dptrain.data.spool import Room, Rows, Spool
from dptrain.data.targets import Task
from dptrain.errors import DataError

_Row = tuple[int, list[str]]  # the line on which the row ends, counting from 1, and its cells

# Header, label and index columns are told by so many rows: enough to see words among numbers.
_HEAD = 100


@dataclass(frozen=True)
class CsvTable:
    """A CSV file in memory, with its label column set apart.

    Attributes:
        features: float64 (rows, columns to learn from).
        labels: the label column's text, one a row; empty where the file has none.
        columns: what the file has.
    """

    features: NDArray[np.float64]
    labels: list[str]
    columns: Columns


@dataclass(frozen=True)
class _Read:
    """What was read of a file, which need not fit into memory.

    Attributes:
        features: as in `CsvTable`, perhaps in a file.
        labels: as in `CsvTable`.
        lines: of the rows.
        weights: of the rows, float64 (rows,); None where no column holds them.
    """

    features: Rows
    labels: Labels
    lines: Lines
    weights: NDArray[np.float64] | None


def table_form(
    path: Path,
    label: str | None,
    columns: Sequence[str] | None,
    header: bool | None = None,
    row_weights: str | None = None,
    *,
    exact: bool = False,
) -> TableForm:
    """Return how a file is understood, from its first rows; arguments and errors as `read_csv`."""
    file = str(path)
    with _rows(path) as rows:
        head = _head(file, rows)
        first = [cells for _, cells in head]
        found = find_columns(file, first, label, columns, header, row_weights, exact=exact)
    assert found.label is not None
    weights = None if found.weights is None else found.names[found.weights]
    return TableForm(
        found.header, found.features, found.names[found.label], found.left_out, weights
    )


def read_csv(
    path: Path,
    label: str | None,
    columns: Sequence[str] | None = None,
    header: bool | None = None,
    class_names: Sequence[str] = (),
    task: Task | None = None,
    row_weights: str | None = None,
    *,
    exact: bool = False,
    room: Room | None = None,
) -> RawData:
    """Return the rows as a training part: features float64 (rows, columns), targets and classes.

    Where there is ``room``, features of more than 8 MB are `FileRows` in a file there.

    ``label``, ``columns``, ``header``, ``row_weights`` and ``exact`` are those of `find_columns`.
    Labels of text become classes numbered in sorted order, which are named. Whole numbers become
    class labels, int64 (rows,), and other numbers regression targets, float64 (rows, 1).
    ``class_names`` are those of a run: labels are then numbered by them, and others are refused.
    ``task`` is that of `normalise_targets`.

    Raises DataError naming line and column of ragged rows, empty cells and cells that hold no
    finite number, or no weight.
    """
    file = str(path)
    with _rows(path) as rows:
        head = _head(file, rows)
        first = [cells for _, cells in head]
        found = find_columns(file, first, label, columns, header, row_weights, exact=exact)
        spool, labels = Spool(len(found.inputs), room), Labels(exact=bool(class_names))
        table = _table(file, head, rows, found, spool, labels, choosing=not exact)
    targets, names = label_targets(file, table.labels, table.lines, class_names, task)
    notes = table_doubts(table.features, table.labels, found.features)
    if columns is None:
        notes += likely_weights(found.features)
    # which do all that is asked of an array on the way to a prepared data set
    return RawData(
        cast(NDArray[Any], table.features),
        targets,
        class_names=names,
        input_names=found.features,
        notes=notes,
        w_train=table.weights,
    )


def read_samples_csv(
    path: Path,
    *,
    header: bool | None,
    columns: Sequence[str] | None,
    label: str | None,
    features: int,
) -> CsvTable:
    """Return the rows of a file that a run is to predict; arguments as `match_columns`.

    Raises:
        DataError: as `match_columns` and `read_csv`.
    """
    file = str(path)
    with _rows(path) as rows:
        head = _head(file, rows)
        found = match_columns(
            file,
            [cells for _, cells in head],
            header=header,
            columns=columns,
            label=label,
            features=features,
        )
        spool, labels = Spool(len(found.inputs), None), Labels(exact=True)
        table = _table(file, head, rows, found, spool, labels, learning=False, choosing=False)
    return CsvTable(np.asarray(table.features), list(table.labels), found)


@contextlib.contextmanager
def _rows(path: Path) -> Iterator[Iterator[_Row]]:
    """Yield the rows of a file that are not blank."""
    with opened(path) as (stream, _):
        # utf-8-sig, because spreadsheets begin their files with a byte order mark.
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        try:
            first = [text.readline(), text.readline()]
            yield _filled(str(path), itertools.chain(first, text), _delimiter(first))
        except UnicodeDecodeError as error:
            marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            encoding = "UTF-16" if error.object.startswith(marks) else "CP949"
            command = f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > utf8.csv"
            raise DataError(
                f"{path}: not a text file in UTF-8 ({error.reason}); save it as CSV UTF-8, or "
                f"convert it, as with {command}"
            ) from None


def _filled(file: str, lines: Iterable[str], delimiter: str) -> Iterator[_Row]:
    """Yield the rows that are not blank; a quote that is never closed would take all the others."""
    ended = False

    def ending() -> Iterator[str]:
        nonlocal ended
        yield from lines
        ended = True
        yield "\n"  # a blank row, unless it falls into a cell that is still open

    reader = csv.reader(ending(), delimiter=delimiter, skipinitialspace=True)
    first = 1

    def is_open() -> DataError:
        return DataError(
            f"{file}: line {first}: a quote is opened in the row that begins here, and never "
            "closed; close it, or write it twice within quotes"
        )

    try:
        for cells in reader:
            if len(cells) > 1 or any(cell.strip() for cell in cells):
                if ended:
                    raise is_open()
                yield reader.line_num, cells
            first = reader.line_num + 1
    except csv.Error as error:
        if reader.line_num > first:  # a cell of so many lines that it is too large
            raise is_open() from None
        raise DataError(f"{file}: line {reader.line_num}: {error}") from None


def _delimiter(lines: list[str]) -> str:
    """Return what separates the cells of the first lines: what there is most of in each of them.

    Of semicolons and as many commas semicolons, beside which commas may be decimal points.
    """
    bare = [re.sub('"[^"]*"', "", line) for line in lines if line.strip()] or [""]
    counts = {mark: [line.count(mark) for line in bare] for mark in "\t;,"}
    best = max(counts, key=lambda mark: (min(counts[mark]), counts[mark][0], sum(counts[mark])))
    return best if any(counts[best]) else ","


def _head(file: str, rows: Iterator[_Row]) -> list[_Row]:
    head = list(itertools.islice(rows, _HEAD))
    if not head:
        raise DataError(f"{file}: holds no rows")
    return head


def _table(
    file: str,
    head: list[_Row],
    rows: Iterator[_Row],
    columns: Columns,
    features: Spool,
    labels: Labels,
    *,
    learning: bool = True,
    choosing: bool,
) -> _Read:
    """Return all rows; ``learning`` says that each needs a label, ``choosing`` is of `bad_cell`."""
    rows = itertools.chain(head[1:] if columns.header else head, rows)
    lines, weights = _split(
        file, rows, columns, features, labels, learning=learning, choosing=choosing
    )
    if not lines:
        raise DataError(f"{file}: holds a header line, but no rows")
    matrix = features.rows(len(lines))
    if features.unusable is not None:
        row, column, value = features.unusable
        raise DataError(
            f"{file}: line {lines[row]}, column {columns.features[column]!r}: "
            f"{value} is not a finite number"
        )
    return _Read(matrix, labels, lines, weights)


def _split(
    file: str,
    rows: Iterator[_Row],
    columns: Columns,
    features: Spool,
    labels: Labels,
    *,
    learning: bool,
    choosing: bool,
) -> tuple[Lines, NDArray[np.float64] | None]:
    """Add all rows to features and labels; return their lines, and weights where they have any."""
    lines = Lines()
    weights = array.array("d")
    for line, cells in rows:
        if len(cells) != len(columns.names):
            # as R writes row names; a guess might be wrong and move every column by one
            short = columns.header and not lines and len(cells) == len(columns.names) + 1
            remedy = "; where the first cell names the row, begin the header with a comma"
            raise DataError(
                f"{file}: line {line} has {len(cells)} cells, but there are "
                f"{len(columns.names)} columns{remedy * short}"
            )
        if columns.label is not None:
            text = cells[columns.label].strip()
            if not text and learning:
                name = columns.names[columns.label]
                raise DataError(f"{file}: line {line}, column {name!r}: empty")
            labels.append(text)
        if columns.weights is not None:
            weights.append(_weight(file, line, cells, columns))
        lines.append(line)
        inputs = [cells[i] for i in columns.inputs]
        bad = "_" in "".join(inputs)  # float() takes 2024_01; a table's cell is not Python
        try:
            features.values.extend(map(float, inputs))
        except ValueError:
            bad = True
        if bad:
            others = (each for _, each in rows)
            raise bad_cell(file, line, cells, columns, others, choosing=choosing)
        if len(features.values) >= features.full:
            features.flush()
    return lines, np.array(weights) if weights else None


def _weight(file: str, line: int, cells: list[str], columns: Columns) -> float:
    assert columns.weights is not None
    cell = cells[columns.weights].strip()
    found = cell_number(cell)
    if found is None or not 0 <= found < math.inf:
        raise DataError(
            f"{file}: line {line}, column {columns.names[columns.weights]!r}: "
            f"{repr(cell) if cell else 'an empty cell'} is not a weight of a row, which is a "
            "finite number, 0 or more"
        )
    return found
