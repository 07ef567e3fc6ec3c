"""References: the embedded data set, folders, .npz and CSV, and what is said of all others."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from dptrain.data.source import read_source
from dptrain.errors import DataError, UsageError
from tests.data.test_idx import idx_bytes

IMAGES = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
LABELS = np.array([0, 1, 2, 1], np.uint8)


def write_pair(folder: Path, part: str, style: str) -> None:
    dot = "." if "dot" in style else "-"
    for stem, code, values in (("images", "idx3", IMAGES), ("labels", "idx1", LABELS)):
        content = idx_bytes(values)
        name = f"{part}-{stem}{dot}{code}-ubyte"
        if "gz" in style:
            name, content = f"{name}.gz", gzip.compress(content)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("style", ["plain", "plain dot", "gz", "gz dot"])
@pytest.mark.parametrize("with_test", [True, False])
def test_a_folder_of_idx_files(style: str, with_test: bool, tmp_path: Path) -> None:
    write_pair(tmp_path, "train", style)
    if with_test:
        write_pair(tmp_path, "t10k", style)
    data = read_source(str(tmp_path), None)
    np.testing.assert_array_equal(data.x_train, IMAGES, strict=True)
    np.testing.assert_array_equal(data.t_train, LABELS, strict=True)
    if with_test:
        np.testing.assert_array_equal(data.x_test, IMAGES, strict=True)
        np.testing.assert_array_equal(data.t_test, LABELS, strict=True)
    else:
        assert data.x_test is None
        assert data.t_test is None


@pytest.mark.parametrize(
    ("removed", "problem"),
    [
        ("train-images-idx3-ubyte", "holds no train-images-idx3-ubyte or train-images-idx3-ubyte"),
        ("train-labels-idx1-ubyte", "holds no train-labels-idx1-ubyte"),
        ("t10k-labels-idx1-ubyte", "holds t10k-images-idx3-ubyte, but not the other"),
    ],
)
def test_an_incomplete_folder(removed: str, problem: str, tmp_path: Path) -> None:
    for part in ("train", "t10k"):
        write_pair(tmp_path, part, "plain")
    (tmp_path / removed).unlink()
    with pytest.raises(DataError, match=problem):
        read_source(str(tmp_path), None)


def test_files_are_told_by_the_ends_of_their_names(tmp_path: Path) -> None:
    with (tmp_path / "a.NPZ").open("wb") as file:
        np.savez(file, x_train=IMAGES, t_train=LABELS)
    (tmp_path / "b.csv").write_text("1,0\n2,1\n")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"x,kind\n1,cat\n2,dog\n"))
    assert read_source(str(tmp_path / "a.NPZ"), None).x_train.tolist() == IMAGES.tolist()
    assert read_source(str(tmp_path / "b.csv"), None).t_train.tolist() == [0, 1]
    assert read_source(str(tmp_path / "c.csv.gz"), "kind").class_names == ("cat", "dog")


def test_an_unknown_reference_lists_what_is_understood(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'mnits'; understood are: mnist, iris, .* a folder.*mean 'mnist'"
    ):
        read_source("mnits", None)
    (tmp_path / "iris.csv").write_text("1,0\n")
    with pytest.raises(DataError, match=r"did you mean 'iris\.csv'"):
        read_source(str(tmp_path / "iris.cvs"), None)
    with pytest.raises(DataError, match="no data set or file"):
        read_source(str(tmp_path / "none" / "iris.csv"), None)
    (tmp_path / "iris.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"iris.xlsx: a file of unknown kind; understood are"):
        read_source(str(tmp_path / "iris.xlsx"), None)


def test_references_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        read_source(str(tmp_path / ("x" * 300)), None)
    with pytest.raises(DataError, match="home directory"):
        read_source("~no-such-user-here/a.csv", None)
    with pytest.raises(DataError, match="no data set or file"):
        read_source("a\0b", None)


def test_a_label_needs_columns() -> None:
    with pytest.raises(UsageError, match=r"label='digit' is for a CSV, but.*'mnist'"):
        read_source("mnist", "digit")
