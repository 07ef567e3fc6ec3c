"""Data sets that do not fit into memory are told of before they are read, with sizes."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dptrain.cli.__main__ import main
from dptrain.data import prepared
from dptrain.data.needed import memory_needed
from dptrain.data.prepared import prepare, prepare_arrays
from dptrain.data.source import find_source
from dptrain.errors import ResourceError

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
