"""Data sets larger than memory: tables are read in pieces, others told of before they are read."""

import gzip
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dptrain.cli.__main__ import main
from dptrain.data import csv_labels, npz, prepared, spool
from dptrain.data.dataset import open_dataset
from dptrain.data.memory_needed import memory_needed
from dptrain.data.prepared import prepare, prepare_arrays
from dptrain.data.source import ReadChoices, find_source
from dptrain.errors import DataError, ResourceError

ROWS, COLUMNS = 20_000, 12


Make = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def new_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is read anew."""
    monkeypatch.setenv("DPTRAIN_CACHE", str(tmp_path / "cache"))


def table(path: Path) -> Path:
    values = np.random.default_rng(0).standard_normal((ROWS, COLUMNS))
    lines = [",".join([*map("{:.4f}".format, row), str(int(row[0] > 0))]) for row in values]
    header = ",".join([*(f"c{i}" for i in range(COLUMNS)), "label"])
    text = "\n".join([header, *lines, ""])
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def archive(path: Path) -> Path:
    np.savez_compressed(path, x_train=np.zeros((ROWS, COLUMNS)), t_train=np.arange(ROWS) % 2)
    return path


SOURCES = pytest.mark.parametrize(
    ("name", "make"), [("a.csv", table), ("a.csv.gz", table), ("a.npz", archive)]
)


@SOURCES
def test_what_is_needed_is_not_far_from_what_is_taken(
    name: str, make: Make, tmp_path: Path
) -> None:
    path = make(tmp_path / name)
    needed = memory_needed(find_source(str(path)))
    tracemalloc.start()
    prepare(str(path), dtype="float32")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.4 * peak < needed < peak


@SOURCES
def test_too_little_is_told_before(
    name: str,
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = make(tmp_path / name)
    monkeypatch.setattr(prepared, "available_memory", lambda: 1_000_000)
    assert main(["train", "--dataset", str(path), "--model", "linear", "--workers", "1"]) == 1
    told = capsys.readouterr().err
    assert f"{path}: reading it takes " in told
    assert " MB of memory or more, but 1 MB are free; take part of its rows" in told
    assert "Traceback" not in told


def test_too_little_on_the_way_is_the_same_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    path = table(tmp_path / "a.csv")
    monkeypatch.setattr(prepared, "write_folder", fails)
    with pytest.raises(ResourceError, match=r"reading it takes 3 MB .* MB are free; take part"):
        prepare(str(path), dtype="float32")


@pytest.mark.parametrize("part", [slice(None), slice(0, 60)], ids=["whole", "part of the columns"])
def test_a_mapped_array_is_never_whole_in_memory(part: slice, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((120_000, 120), np.float32))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")[:, part]
    tracemalloc.start()
    prepare_arrays(
        tmp_path / "data", x_train=x, t_train=np.arange(len(x)) % 2, dtype="float32", task=None
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.7 * x.nbytes


def rows_of(kind: str) -> list[str]:
    """Return 900 rows and a header: classes, words, or numbers to predict."""
    random = np.random.default_rng(1)
    x = random.standard_normal((900, 3))
    labels = [
        {
            "classes": str(i % 3),
            "words": ["dog", "cat", "emu"][i % 3],
            "signs": str(2 * (i % 2) - 1),
            "prices": f"{1e5 + 1e4 * x[i, 0]:.2f}",
            "whole prices": str(round(1e5 + 1e4 * x[i, 0])),
        }[kind]
        for i in range(900)
    ]
    when = [f"{1.7e9 + i * i % 777:.1f}" for i in range(900)]
    lines = [
        f"{i},{when[i]},{x[i, 0]:.17g},{x[i, 1]:.3f},{i % 3 + 7},{labels[i]}" for i in range(900)
    ]
    return ["nr,when,a,b,twin,label", *lines]


KINDS = ("classes", "words", "signs", "prices", "whole prices")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows fill the memory."""
    monkeypatch.setattr(spool, "IN_MEMORY", 64)
    monkeypatch.setattr(npz, "IN_MEMORY", 64)
    monkeypatch.setattr(csv_labels, "MOST", 10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_in_pieces_is_prepared_to_the_same_bytes(
    kind: str, dtype: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("monkeypatch").setattr(spool, "PIECE", 41)
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows_of(kind)))
    task: Any = "regression" if kind == "whole prices" else None
    whole = prepare(str(path), ReadChoices(task=task), dtype=dtype)
    contents = {each.name: each.read_bytes() for each in whole.iterdir()}
    shutil.rmtree(whole)
    request.getfixturevalue("small_pieces")
    assert prepare(str(path), ReadChoices(task=task), dtype=dtype) == whole
    assert {each.name: each.read_bytes() for each in whole.iterdir()} == contents
    assert [each.name for each in whole.parent.iterdir()] == [whole.name]
    told = open_dataset(whole, validation=0, test=0, seed=0)
    assert told.notes[0].startswith("column 'nr' counts the rows")
    assert (len(told.notes) == 2) == (kind in ("classes", "words"))  # the twin
    assert bool(told.rounded) == (dtype == "float32")


DAMAGES = {
    "nan": ("nan", "line 503, column 'a': nan is not a finite number"),
    "infinite": ("inf", "line 503, column 'a': inf is not a finite number"),
    "a word": ("x", "line 503, column 'a': 'x' is not a number; mend it"),
    "a cell more": ("1,2", "line 503 has 7 cells, but there are 6 columns"),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.usefixtures("small_pieces")
def test_damage_far_behind_is_told_with_line_and_column(name: str, tmp_path: Path) -> None:
    cell, told = DAMAGES[name]
    rows = rows_of("prices")
    cells = rows[500].split(",")
    cells[2] = cell
    lines = [*rows[:100], "", "  ", *rows[100:500], ",".join(cells), *rows[501:]]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=told):
        prepare(str(tmp_path / "a.csv"), dtype="float32")


@pytest.mark.parametrize("column", [3, 5])
@pytest.mark.parametrize("pieces", [True, False])
def test_a_quote_that_is_never_closed_takes_no_rows(
    column: int, pieces: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In the label it made one class of all rows behind it."""
    if pieces:
        request.getfixturevalue("small_pieces")
    rows = rows_of("words")
    cells = rows[500].split(",")
    cells[column] = f'"{cells[column]}'
    rows[500] = ",".join(cells)
    path = tmp_path / "a.csv"
    path.write_text("\n".join(rows))
    for more in ([], ["1" * 200_000]):  # which is more than a cell may hold
        path.write_text("\n".join([*rows, *more]))
        with pytest.raises(DataError, match="line 501: a quote is opened in the row that b"):
            prepare(str(path), dtype="float32")
    cells[column] = f'{cells[column]}"'  # the same in quotes as without
    for mark in ("", "\n", "\r\n"):
        path.write_bytes(f"{chr(10).join([*rows[:500], ','.join(cells)])}{mark}".encode())
        t = np.load(prepare(str(path), dtype="float32") / "t_train.npy")
        assert np.array_equal(t, np.array([1, 0, 2])[np.arange(500) % 3])


LABELS = {
    "a word": ("x", "line 501: the label 'x' is text, while other labels are fractions"),
    "not finite": ("inf", "line 501: the label inf is not a finite number"),
    "empty": ("", "line 501, column 'label': empty"),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.usefixtures("small_pieces")
def test_labels_that_are_no_numbers_among_very_many(name: str, tmp_path: Path) -> None:
    label, told = LABELS[name]
    rows = rows_of("prices")
    rows[500] = f"{rows[500].rpartition(',')[0]},{label}"
    (tmp_path / "a.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=told):
        prepare(str(tmp_path / "a.csv"), dtype="float32")


@pytest.mark.usefixtures("small_pieces")
def test_classes_of_a_run_are_found_among_very_many_texts(tmp_path: Path) -> None:
    texts = [f"{i % 3}.{'0' * (i % 40)}" for i in range(900)]
    (tmp_path / "a.csv").write_text(
        "\n".join(["a,label", *(f"{i},{t}" for i, t in enumerate(texts))])
    )
    names = ("0", "1", "2")
    folder = prepare(
        str(tmp_path / "a.csv"), ReadChoices(label="label", class_names=names), dtype="float32"
    )
    assert np.array_equal(np.load(folder / "t_train.npy"), np.arange(900) % 3)


def test_a_large_table_is_never_whole_in_memory(tmp_path: Path) -> None:
    line = ",".join(["0.123456"] * 300)
    path = tmp_path / "a.csv"
    path.write_text("\n".join([",".join(f"c{i}" for i in range(300)), *[line] * 12_000]))
    tracemalloc.start()
    prepare(str(path), dtype="float32")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 30e6
    assert peak < 25e6


ARRAYS: dict[str, np.ndarray] = {
    "grey": np.arange(24_000, dtype=np.uint8).reshape(300, 8, 10),
    "float64": np.random.default_rng(2).standard_normal((300, 80)),
    "columns first": np.asfortranarray(np.random.default_rng(2).standard_normal((300, 80))),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ARRAYS)
def test_an_archive_in_pieces_is_prepared_to_the_same_bytes(
    name: str, packed: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path, save = tmp_path / "a.npz", np.savez_compressed if packed else np.savez
    save(path, x_train=ARRAYS[name], t_train=np.arange(300) % 7)
    whole = prepare(str(path), dtype="float32")
    contents = {each.name: each.read_bytes() for each in whole.iterdir()}
    shutil.rmtree(whole)
    request.getfixturevalue("small_pieces")
    assert prepare(str(path), dtype="float32") == whole
    assert {each.name: each.read_bytes() for each in whole.iterdir()} == contents
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"not an intact \.npz file"):
        prepare(str(path), dtype="float32")


def test_a_large_archive_is_never_whole_in_memory(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((60_000, 80))
    np.savez(tmp_path / "a.npz", x_train=x, t_train=np.arange(60_000) % 7)
    size = x.nbytes
    del x
    tracemalloc.start()
    prepare(str(tmp_path / "a.npz"), dtype="float32")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6 * size


@pytest.mark.usefixtures("small_pieces")
def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DPTRAIN_CACHE", str(tmp_path / "file" / "below"))
    (tmp_path / "a.csv").write_text("\n".join(rows_of("prices")))
    told = "the numbers on their way to .* cannot be kept there: Not a directory; free some space"
    with pytest.raises(DataError, match=told):
        prepare(str(tmp_path / "a.csv"), dtype="float32")
