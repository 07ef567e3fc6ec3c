"""Any small table is predicted to the same answers as the training table, or refused by name."""

import functools
import gzip
import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from dptrain.cli.samples import read_table
from dptrain.data.csv_classes import class_number
from dptrain.data.csv_table import read_csv
from dptrain.data.raw import RawData
from dptrain.errors import DataError
from dptrain.experiment.defaults import settle
from dptrain.experiment.job import Job
from dptrain.experiment.job_data import opened_data, prepared_data
from dptrain.experiment.schema import Experiment
from dptrain.nn.network import Network
from dptrain.trained import TrainedNetwork

NAMES = ("height", "weight", "age", "1", "2", "petal width", "h, in cm", "Age")
KINDS = (
    ("rose", "iris", "lily"),
    ("0", "1", "2"),
    ("-1", "1"),
    ("2", "5"),
    ("0.0", "1.0"),
    ("True", "False"),
    ("a b", "a  b"),
)
ROWS = 12


@dataclass(frozen=True)
class Dress:
    """How a table is written down, which says nothing of its contents."""

    mark: str = ","
    ending: str = ".csv"
    end: str = "\n"
    quoted: bool = False
    begun: bytes = b""
    blank: str = ""  # before each cell but the first

    def _cell(self, cell: str) -> str:
        return f'"{cell}"' if self.quoted or self.mark in cell else cell

    def written(self, rows: list[tuple[str, ...]]) -> bytes:
        cells = [map(self._cell, row) for row in rows]
        lines = [(self.mark + self.blank).join(row) + self.end for row in cells]
        text = self.begun + "".join(lines).encode()
        return gzip.compress(text) if self.ending.endswith(".gz") else text


DRESSES = st.builds(
    Dress,
    mark=st.sampled_from(",;\t"),
    ending=st.sampled_from([".csv", ".tsv", ".CSV", ".csv.gz"]),
    end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    quoted=st.booleans(),
    begun=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    blank=st.sampled_from(["", " "]),
)


@dataclass(frozen=True)
class Table:
    """Cells by column; the label is one of the columns."""

    names: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]  # by row
    label: str
    header: bool

    def write(self, stem: Path, dress: Dress = Dress()) -> Path:
        rows = [self.names, *self.cells] if self.header else list(self.cells)
        path = stem.with_name(stem.name + dress.ending)
        path.write_bytes(dress.written(rows))
        return path

    def picked(self, order: list[int]) -> "Table":
        """Return some of the columns, in another order."""
        cells = tuple(tuple(row[i] for i in order) for row in self.cells)
        return replace(self, names=tuple(self.names[i] for i in order), cells=cells)

    def __contains__(self, name: str) -> bool:
        return name in self.names


@st.composite
def tables(draw: st.DrawFn) -> Table:
    features = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=4, unique=True))
    at = draw(st.integers(0, len(features)))
    kinds = draw(st.sampled_from(KINDS))
    numbers = st.integers(-99, 99).map(lambda v: f"{v / 8 + 0.0625}")
    rows = []
    for i in range(ROWS):
        row = [draw(numbers) for _ in features]
        row.insert(at, kinds[i % len(kinds)])
        rows.append(tuple(row))
    names = [*features[:at], "kind", *features[at:]]
    return Table(tuple(names), tuple(rows), "kind", draw(st.booleans()))


CHANGES = (
    "none", "shuffle", "misspell", "drop", "no label", "no header", "words", "beside",
    "renamed label", "twice", "case",
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, table: Table) -> tuple[Table, bool]:
    """Draw what becomes of a table, and whether it must be refused."""
    kind = draw(st.sampled_from(CHANGES))
    width = len(table.names)
    features = [i for i, name in enumerate(table.names) if name != table.label]
    if kind == "no label":
        return table.picked(features), False
    if kind == "words":
        row, column = draw(st.integers(0, ROWS - 1)), draw(st.sampled_from(features))
        cell = draw(st.sampled_from(["", "NA", "abc", "1_0", "nan", "inf", "1;5"]))
        cells = [list(each) for each in table.cells]
        cells[row][column] = cell
        return replace(table, cells=tuple(map(tuple, cells))), True
    if not table.header or kind == "none":  # without names, only the number of columns can be told
        return table, False
    if kind == "shuffle":
        return table.picked(draw(st.permutations(range(width)))), False
    if kind == "drop":
        gone = draw(st.sampled_from(features))
        return table.picked([i for i in range(width) if i != gone]), True
    if kind == "no header":
        with_label = draw(st.booleans())
        kept = table if with_label else table.picked(features)
        return replace(kept, header=False), with_label
    if kind == "beside":
        noted = tuple((f"note {i}", *row) for i, row in enumerate(table.cells))
        return replace(table, names=("notes", *table.names), cells=noted), False
    if kind == "renamed label":
        names = tuple("answer" if name == table.label else name for name in table.names)
        return replace(table, names=names), False
    wrong = draw(st.sampled_from(features))
    name = table.names[wrong]
    if kind == "twice":
        doubled = tuple((*row, row[wrong]) for row in table.cells)
        return replace(table, names=(*table.names, name), cells=doubled), True
    other = name.swapcase() if kind == "case" and name.swapcase() != name else name + "s"
    if other in table.names:
        return table, False
    names = tuple(other if i == wrong else each for i, each in enumerate(table.names))
    return replace(table, names=names), True


def learnt(table: Table, stem: Path) -> TrainedNetwork:
    """Return a linear network with weights drawn at random, as a run on the table has it."""
    label = table.label if table.header else str(table.names.index(table.label) + 1)
    given = Experiment(
        dataset=str(table.write(stem)), model="linear", init="he", label=label, test=0.0
    )
    opened = opened_data(given, prepared_data(given))
    settled = settle(given, 1, opened.classes, len(opened.train), opened.digest, 1, opened.form)
    job = Job(settled, opened)
    assert isinstance(job.network, Network)
    return TrainedNetwork(job.network, job.initial_parameters(), settled, opened.class_names)


counter = itertools.count()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


# Each example is a data set of its own, prepared on the disk.
@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(data=st.data(), table=tables(), dress=DRESSES)
def test_the_same_answers_or_a_refusal(
    data: st.DataObject, table: Table, dress: Dress, folder: Path
) -> None:
    stem = folder / f"{next(counter)}"
    network = learnt(table, stem)
    read = functools.partial(
        read_table, shape=network.network.input_shape, experiment=network.experiment
    )
    right = network.predict(read(stem.with_name(stem.name + ".csv")).features)
    later, refused = data.draw(changed(table))
    path = later.write(folder / "later", dress)
    if refused:
        with pytest.raises(DataError, match=re.escape(str(path))):
            read(path)
        with pytest.raises(DataError, match=re.escape(str(path))):
            evaluated(path, network)
        return
    found = read(path)
    np.testing.assert_array_equal(network.predict(found.features), right)
    if table.label in later.names and found.labels:
        assert found.labels == [row[table.names.index(table.label)] for row in table.cells]
    labelled = table.label in later.names if table.header else later.names == table.names
    if not labelled or later.header != table.header:
        with pytest.raises(DataError, match=re.escape(str(path))):
            evaluated(path, network)
        return
    data_set = evaluated(path, network)
    np.testing.assert_array_equal(network.predict(data_set.x_train), right)
    classes = [network.class_names[k] for k in data_set.t_train]
    words = [row[table.names.index(table.label)] for row in table.cells]
    assert [class_number(word, classes) is not None for word in words] == [True] * ROWS
    assert all(
        word == name or float(word) == float(name)
        for word, name in zip(words, classes, strict=True)
    )


def evaluated(path: Path, network: TrainedNetwork) -> RawData:
    """Read a table as a run that is evaluated on it does."""
    e = network.experiment
    return read_csv(path, e.label, e.columns, e.header, network.class_names, exact=True)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(data=st.data(), table=tables())
def test_classes_by_the_numbers_of_the_run_or_a_refusal(
    data: st.DataObject, table: Table, folder: Path
) -> None:
    first = read_csv(table.write(folder / "first"), *_said(table))
    names = first.class_names or tuple(map(str, range(int(first.t_train.max()) + 1)))
    rows = data.draw(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=8))
    later = replace(table, cells=tuple(table.cells[i] for i in rows))
    stranger = data.draw(st.sampled_from([None, "tulip", "-7", "0.5", "99"]))
    if stranger is not None:
        at = table.names.index(table.label)
        cells = [list(each) for each in later.cells]
        cells[-1][at] = stranger
        later = replace(later, cells=tuple(map(tuple, cells)))
        with pytest.raises(DataError, match=f"the label '{stranger}' is not a class of the run"):
            read_csv(later.write(folder / "second"), *_said(table), class_names=names)
        return
    found = read_csv(later.write(folder / "second"), *_said(table), class_names=names)
    np.testing.assert_array_equal(found.t_train, first.t_train[rows])
    assert found.class_names == names
    assert class_number(names[0], names) == 0


def _said(table: Table) -> tuple[str, None, bool]:
    label = table.label if table.header else str(table.names.index(table.label) + 1)
    return label, None, table.header
